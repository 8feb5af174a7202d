"""The embedded scenes: determinism, annotations, class statistics, writing."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from bckd.datasets import scene_drawing, scene_painting, scenes
from bckd.datasets.scene_drawing import (
    IMAGE_SIZE,
    MAX_OBJECTS,
    TAIL_RATIO,
    class_frequencies,
    class_names,
    describe_scene,
    draw_scene,
    unit_shape,
)
from bckd.datasets.scene_painting import Polygon, picture_of, shape_of
from bckd.datasets.scenes import write_scenes
from bckd.system.errors import InputError
from bckd.system.files import one_maker


def write_few(root: Path, **changes: object) -> None:
    arguments = {"train": 3, "val": 2, "seed": 7, "progress": False} | changes
    write_scenes(root, **arguments)


def contents(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def annotations_of(root: Path, name: str) -> dict[str, list[dict[str, object]]]:
    return json.loads((root / "annotations" / f"instances_{name}.json").read_text())


@pytest.fixture(scope="module")
def standard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "scenes"
    write_few(root)
    return root


@pytest.fixture(scope="module")
def drawn() -> list[tuple[np.ndarray, list[scene_drawing.SceneObject]]]:
    return [draw_scene(0, index) for index in range(40)]


@pytest.mark.parametrize("variant", ["standard", "twelve"])
def test_scene_is_a_function_of_its_arguments(variant: scene_drawing.Variant) -> None:
    picture, objects = draw_scene(3, 5, "val", variant)
    again, objects_again = draw_scene(3, 5, "val", variant)
    assert picture.shape == (IMAGE_SIZE, IMAGE_SIZE, 3)
    assert picture.dtype == np.uint8
    assert np.array_equal(picture, again)
    assert objects == objects_again


def test_a_description_holds_every_choice() -> None:
    for index in range(6):
        scene = describe_scene(3, index, "val")
        picture, objects = draw_scene(3, index, "val")
        assert np.array_equal(picture_of(scene), picture)
        labels = [layer.label for layer in scene.layers if layer.label is not None]
        assert labels == [item.label for item in objects]


@pytest.mark.parametrize(
    "other", [(4, 5, "val", "standard"), (3, 6, "val", "standard"), (3, 5, "train", "standard")]
)
def test_seed_index_and_split_each_change_the_scene(other: tuple) -> None:
    picture, objects = draw_scene(3, 5, "val", "standard")
    other_picture, other_objects = draw_scene(*other)
    assert not np.array_equal(picture, other_picture)
    assert objects != other_objects


def test_boxes_lie_inside_and_hold_the_seen_pixels(drawn: list) -> None:
    for _, objects in drawn:
        assert 1 <= len(objects) <= MAX_OBJECTS
        for item in objects:
            x1, y1, x2, y2 = item.box
            assert 0 <= x1 < x2 <= IMAGE_SIZE
            assert 0 <= y1 < y2 <= IMAGE_SIZE
            # A pixel counts by its centre, so the count may pass the box by its border.
            assert 0 < item.area <= (x2 - x1 + 1) * (y2 - y1 + 1)


def test_box_is_tight_around_the_painted_shape() -> None:
    rng = np.random.default_rng(0)
    for outline in ("square", "circle", "triangle", "pentagon", "star", "cross"):
        for _ in range(10):
            points = scene_drawing._object_points(rng, outline)
            shape = shape_of(Polygon(points))
            rows, columns = np.nonzero(scene_drawing._mask(shape.window, shape.distance))
            painted = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            box = np.clip([points.min(axis=0), points.max(axis=0)], 0, IMAGE_SIZE).ravel()
            # Sharp corners reach further than the last pixel whose centre is inside.
            assert np.abs(np.array(painted) - box).max() < 3.0
            assert np.all(box[:2] <= np.array(painted[:2]) + 0.5)
            assert np.all(box[2:] >= np.array(painted[2:]) - 0.5)


def test_unit_shapes_are_even_and_about_one_wide() -> None:
    for label, name in enumerate(class_names("twelve")):
        shape = unit_shape(label, "twelve")
        assert (shape.hole is not None) == name.endswith(" ring")
        lengths = np.linalg.norm(np.roll(shape.points, -1, axis=0) - shape.points, axis=1)
        assert len(np.unique(lengths.round(6))) <= 2  # a cross has two
        assert 0.9 <= np.ptp(shape.points, axis=0).max() <= 1.3


def test_hole_lies_inside_the_outline_and_is_seen() -> None:
    rng = np.random.default_rng(1)
    shapes = [
        shape_of(Polygon(scene_drawing._object_points(rng, outline), 0.5))
        for outline in ("square", "circle", "triangle", "star")
        for _ in range(10)
    ]
    rings = [shape for shape in shapes if shape is not None]
    assert len(rings) > 20
    for ring in rings:
        hole = scene_drawing._mask(ring.window, ring.hole)
        assert hole.sum() >= 9
        assert not (hole & scene_drawing._mask(ring.window, ring.distance)).any()


def test_an_object_is_never_mostly_hidden() -> None:
    for seed in range(3):
        rng = np.random.default_rng(seed)
        scene = scene_drawing._Scene(rng, scene_drawing._background(rng), light=0.0)
        for _ in range(40):
            points = scene_drawing._object_points(rng, "circle")
            scene.add(Polygon(points), 0)
        shares = [seen.sum() / full for seen, full in scene.guarded]
        assert 1 < len(shares) < 40
        assert min(shares) >= scene_drawing.MIN_VISIBLE


@pytest.mark.parametrize(("variant", "count"), [("standard", 6), ("twelve", 12)])
def test_classes_are_outlines_times_solid_and_ring(
    variant: scene_drawing.Variant, count: int
) -> None:
    names = class_names(variant)
    assert len(set(names)) == count
    solids = {name for name in names if not name.endswith(" ring")}
    assert {f"{name} ring" for name in solids} == set(names) - solids
    frequencies = class_frequencies(variant)
    assert frequencies.sum() == pytest.approx(1.0)
    assert np.all(np.diff(frequencies) < 0)
    assert frequencies[0] / frequencies[-1] == pytest.approx(TAIL_RATIO)


def test_drawn_classes_follow_the_declared_frequencies(drawn: list) -> None:
    labels = [item.label for _, objects in drawn for item in objects]
    counts = np.bincount(labels, minlength=6)
    expected = class_frequencies() * counts.sum()
    # Placement drops few objects; five standard deviations of a Poisson count are ample.
    assert np.all(np.abs(counts - expected) < 5 * np.sqrt(expected))
    assert counts[:2].sum() > 2 * counts[4:].sum()


def test_colour_says_nothing_of_the_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean colour of the painted pixels is alike for every class."""
    colours: dict[int, list[np.ndarray]] = {label: [] for label in range(6)}
    annotate = scene_drawing._Scene._annotate

    def record(
        scene: scene_drawing._Scene, label: int, points: np.ndarray, shape: scene_painting.Shape
    ) -> None:
        annotate(scene, label, points, shape)
        mask = scene_drawing._mask(shape.window, shape.distance)
        colours[label].append(scene.canvas[:, mask].mean(axis=1))

    monkeypatch.setattr(scene_drawing._Scene, "_annotate", record)
    for index in range(50):
        draw_scene(11, index)
    everything = np.concatenate([np.array(rows) for rows in colours.values()])
    for rows in colours.values():
        error = everything.std(axis=0) / np.sqrt(len(rows))
        assert len(rows) >= 5
        assert np.all(np.abs(np.mean(rows, axis=0) - everything.mean(axis=0)) < 4 * error)


