"""One picture's part of several dense outputs: what corresponds, what is refused, which values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from bckd.correspondence import per_cell
from bckd.geometry import grid, with_anchors
from bckd.structures import DenseOutput
from bckd.system.errors import InputError
from bckd.viz.location_losses import binary_pull, softmax_pull
from bckd.viz.picture_outputs import (
    PictureOutputs,
    checked_ground_truth,
    compared_outputs,
    outputs_of_picture,
)

PICTURE = np.full((30, 37, 3), 90, dtype=np.uint8)  # not a whole number of cells
NAMES = ("circle", "square", "triangle")


@pytest.fixture
def outputs(dense_output: Callable[..., DenseOutput]) -> dict[str, DenseOutput]:
    return {name: dense_output(seed) for seed, name in enumerate(("teacher", "a", "b"))}


@pytest.fixture
def pictured(outputs: dict[str, DenseOutput]) -> PictureOutputs:
    return compared_outputs(PICTURE, outputs, NAMES, image=1)


class TestValues:
    def test_scores_are_those_of_the_output(
        self, pictured: PictureOutputs, outputs: dict[str, DenseOutput]
    ) -> None:
        logits = outputs["a"].cls_logits[1].detach()
        for protocol, expected in (
            ("sigmoid", logits.sigmoid()),
            ("softmax", logits.softmax(dim=-1)),
        ):
            found = pictured.scores("a", protocol)
            assert found == pytest.approx(expected.numpy(), abs=5e-4)

    @pytest.mark.parametrize("protocol", ["sigmoid", "softmax"])
    @pytest.mark.parametrize("label", [None, 2])
    def test_maps(self, pictured: PictureOutputs, protocol: str, label: int | None) -> None:
        own, teacher = pictured.scores("b", protocol), pictured.scores("teacher", protocol)
        gap = np.abs(own - teacher)
        score = own.max(axis=1) if label is None else own[:, label]
        difference = gap.max(axis=1) if label is None else gap[:, label]
        assert np.array_equal(pictured.values("score", "b", protocol, label), score)
        assert np.array_equal(pictured.values("difference", "b", protocol, label), difference)

    @pytest.mark.parametrize(
        ("protocol", "pull"), [("sigmoid", binary_pull), ("softmax", softmax_pull)]
    )
    def test_a_pull_is_the_size_of_a_gradient(
        self,
        pictured: PictureOutputs,
        outputs: dict[str, DenseOutput],
        protocol: str,
        pull: Callable,
    ) -> None:
        teacher, student = (outputs[name].cls_logits[1].detach() for name in ("teacher", "a"))
        expected = pull(student, teacher)[1].abs().numpy()
        found = pictured.values("pull", "a", protocol)
        assert found == pytest.approx(expected.sum(axis=1), abs=2e-3)
        assert pictured.values("pull", "a", protocol, 2) == pytest.approx(expected[:, 2], abs=2e-3)

    def test_a_constant_shift_shows_in_one_protocol_alone(
        self, outputs: dict[str, DenseOutput]
    ) -> None:
        teacher = outputs["teacher"]
        shifted = replace(teacher, cls_logits=teacher.cls_logits + 2)
        pictured = compared_outputs(PICTURE, {"teacher": teacher, "shifted": shifted}, NAMES)
        assert pictured.values("difference", "shifted", "softmax").max() < 2e-3
        assert pictured.values("difference", "shifted", "sigmoid").min() > 0.05

    def test_top_classes_are_those_of_any_detector(self, dense_output: Callable) -> None:
        one = dense_output(num_images=1, num_classes=7)
        logits = torch.full_like(one.cls_logits, -9.0)
        teacher, student = logits.clone(), logits.clone()
        teacher[0, 3, 2], student[0, 3, 6], student[0, 3, 2] = 1.0, 4.0, -1.0
        pair = {"t": replace(one, cls_logits=teacher), "s": replace(one, cls_logits=student)}
        pictured = compared_outputs(PICTURE, pair, "abcdefg")
        assert pictured.top_classes(3)[:2] == [6, 2]
        assert len(pictured.top_classes(3)) == 5


class TestPlaces:
    def test_every_pixel_shows_its_cell(self, pictured: PictureOutputs) -> None:
        values = np.random.default_rng(0).random(len(pictured.centres))
        for level, stride in ((0, 8), (1, 16)):
            side = pictured.levels[0].stride
            shown = values[pictured.speakers(values, level)].repeat(side, 0).repeat(side, 1)
            shown = shown[: PICTURE.shape[0], : PICTURE.shape[1]]
            for location, (x, y) in enumerate(pictured.centres.astype(int)):
                if pictured.cell(location)[0].stride == stride:
                    block = shown[y : y + stride, x : x + stride]
                    assert block.size and (block == values[location]).all()
                    assert pictured.cell(location) == (
                        pictured.levels[level],
                        y // stride,
                        x // stride,
                    )

    def test_of_all_levels_the_highest_speaks(self, pictured: PictureOutputs) -> None:
        values = np.random.default_rng(1).random(len(pictured.centres))
        levels = [values[pictured.speakers(values, level)] for level in (0, 1)]
        shown = pictured.over_picture(values)
        highest = np.maximum(*levels).repeat(8, 0).repeat(8, 1)
        assert np.array_equal(shown, highest[: PICTURE.shape[0], : PICTURE.shape[1]])
        assert shown.shape == PICTURE.shape[:2]
        for x, y in ((0, 0), (36.9, 29.9), (17, 11.5)):
            assert values[pictured.at_point(values, (x, y))] == shown[int(y), int(x)]

    def test_of_equals_the_finer_speaks(self, pictured: PictureOutputs) -> None:
        values = np.zeros(len(pictured.centres))
        assert pictured.at_point(values, (20, 9)) == 1 * 5 + 2

    def test_cells_have_numbers_and_back(self, pictured: PictureOutputs) -> None:
        for location in range(len(pictured.centres)):
            level, row, column = pictured.cell(location)
            assert pictured.location((level.stride, row, column)) == location
        for words, cell in (
            ("no level of stride 32", (32, 0, 0)),
            ("no row 2, column 1 on the level of stride 16, which has 2 x 3", (16, 2, 1)),
            ("no row 0, column -1", (8, 0, -1)),
        ):
            with pytest.raises(InputError, match=words):
                pictured.location(cell)

    def test_places_worth_a_look(self, dense_output: Callable[..., DenseOutput]) -> None:
        one = dense_output(num_images=1)
        teacher = torch.full_like(one.cls_logits, -6.0)
        teacher[0, 3, 1] = -3.5  # quiet, and surest of all as softmax
        teacher[0, 7, 0] = -2.5  # surer still, but not quiet
        teacher[0, 9, 2] = 2.0
        student = teacher.clone()
        student[0, 21, 0] = 1.0  # coarse: its cell holds location 7, which stays below .1
        student[0, 23, 0] = 3.0  # farther off, where the teacher sees something
        teacher[0, 15, 0] = 1.0
        pair = {"t": replace(one, cls_logits=teacher), "s": replace(one, cls_logits=student)}
        pictured = compared_outputs(PICTURE, pair, NAMES)
        assert pictured.background_location() == 3
        assert pictured.object_location() == 9
        assert pictured.haze_location() == 21
        x, y = pictured.centres[21]
        boxes = np.array([[x - 1, y - 1, x + 1, y + 1]])
        assert pictured.haze_location(boxes) != 21, "not on an object"
        loud = compared_outputs(
            PICTURE, {n: replace(x, cls_logits=x.cls_logits + 9) for n, x in pair.items()}, NAMES
        )
        scores = np.maximum(loud.scores("t"), loud.scores("s")).max(axis=1)
        assert loud.background_location() == scores.argmin()

    def test_the_best_anchor_of_a_cell_speaks(self) -> None:
        locations = with_anchors(grid([(4, 5)], [8]), [(1, 1), (2, 1), (1, 2)])
        generator = torch.Generator().manual_seed(0)
        logits = torch.randn(1, 60, 3, generator=generator)
        boxes = torch.rand(1, 60, 4, generator=generator).cumsum(-1)
        output = DenseOutput(logits, boxes, locations)
        pictured = outputs_of_picture(PICTURE, {"teacher": output}, NAMES)
        best = per_cell(output)
        assert pictured.boxes["teacher"] == pytest.approx(best.boxes[0].numpy())
        assert pictured.logits["teacher"].shape == (20, 3)


class TestRefusals:
    def refuse(self, words: str, outputs: dict, picture: np.ndarray = PICTURE, image: int = 0):
        with pytest.raises(InputError, match=words):
            compared_outputs(picture, outputs, NAMES, image)

    @pytest.mark.parametrize(
        "picture",
        [
            PICTURE.astype(np.float32),
            PICTURE[..., 0],
            np.zeros((30, 37, 4), np.uint8),
        ],
    )
    def test_no_picture(self, outputs: dict[str, DenseOutput], picture: np.ndarray) -> None:
        self.refuse("expected uint8", outputs, picture)

    def test_a_picture_of_another_size(self, outputs: dict[str, DenseOutput]) -> None:
        words = "4 x 5 cells of stride 8, the picture of 64 x 37 pixels has 8 x 5"
        self.refuse(words, outputs, np.zeros((64, 37, 3), np.uint8))

    def test_other_levels(self, outputs: dict, dense_output: Callable[..., DenseOutput]) -> None:
        other = dense_output(shapes=((4, 5), (2, 3)), strides=(8, 32))
        self.refuse("'a' has the levels .* stride 32, 'teacher' has", {**outputs, "a": other})

    def test_levels_that_do_not_nest(self, dense_output: Callable[..., DenseOutput]) -> None:
        odd = dense_output(shapes=((4, 5), (3, 4)), strides=(8, 12))
        self.refuse("stride 12; expected a multiple", {"teacher": odd, "a": odd})

    def test_other_classes(self, outputs: dict, dense_output: Callable[..., DenseOutput]) -> None:
        other = dense_output(num_classes=4)
        self.refuse("'b' has 4 classes, class_names has 3", {**outputs, "b": other})

    @pytest.mark.parametrize("field", ["cls_logits", "boxes"])
    def test_nan(self, outputs: dict[str, DenseOutput], field: str) -> None:
        values = getattr(outputs["a"], field).detach().clone()
        values[0, 3, 1] = float("nan")
        broken = {**outputs, "a": replace(outputs["a"], **{field: values})}
        self.refuse(f"{field} of 'a' has 1 values that are nan", broken)

    @pytest.mark.parametrize("image", [-1, 2])
    def test_no_such_image(self, outputs: dict[str, DenseOutput], image: int) -> None:
        self.refuse(f"there is no image {image}", outputs, image=image)

    def test_a_teacher_alone_or_too_many(self, outputs: dict[str, DenseOutput]) -> None:
        self.refuse("there are 1 dense outputs", {"teacher": outputs["teacher"]})
        self.refuse("there are 5 dense outputs", {**outputs, "c": outputs["a"], "d": outputs["a"]})
        with pytest.raises(InputError, match="no dense output"):
            outputs_of_picture(PICTURE, {}, NAMES)

    def test_no_such_class_level_point_or_view(self, pictured: PictureOutputs) -> None:
        values = np.zeros(len(pictured.centres))
        for words, call in (
            ("no class 'oval'; expected one of circle", lambda: pictured.label("oval")),
            ("no level of stride 32; expected one of 8, 16", lambda: pictured.level(32)),
            (r"point \(37, 2\) is outside", lambda: pictured.at_point(values, (37, 2))),
            ("no kind of map 'gap'", lambda: pictured.check_view("gap", "sigmoid")),
            ("no protocol 'relu'", lambda: pictured.check_view("score", "relu")),
        ):
            with pytest.raises(InputError, match=words):
                call()

    @pytest.mark.parametrize(
        ("boxes", "labels", "words"),
        [
            (torch.zeros(2, 4), torch.tensor([0, 3]), "label 3 names no class"),
            (torch.zeros(2, 4), torch.tensor([-1, 0]), "label -1 names no class"),
            (torch.zeros(2, 5), torch.tensor([0, 1]), r"\(2, 5\) and \(2,\)"),
            (torch.zeros(3, 4), torch.tensor([0, 1]), r"expected \(G, 4\)"),
        ],
    )
    def test_ground_truth(self, boxes: torch.Tensor, labels: torch.Tensor, words: str) -> None:
        with pytest.raises(InputError, match=words):
            checked_ground_truth((boxes, labels), NAMES)
