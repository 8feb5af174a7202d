"""Images that turn out to be unreadable while a run trains: another stands in, up to a number."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors import safe_open
from safetensors.torch import load_file

from bckd.datasets.batches import TrainingBatches
from bckd.image_size import ImageSize
from bckd.recipes import Recipe
from bckd.system.errors import InputError
from bckd.training.data import training_data, validation_data
from bckd.training.live_report import run_report
from bckd.training.run_log import read_log
from bckd.training.trainer import train
from bckd.zoo.unfinished import STATE, STUDENT
from tests.processes import start_processes


def damage(path: Path) -> None:
    """Spoil the pixels of an image; its head and its end, which are looked at first, stay."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


@pytest.fixture
def recipe(tiny_recipe: Recipe, tmp_path: Path) -> Recipe:
    """A run whose first state comes late, on images of its own."""
    root = tmp_path / "scenes"
    shutil.copytree(tiny_recipe.data.root, root)
    data = replace(tiny_recipe.data, root=root, cache=False, workers=1)
    return replace(tiny_recipe, data=data, checkpoint_every=100)


def images_of(recipe: Recipe) -> list[Path]:
    return sorted((recipe.data.root / "train").glob("*.png"))


def logged(recipe: Recipe) -> list[str]:
    return [why for line in read_log(recipe.out) for why in line.get("unreadable", ())]


@pytest.mark.parametrize("multi_scale", [None, (20, 32)])
def test_another_stands_in_and_it_is_told_once(
    recipe: Recipe, multi_scale: tuple[int, int] | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """24 images, and 6 steps of 4: each is drawn once; also where all are drawn smaller."""
    recipe = replace(recipe, data=replace(recipe.data, multi_scale=multi_scale))
    spoilt = images_of(recipe)[5]
    damage(spoilt)
    train(replace(recipe, steps=12), progress=False)
    (why,) = logged(recipe)
    assert str(spoilt) in why and "cannot be decoded" in why
    (line,) = [x for x in capsys.readouterr().out.splitlines() if "stands in" in x]
    assert str(spoilt) in line and "1 of at most 10 (--data.unreadable)" in line
    assert '<span class="dim">unreadable images</span><b>1</b>' in run_report(recipe.out).replace(
        "class=dim", 'class="dim"'
    )


def _process(rank: int, folder: Path, recipe: Recipe) -> None:
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    train(recipe, progress=False)
    dist.destroy_process_group()


def test_the_log_names_those_of_every_process(recipe: Recipe, tmp_path: Path) -> None:
    """Each draws half of the 24 images of an epoch."""
    recipe = replace(recipe, log_every=4, data=replace(recipe.data, workers=0))
    names = [path.name for path in images_of(recipe)]
    for path in images_of(recipe)[::4]:
        damage(path)
    start_processes(_process, (tmp_path, recipe), 2)
    assert len(logged(recipe)) == len(names[::4])
    assert all(any(name in why for why in logged(recipe)) for name in names[::4])


def test_what_stands_in_does_not_depend_on_who_loads(recipe: Recipe) -> None:
    damage(images_of(recipe)[5])
    ends = []
    for workers in (0, 2):
        out = recipe.out / str(workers)
        train(replace(recipe, out=out, data=replace(recipe.data, workers=workers)), progress=False)
        ends.append(load_file(out / STUDENT))
    assert all(torch.equal(ends[0][name], value) for name, value in ends[1].items())


@pytest.mark.parametrize("most", [0, 2])
def test_one_more_than_may_be_stops_the_run_in_order(recipe: Recipe, most: int) -> None:
    """Whatever was learnt before is saved, and a mended data set goes on from there."""
    whole = {path: path.read_bytes() for path in images_of(recipe)}
    recipe = replace(recipe, steps=40, data=replace(recipe.data, unreadable=most))
    drawn_late = _drawn_after(recipe, 2)
    for path in drawn_late[: most + 1]:
        damage(path)
    with pytest.raises(InputError) as caught:
        train(recipe, progress=False)
    assert str(drawn_late[0]) in str(caught.value)
    if most:
        assert "3 images turned out to be unreadable" in str(caught.value)
        assert "expected 2 at most (--data.unreadable)" in str(caught.value)
    with safe_open(recipe.out / STATE, "pt") as file:
        assert int(file.metadata()["step"]) >= 2
    for path, content in whole.items():
        path.write_bytes(content)
    train(replace(recipe, steps=40), resume=True, progress=False)
    assert (recipe.out / STUDENT).exists()


def _drawn_after(recipe: Recipe, steps: int) -> list[Path]:
    """The images that the first epoch does not draw in its first steps, in the order drawn."""
    dataset = training_data(recipe.data, recipe.seed)
    order = TrainingBatches(dataset.images, recipe.batch_size, recipe.seed, steps, 6)
    return [dataset.folder / dataset.images[key[1]].file_name for keys in order for key in keys]


def test_an_image_that_is_gone_while_it_trains(recipe: Recipe) -> None:
    dataset = training_data(recipe.data, recipe.seed)
    (dataset.folder / dataset.images[3].file_name).unlink()
    sample = dataset[0, 3]
    assert sample.index != 3 and "does not exist" in sample.unreadable[0]


def test_what_stands_in_fits_the_canvas(mixed_root: Path, tiny_recipe: Recipe) -> None:
    size = ImageSize(short_side=128, long_side=256)
    data = replace(tiny_recipe.data, root=mixed_root, size=size)
    dataset = training_data(data, 0)
    assert len({dataset.canvas(index) for index in range(len(dataset))}) > 4
    for index in range(len(dataset)):
        rows, columns = dataset.canvas(index)
        for other in dataset._stand_ins(index, None, None):
            height, width = dataset.canvas(other)
            assert other != index and height <= rows and width <= columns


def test_an_image_to_evaluate_on_has_no_stand_in(recipe: Recipe) -> None:
    """AP would be that of other images."""
    damage(sorted((recipe.data.root / "val").glob("*.png"))[0])
    with pytest.raises(InputError, match="cannot be decoded"):
        validation_data(recipe.data)[0, 0]


def test_an_error_of_an_augmentation_is_none_of_an_image(recipe: Recipe, tmp_path: Path) -> None:
    source = tmp_path / "wrong.py"
    source.write_text("def wrong(image, boxes, rng):\n    return image, boxes[:0]\n")
    data = replace(recipe.data, augmentations=(f"{source}:wrong",), workers=0)
    with pytest.raises(InputError, match="wrong"):
        train(replace(recipe, data=data), progress=False)
    assert logged(recipe) == []