def test_layout_and_pixels(standard: Path) -> None:
    names = set(contents(standard))
    annotations = {
        f"annotations/instances_{split}{labels}.json"
        for split in ("train", "val")
        for labels in ("", "_one", "_four")
    }
    images = {f"train/{i:06d}.png" for i in (1, 2, 3)} | {f"val/{i:06d}.png" for i in (1, 2)}
    assert names == annotations | images | {"scenes.json"}
    with Image.open(standard / "val" / "000002.png") as image:
        assert np.array_equal(np.asarray(image), draw_scene(7, 1, "val")[0])


def test_pycocotools_reads_the_annotations(standard: Path) -> None:
    coco = COCO(str(standard / "annotations" / "instances_train.json"))
    categories = coco.loadCats(coco.getCatIds())
    assert [category["name"] for category in categories] == list(class_names())
    assert coco.getImgIds() == [1, 2, 3]
    for image_id in coco.getImgIds():
        objects = draw_scene(7, image_id - 1)[1]
        rows = coco.loadAnns(coco.getAnnIds(imgIds=image_id))
        assert [row["category_id"] - 1 for row in rows] == [item.label for item in objects]
        for row, item in zip(rows, objects, strict=True):
            x, y, width, height = row["bbox"]
            assert (x, y, x + width, y + height) == pytest.approx(item.box, abs=1e-6)
            assert row["area"] == item.area
            assert row["iscrowd"] == 0


@pytest.mark.parametrize("split", ["train", "val"])
def test_one_class_annotations_differ_in_the_category_alone(standard: Path, split: str) -> None:
    six, one = annotations_of(standard, split), annotations_of(standard, f"{split}_one")
    assert one["categories"] == [{"id": 1, "name": "object"}]
    assert six["images"] == one["images"]
    assert [row | {"category_id": 1} for row in six["annotations"]] == one["annotations"]


