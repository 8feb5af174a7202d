"""Boxes with names, in pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bckd.viz.named_boxes import _areas, _overlap, named_boxes


def drawn(height: int, width: int, boxes: list[list[float]], names: list[str]) -> np.ndarray:
    count = len(boxes)
    picture = np.full((height, width, 3), 128, np.uint8)
    scores, labels = torch.full((count,), 0.5), torch.arange(count)
    return np.array(named_boxes(picture, torch.tensor(boxes), labels, scores, names))


def changed(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.nonzero((image != 128).any(axis=2))


@pytest.mark.parametrize("side", [640, 1280, 4000])
def test_lines_and_letters_grow_with_the_picture(side: int) -> None:
    image = drawn(side, side, [[0.5 * side, 0.5 * side, 0.9 * side, 0.9 * side]], ["cat"])
    assert image.shape == (side, side, 3)
    rows, _ = changed(image)
    name = (0.5 * side - rows.min()) / side  # above the box
    assert 0.03 < name < 0.05
    line = (image[int(0.7 * side)] != 128).any(axis=1).sum() / 2
    assert line >= side / 200


def test_a_small_picture_is_enlarged_by_a_whole_factor() -> None:
    assert drawn(100, 200, [[10.0, 10.0, 20.0, 20.0]], ["x"]).shape == (400, 800, 3)


@pytest.mark.parametrize(
    "box", [[0.0, 0.0, 640.0, 480.0], [600.0, 0.0, 640.0, 40.0], [0.0, 470.0, 9.0, 480.0]]
)
def test_names_stay_in_the_picture(box: list[float]) -> None:
    for left, top, right, bottom in _areas(box, 120.0, 20.0, (640, 480)):
        assert 0 <= left <= right <= 640 and 0 <= top <= bottom <= 480


def test_names_do_not_hide_each_other() -> None:
    """Of boxes that nearly coincide every name finds a place of its own."""
    box = torch.tensor([200.0, 200.0, 400.0, 400.0])
    apart = drawn(480, 640, [box.tolist(), (box + 2).tolist()], ["first", "second"])
    alone = drawn(480, 640, [box.tolist()], ["first"])
    tag = np.s_[176:198, 202:260]
    assert (apart[tag] == alone[tag]).all()  # the better one's is whole
    crowd = drawn(480, 640, [box.tolist()] * 30, ["first"] + ["other"] * 29)
    assert (crowd[tag] == alone[tag]).all()
    assert _overlap((0, 0, 2, 2), (1, 1, 3, 3)) and not _overlap((0, 0, 2, 2), (2, 0, 3, 2))


def test_any_script_is_drawn() -> None:
    box = [[100.0, 100.0, 300.0, 300.0]]
    assert (drawn(480, 640, box, ["猫"]) != drawn(480, 640, box, [""])).any()


def test_nothing_to_draw() -> None:
    picture, none = np.full((640, 640, 3), 128, np.uint8), torch.zeros(0)
    image = named_boxes(picture, torch.zeros(0, 4), none.long(), none, [])
    assert (np.array(image) == picture).all()
