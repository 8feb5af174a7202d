"""Augmentations of one's own: what they see, what may come back, and on what they depend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from bckd.datasets.annotations import Objects
from bckd.datasets.augmentations import Augmentation, augment
from bckd.datasets.coco import Key
from bckd.recipes import DataConfig, Recipe
from bckd.system.errors import InputError
from bckd.teachers.targets import TeacherTargets
from bckd.training.data import training_data
from bckd.training.run_contents import contents_of
from bckd.training.teacher import make_teaching

IMAGE = torch.arange(3 * 20 * 30, dtype=torch.uint8).reshape(3, 20, 30)
BOXES = torch.tensor([[2.0, 3, 12, 13], [20, 4, 28, 18]])


def objects() -> Objects:
    return Objects(BOXES.clone(), torch.tensor([5, 7]), torch.tensor([False, True]))


def apply(*augmentations: Augmentation, key: int = 0) -> tuple[Tensor, Objects]:
    return augment(IMAGE.clone(), objects(), augmentations, (0, key))


def darker(image: Tensor, boxes: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    return (image * rng.uniform(0.2, 0.8)).to(torch.uint8), boxes


def left_half(image: Tensor, boxes: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    return image[:, :, :15], boxes


def test_in_their_order() -> None:
    image, found = apply(darker, left_half)
    assert image.shape == (3, 20, 15) and (image <= IMAGE[:, :, :15]).all()
    assert found.boxes.tolist() == [[2, 3, 12, 13]]  # the other one is out of the picture
    assert found.labels.tolist() == [5] and found.crowd.tolist() == [False]


def test_a_box_is_cut_at_the_border() -> None:
    def shift(image: Tensor, boxes: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        return image, boxes + torch.tensor([5.0, -4, 5, -4])

    assert apply(shift)[1].boxes.tolist() == [[7, 0, 17, 9], [25, 0, 30, 14]]


def test_by_key_alone() -> None:
    once, again, other = (apply(darker, key=key)[0] for key in (1, 1, 2))
    assert torch.equal(once, again) and not torch.equal(once, other)


class TestTransforms:
    """torchvision's."""

    def test_boxes_follow(self) -> None:
        image, found = apply(v2.RandomHorizontalFlip(p=1))
        assert torch.equal(image, IMAGE.flip(-1))
        assert found.boxes.tolist() == [[18, 3, 28, 13], [2, 4, 10, 18]]
        assert found.labels.tolist() == [5, 7] and found.crowd.tolist() == [False, True]

    def test_boxes_that_it_drops(self) -> None:
        drop = v2.Compose([v2.CenterCrop((20, 14)), v2.SanitizeBoundingBoxes(min_size=3)])
        image, found = apply(drop)
        assert image.shape == (3, 20, 14)
        assert found.labels.tolist() == [5] and found.boxes.tolist() == [[0, 3, 4, 13]]

    def test_by_key_alone_and_leaving_other_randomness_alone(self) -> None:
        jitter = v2.ColorJitter(0.5, 0.5, 0.5)
        torch.manual_seed(3)
        before = torch.random.get_rng_state()
        once, again, other = (apply(jitter, key=key)[0] for key in (1, 1, 2))
        assert torch.equal(once, again) and not torch.equal(once, other)
        assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        (lambda image, boxes: (image.float(), boxes), "no image"),
        (lambda image, boxes: (image[0], boxes), "no image"),
        (lambda image, boxes: (image.repeat(1, 2, 1), boxes), r"\(3, 40, 30\) of one \(3, 20, 30"),
        (lambda image, boxes: (image, boxes[:1]), r"boxes \(1, 4\); expected \(2, 4\)"),
        (lambda image, boxes: (image, boxes.tolist()), "boxes list"),
    ],
)
def test_what_may_not_come_back(
    result: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], sentence: str
) -> None:
    def strange(image: Tensor, boxes: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        return result(image, boxes)

    with pytest.raises(InputError, match="augmentation strange .*" + sentence):
        apply(strange)


class TestInTraining:
    @pytest.fixture
    def data(self, tiny_recipe: Recipe, tmp_path: Path) -> DataConfig:
        source = tmp_path / f"{tmp_path.name}.py"  # a process keeps what it has loaded
        source.write_text(
            "from torchvision.transforms import v2\n"
            "invert = v2.RandomInvert(p=1)\n"
            "def half(image, boxes, rng):\n"
            "    return image // 2, boxes\n"
        )
        names = tuple(f"{source}:{name}" for name in ("invert", "half"))
        return replace(tiny_recipe.data, augmentations=names, cache=True)

    def test_of_a_samples_epoch_alone(self, data: DataConfig) -> None:
        plain = training_data(replace(data, augmentations=()), 0)
        augmented = training_data(data, 0)
        assert torch.equal(augmented.sample(0, False).image, plain.sample(0, False).image)
        assert torch.equal(augmented.batch([0]).images, plain.batch([0]).images)
        found = augmented[Key(0, 0)]
        assert torch.equal(found.image, (255 - plain[Key(0, 0)].image) // 2)
        assert torch.equal(found.boxes, plain[Key(0, 0)].boxes)

    def test_stored_answers_would_belong_to_the_plain_image(
        self, data: DataConfig, tiny_recipe: Recipe, tiny_teacher: Path
    ) -> None:
        recipe = replace(tiny_recipe, data=data, teacher=tiny_teacher)
        dataset = training_data(data, 0)
        teaching = make_teaching(recipe, dataset, torch.device("cpu"), progress=False)
        assert not isinstance(teaching, TeacherTargets)
        plain = training_data(replace(data, augmentations=()), 0)
        teaching = make_teaching(recipe, plain, torch.device("cpu"), progress=False)
        assert isinstance(teaching, TeacherTargets)
        with pytest.raises(ValueError, match="at most flipped"):
            TeacherTargets(torch.nn.Identity(), dataset)

    def test_its_file_is_part_of_what_may_not_change(
        self, data: DataConfig, tiny_recipe: Recipe, tmp_path: Path
    ) -> None:
        recipe = replace(tiny_recipe, data=data)
        before = contents_of(recipe)
        assert {f"data.augmentations {text}" for text in data.augmentations} < set(before)
        source = tmp_path / f"{tmp_path.name}.py"
        source.write_text(source.read_text().replace("// 2", "// 3"))
        after = contents_of(recipe)
        changed = {name for name in before if before[name] != after[name]}
        assert changed == {f"data.augmentations {text}" for text in data.augmentations}

    def test_what_names_none(self, data: DataConfig, tmp_path: Path) -> None:
        wrong = replace(data, augmentations=(f"{tmp_path / tmp_path.name}.py:blur",))
        with pytest.raises(InputError, match="data.augmentations has .* no function or class"):
            training_data(wrong, 0)