@pytest.mark.parametrize("split", ["train", "val"])
def test_four_class_annotations_leave_out_the_other_two(default_scenes: Path, split: str) -> None:
    six = annotations_of(default_scenes, split)
    four = annotations_of(default_scenes, f"{split}_four")
    assert four["categories"] == six["categories"][:4]
    assert six["images"] == four["images"]
    labelled = [row for row in six["annotations"] if row["category_id"] <= 4]
    assert labelled == four["annotations"]
    assert 0 < len(labelled) < len(six["annotations"])


def test_same_seed_same_bytes_other_seed_other_bytes(standard: Path, tmp_path: Path) -> None:
    write_few(tmp_path / "same")
    write_few(tmp_path / "other", seed=8)
    assert contents(tmp_path / "same") == contents(standard)
    other = contents(tmp_path / "other")
    assert other.keys() == contents(standard).keys()
    assert all(other[name] != data for name, data in contents(standard).items())


def test_twelve_classes_under_another_root(tmp_path: Path) -> None:
    write_few(tmp_path / "twelve", variant="twelve")
    categories = annotations_of(tmp_path / "twelve", "val")["categories"]
    assert [row["name"] for row in categories] == list(class_names("twelve"))


def test_a_complete_data_set_is_left_alone(standard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("nothing was to be drawn")

    monkeypatch.setattr(scenes, "draw_scene", refuse)
    before = {path: path.stat().st_mtime_ns for path in standard.rglob("*")}
    write_few(standard)
    assert {path: path.stat().st_mtime_ns for path in standard.rglob("*")} == before


def test_other_parameters_are_refused(standard: Path) -> None:
    before = contents(standard)
    with pytest.raises(InputError, match=r"'seed': 8.*'seed': 7"):
        write_few(standard, seed=8)
    assert contents(standard) == before


def test_a_foreign_folder_or_file_is_refused(tmp_path: Path) -> None:
    folder, file = tmp_path / "holiday", tmp_path / "letter"
    folder.mkdir()
    (folder / "beach.txt").write_text("sand")
    file.write_text("dear")
    for root in (folder, file, file / "below"):
        with pytest.raises(InputError, match=root.name):
            write_few(root)
    assert contents(tmp_path) == {"holiday/beach.txt": b"sand", "letter": b"dear"}


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    write_few(tmp_path / "new", train=1, val=1)
    (tmp_path / "empty").mkdir()
    write_few(tmp_path / "empty", train=1, val=1)
    assert contents(tmp_path / "empty") == contents(tmp_path / "new")


def test_an_interrupted_run_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(seed: int, index: int, *rest: object) -> object:
        if index == 1:
            raise KeyboardInterrupt
        return draw_scene(seed, index, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(scenes, "draw_scene", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_few(tmp_path / "scenes")
    assert list(tmp_path.iterdir()) == []


def test_the_leftover_of_a_killed_run_is_cleaned(tmp_path: Path, standard: Path) -> None:
    leftover = tmp_path / ".bckd-scenes.part" / "train"
    leftover.mkdir(parents=True)
    (leftover / "000001.png").write_bytes(b"half a picture")
    write_few(tmp_path / "scenes")
    assert [path.name for path in tmp_path.iterdir()] == ["scenes"]
    assert contents(tmp_path / "scenes") == contents(standard)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"train": 0}, "train"),
        ({"val": -1}, "val"),
        ({"seed": -1}, "seed"),
        ({"variant": "six"}, "variant is 'six'; expected 'standard' or 'twelve'"),
        ({"train": 2.5}, "train is 2.5; expected a whole number"),
        ({"seed": 2**63}, "seed is 9"),
    ],
)
def test_bad_values_are_refused(tmp_path: Path, changes: dict, name: str) -> None:
    with pytest.raises(InputError, match=name):
        write_few(tmp_path / "scenes", **changes)
    assert list(tmp_path.iterdir()) == []


def test_a_record_that_cant_be_read_is_something_else(tmp_path: Path) -> None:
    path = tmp_path / "scenes.json"
    for content in ("[" * 10**6, "{", "\xff"):
        path.write_bytes(content.encode("latin1"))
        with pytest.raises(InputError, match="found something else; delete the folder"):
            write_few(tmp_path)
        assert [file.name for file in tmp_path.iterdir()] == ["scenes.json"]


def test_a_root_has_one_writer(tmp_path: Path) -> None:
    root = tmp_path / "scenes"
    with one_maker(root), pytest.raises(InputError, match=f"{root} is in use"):
        write_few(root)
    write_few(root)
    assert [path.name for path in tmp_path.iterdir()] == ["scenes"]


def test_a_link_to_an_empty_folder_is_filled(tmp_path: Path, standard: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "scenes").symlink_to(tmp_path / "far")
    write_few(tmp_path / "scenes")
    assert (tmp_path / "scenes").is_symlink()
    assert contents(tmp_path / "far") == contents(standard)


def test_a_full_disk_is_told_and_nothing_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(InputError, match="scenes can't be written: No space left"):
        write_few(tmp_path / "scenes")
    assert list(tmp_path.iterdir()) == []
