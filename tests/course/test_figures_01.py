"""Figures of the course's first notebook."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bckd.course.figures_01 import (
    LEGEND,
    WIDTH,
    class_maps,
    named_detections,
    pictures_and_scores,
    positive_locations,
)
from bckd.reports.score_maps import overlay, score_map
from bckd.structures import Assignment, DenseOutput, Detections, GroundTruth
from bckd.system.errors import InputError

PICTURE = np.full((32, 40, 3), 128, dtype=np.uint8)
NAMES = ("cat", "dog", "car")


class TestClassMaps:
    def test_a_row_a_level_a_column_a_class(self, dense_output: Callable[..., DenseOutput]) -> None:
        output = dense_output()
        drawing = class_maps(PICTURE, output, NAMES, image=1)
        panels = [axes for axes in drawing.axes if axes.get_label() != "<colorbar>"]
        assert [axes.get_title() for axes in panels] == ["", *NAMES, "", "", "", ""]
        assert panels[0].get_ylabel() == "stride 8\n4 x 5"
        scores = output.cls_logits[1].detach().sigmoid()
        for place, (first, shape) in enumerate(((0, (4, 5)), (20, (2, 3)))):
            for label in range(3):
                (shown,) = panels[4 * place + 1 + label].images
                expected = scores[first : first + shape[0] * shape[1], label].reshape(shape)
                assert np.array_equal(shown.get_array(), expected)
                assert shown.get_clim() == (0, 1)

    def test_chosen_classes(self, dense_output: Callable[..., DenseOutput]) -> None:
        drawing = class_maps(PICTURE, dense_output(), NAMES, labels=[2])
        panels = [axes for axes in drawing.axes if axes.get_label() != "<colorbar>"]
        assert [axes.get_title() for axes in panels] == ["", "car", "", ""]

    @pytest.mark.parametrize(
        ("labels", "message"), [([], "labels is empty"), ([3], "label 3 names no class")]
    )
    def test_no_such_class(
        self, dense_output: Callable[..., DenseOutput], labels: list[int], message: str
    ) -> None:
        with pytest.raises(InputError, match=message):
            class_maps(PICTURE, dense_output(), NAMES, labels=labels)


def test_a_mark_at_every_positive(
    dense_output: Callable[..., DenseOutput], assignment_of: Callable[..., Assignment]
) -> None:
    output = dense_output()
    assignment = assignment_of(output, {(0, 7): 1, (0, 21): 0, (1, 3): 2})
    boxes, labels = torch.tensor([[4.0, 4.0, 20.0, 20.0]]), torch.tensor([1])
    truth = GroundTruth.from_lists([boxes, boxes[:0]], [labels, labels[:0]])
    batch = SimpleNamespace(ground_truth=truth)
    drawing = positive_locations([PICTURE, PICTURE], batch, output, assignment)
    assert [axes.get_title() for axes in drawing.axes] == ["2 positive", "1 positive"]
    marks = [[line.get_xydata().tolist() for line in axes.lines] for axes in drawing.axes]
    centres = output.locations.centres
    first = [[centres[7].tolist()], [centres[21].tolist()]]
    assert marks == [first, [[centres[3].tolist()], []]]
    assert [len(axes.patches) for axes in drawing.axes] == [2, 0]  # a box is two lines
    (legend,) = drawing.legends
    assert [text.get_text() for text in legend.get_texts()] == ["stride 8", "stride 16"]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_few_pictures_leave_their_texts_room(
    dense_output: Callable[..., DenseOutput], assignment_of: Callable[..., Assignment], count: int
) -> None:
    output = dense_output()
    nothing = assignment_of(output, {})
    truth = GroundTruth.from_lists([torch.zeros(0, 4)] * 3, [torch.zeros(0, dtype=int)] * 3)
    nothing = replace(nothing, positive=nothing.positive[:1].expand(3, -1))
    batch = SimpleNamespace(ground_truth=truth)
    marks = positive_locations([PICTURE] * count, batch, output, nothing)
    assert marks.get_figwidth() >= LEGEND
    none = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=int))
    boxes = named_detections([PICTURE] * count, [none] * count, ["a"])
    assert boxes.get_figwidth() == pytest.approx(WIDTH if count > 1 else WIDTH / 2)


def test_scores_below_their_picture(dense_output: Callable[..., DenseOutput]) -> None:
    output = dense_output()
    output = replace(output, cls_logits=output.cls_logits.detach())
    drawing = pictures_and_scores([PICTURE, 255 - PICTURE], output)
    panels = [axes for axes in drawing.axes if axes.get_label() != "<colorbar>"]
    pictures, maps = ([axes.images[0] for axes in row] for row in (panels[:2], panels[2:]))
    assert [shown.get_array()[0, 0, 0] for shown in pictures] == [128, 127]
    for number, shown in enumerate(maps):
        assert np.array_equal(shown.get_array(), overlay(score_map(output, number), (32, 40)))
        assert shown.get_clim() == (0, 1)


def test_detections_are_named_above_the_threshold() -> None:
    boxes = torch.tensor([[-4.0, 2.0, 20.0, 30.0], [10.0, 10.0, 14.0, 15.0]])
    detections = Detections(boxes, torch.tensor([0.8, 0.2]), torch.tensor([1, 0]))
    drawing = named_detections([PICTURE, PICTURE], [detections] * 2, NAMES, threshold=0.3)
    for axes in drawing.axes:
        assert [text.get_text() for text in axes.texts] == ["dog 0.80"]
        assert {patch.get_bbox().bounds for patch in axes.patches} == {(-4.0, 2.0, 24.0, 28.0)}
        assert (axes.get_xlim(), axes.get_ylim()) == ((-0.5, 39.5), (31.5, -0.5))


def test_a_name_stays_in_the_picture() -> None:
    boxes = torch.tensor([[2.0, -3.0, 20.0, 30.0], [2.0, 12.0, 20.0, 30.0]])
    detections = Detections(boxes, torch.tensor([0.8, 0.7]), torch.tensor([1, 0]))
    (axes,) = named_detections([PICTURE], [detections], NAMES).axes
    places = [(text.get_position()[1], text.get_verticalalignment()) for text in axes.texts]
    assert places == [(0, "top"), (12, "bottom")]
