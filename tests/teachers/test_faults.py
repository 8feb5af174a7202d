"""Faults that are put into the committed teacher are named, and the healthy one is not accused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from bckd.datasets.coco import CocoDataset
from bckd.datasets.scenes import write_scenes
from bckd.image_size import ImageSize
from bckd.normalisation import CAFFE, IMAGENET, Normalisation
from bckd.recipes import DataConfig, Recipe
from bckd.recipes.presets import SCENES_TEACHER
from bckd.system.errors import InputError
from bckd.teachers.check import Preflight, check_teacher, examine
from bckd.teachers.faults import Moved, Seen, called_otherwise, exchanged, moved, names_given
from bckd.teachers.matching import Matched, matched
from bckd.teachers.other_views import _seen_through
from bckd.training.data import validation_data
from bckd.zoo.checkpoints import Checkpoint, load_detector

ROOT = Path(__file__).parents[2]
IMAGES = 16


@pytest.fixture(scope="module")
def validation(tmp_path_factory: pytest.TempPathFactory) -> CocoDataset:
    root = tmp_path_factory.mktemp("data") / "scenes"
    write_scenes(root, train=1, val=IMAGES, progress=False)
    data = DataConfig(
        root=root,
        val_images="val",
        val_annotations="annotations/instances_val.json",
        size=ImageSize(128, 128),
        cache=True,
    )
    return validation_data(data)


def recipe(images: int = IMAGES) -> Recipe:
    data = DataConfig(size=ImageSize(128, 128))
    return Recipe(data=data, teacher=ROOT / SCENES_TEACHER, teacher_check=images)


def teacher() -> Checkpoint:
    return load_detector(ROOT / SCENES_TEACHER)


def refusal(found: Checkpoint, validation: CocoDataset, images: int = IMAGES) -> str:
    with pytest.raises(InputError) as caught:
        check_teacher(recipe(images), found, found.detector, validation)
    return str(caught.value)


def permuted(order: Sequence[int]) -> Checkpoint:
    """The teacher with its names in another order, as a student of the right ones takes it."""
    found = teacher()
    names = found.detector.class_names
    found.detector.class_names = tuple(names[n] for n in order)
    chosen = (names, found.detector.strides, found.detector.normalisation)
    return replace(found, detector=matched(found.detector, "teacher", *chosen))


class TestNames:
    @pytest.mark.parametrize("images", [6])
    def test_two_that_are_exchanged(self, validation: CocoDataset, images: int) -> None:
        message = refusal(permuted([1, 0, 2, 3, 4, 5]), validation, images)
        assert "finds 'circle ring' where the data say 'square' (" in message
        assert "'square' where the data say 'circle ring' (" in message
        assert "names of its classes are permuted" in message
        assert "--teacher-classes 'square=circle ring' 'circle ring=square' " in message

    def test_the_option_mends_it(self, validation: CocoDataset) -> None:
        wrong = permuted([1, 2, 0, 3, 4, 5])
        option = refusal(wrong, validation).partition("--teacher-classes ")[2]
        names = validation.annotations.class_names
        renamed = {
            ours: theirs for ours in names for theirs in names if f"{ours}={theirs}" in option
        }
        assert len(renamed) == 3
        inner = wrong.detector
        assert isinstance(inner, Matched)
        chosen = (names, inner.strides, inner.normalisation, renamed)
        mended = replace(wrong, detector=matched(inner.teacher, "teacher", *chosen))
        check_teacher(recipe(), mended, mended.detector, validation)

    def test_two_pairs_at_once(self, validation: CocoDataset) -> None:
        message = refusal(permuted([1, 0, 2, 3, 5, 4]), validation)
        for pair in ("square=circle ring", "circle ring=square", "circle=triangle ring"):
            assert f"'{pair}'" in message

    def test_one_that_stands_for_another_is_told(
        self, validation: CocoDataset, capsys: pytest.CaptureFixture[str]
    ) -> None:
        found = teacher()
        reader = Matched(
            found.detector,
            found.detector.class_names,
            [1, None, 2, 3, 4, 5],  # nothing finds the second under its name
            found.detector.strides,
            found.detector.normalisation,
        )
        check_teacher(recipe(), replace(found, detector=reader.eval()), reader, validation)
        assert "it finds 'square' where the data say 'circle ring' (" in capsys.readouterr().out


def box_fault(change: Callable[[Tensor], Tensor]) -> Checkpoint:
    found = teacher()
    before = found.detector.forward

    def forward(images: Tensor) -> object:
        output = before(images)
        return replace(output, boxes=change(output.boxes))

    found.detector.forward = forward  # type: ignore[method-assign, assignment]
    return found


def grown(boxes: Tensor, by: float) -> Tensor:
    centres, half = (boxes[..., :2] + boxes[..., 2:]) / 2, (boxes[..., 2:] - boxes[..., :2]) / 2
    return torch.cat([centres - half * by, centres + half * by], dim=-1)


class TestBoxes:
    @pytest.mark.parametrize(
        ("change", "named"),
        [
            (lambda boxes: boxes + 8, "boxes that lie 8 pixels right and 8 pixels below"),
            (lambda boxes: boxes - torch.tensor([40.0, 0, 40, 0]), "boxes that lie .* pixels left"),
            (lambda boxes: boxes / 2, "boxes that are scaled by 0.50 from the image's corner"),
            (lambda boxes: boxes * 1.25, "boxes that are scaled by 1.25 from the image's corner"),
            (lambda boxes: grown(boxes, 1.5), r"are 1\.[45]\d times as wide and 1\.[45]\d times"),
            (lambda boxes: grown(boxes, 0.6), r"are 0\.[56]\d times as wide and 0\.[56]\d times"),
        ],
    )
    def test_all_moved_alike(
        self, validation: CocoDataset, change: Callable[[Tensor], Tensor], named: str
    ) -> None:
        found = box_fault(change)
        with pytest.raises(InputError, match=named):
            check_teacher(recipe(), found, found.detector, validation)


class TestImages:
    @pytest.mark.parametrize(
        "wrong",
        [
            CAFFE,
            Normalisation((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)),
        ],
    )
    def test_normalised_in_another_way(self, validation: CocoDataset, wrong: Normalisation) -> None:
        found = teacher()
        names, strides = found.detector.class_names, found.detector.strides
        found.detector.normalisation = wrong
        reader = matched(found.detector, "teacher", names, strides, IMAGENET)
        message = refusal(replace(found, detector=reader), validation)
        assert "of them with ImageNet's mean and deviation, which its file should say" in message

    def test_of_another_size(self, validation: CocoDataset) -> None:
        small = CocoDataset(validation.folder, validation.annotations, ImageSize(64, 64))
        message = refusal(teacher(), small)
        assert "on 8 of them brought to 128 by 128 pixels, which it was made for" in message

    @pytest.mark.parametrize("ours", [IMAGENET, CAFFE])
    @pytest.mark.parametrize("theirs", [IMAGENET, CAFFE])
    @pytest.mark.parametrize("wanted", [IMAGENET, CAFFE])
    def test_a_teacher_sees_what_it_shall_see(
        self, ours: Normalisation, theirs: Normalisation, wanted: Normalisation
    ) -> None:
        pixels = torch.rand(1, 3, 4, 4, dtype=torch.float64)
        given = _seen_through(ours, theirs, wanted).apply(pixels)
        torch.testing.assert_close(theirs.apply(ours.undo(given)), wanted.apply(pixels))


class TestTheHealthyTeacher:
    @pytest.mark.parametrize("images", [1, 3, 8])
    def test_is_not_accused(self, validation: CocoDataset, images: int) -> None:
        """However few objects a class has there."""
        found = teacher()
        seen = examine(recipe(images), found, found.detector, validation)
        assert seen.fault is None and seen.doubts == ()

    def test_tells_each_class(
        self, validation: CocoDataset, capsys: pytest.CaptureFixture[str]
    ) -> None:
        found = teacher()
        check_teacher(recipe(), found, found.detector, validation)
        told = capsys.readouterr().out
        assert all(f"{name} 0." in told for name in validation.annotations.class_names)

    def test_of_many_classes_tells_the_worst(self) -> None:
        classes = {f"class {n}": (n / 20, 6 - n % 2) for n in range(15)} | {"rare": (0.0, 1)}
        found = Preflight(8, 0.5, 0.0, None, None, per_class=classes)
        assert found.by_class == (
            "lowest AP by class (objects): class 0 0.000 (6), class 1 0.050 (5), class 2 0.100 (6)"
        )


class TestEvidence:
    def test_a_weak_teacher_is_not_one_of_exchanged_names(self) -> None:
        """It says the commonest name of everything, or confuses two in both directions."""
        assert exchanged(np.array([[9, 0, 0], [9, 0, 0], [9, 0, 0]])) == []
        assert exchanged(np.array([[4, 6], [6, 4]])) == []
        assert exchanged(np.array([[0, 2], [2, 0]])) == []  # too few
        assert exchanged(np.array([[0, 3], [3, 0]])) == [[0, 1]]
        assert called_otherwise(np.array([[9, 0], [9, 0]]), 5) == {1: 0}

    def test_an_object_within_another_keeps_its_name(self) -> None:
        """A head in a helmet: the other's box lies there too, and scores more."""
        boxes = np.array([[0.0, 0, 20, 20], [0, 0, 20, 24]])
        seen = Seen(np.array([0, 1]), boxes, np.array([0, 1]), boxes, np.array([0.9, 0.6]))
        assert names_given([seen], 2).tolist() == [[1, 0], [0, 1]]
        faint = replace(seen, scores=np.array([0.9, 0.1]))
        assert names_given([faint], 2).tolist() == [[1, 0], [1, 0]]

    def test_boxes_that_are_merely_bad_are_not_moved(self) -> None:
        rng = np.random.default_rng(0)
        corners = rng.uniform(0, 80, (40, 2))
        boxes = np.concatenate([corners, corners + 16], axis=1)
        labels, scores = np.zeros(40, dtype=int), np.linspace(1, 0.5, 40)
        noisy = boxes + rng.normal(0, 6, boxes.shape)
        assert moved([Seen(labels, boxes, labels, noisy, scores)]) is None
        assert moved([Seen(labels, boxes, labels, boxes, scores)]) is None
        assert moved([Seen(labels[:5], boxes[:5], labels[:5], boxes[:5] + 9, scores[:5])]) is None
        found = moved([Seen(labels, boxes, labels, boxes + 9, scores)])
        assert found is not None and str(found) == "lie 9 pixels right and 9 pixels below"

    def test_moving_back_is_the_inverse(self) -> None:
        by = Moved(scale=2.0, shift=(3.0, -4.0), size=(1.5, 0.5))
        boxes = np.array([[10.0, 20, 30, 60]])
        centre, half = np.array([20.0, 40]), np.array([10.0, 20])
        centre, half = (centre + by.shift) * 2, half * by.size * 2
        lying = np.concatenate([centre - half, centre + half])[None]
        np.testing.assert_allclose(by.undone(lying), boxes)
