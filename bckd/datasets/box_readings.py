"""Boxes that were written in another way than x, y, width, height in pixels: which one it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

TOLERANCE = 2.0  # pixels by which a box may reach beyond its image and still fit
LEAST_SHARE = 0.1  # of the boxes that have to misfit before they count as a way of writing
LEAST_BOXES = 10  # from which on it is odd that all lie in a corner
BY_AREAS = "as x1, y1, x2, y2, by their areas"  # the one reading that leaves no doubt
_SAME_AREA = 0.01  # relative difference of two areas that are the same
_OF_BOXES = 0.9  # share of the areas that have to be width times height to be no masks' areas


class Written(NamedTuple):
    """Boxes of the file, float64.

    Attributes:
        box: (N, 4) as they are written.
        width, height: (N,) of their images.
        area: (N,) nan where the file says none.
    """

    box: np.ndarray
    width: np.ndarray
    height: np.ndarray
    area: np.ndarray

    def where(self, chosen: np.ndarray) -> Written:
        """Some of them, by a mask (N,)."""
        return Written(*(column[chosen] for column in self))


def _corners(written: Written) -> Written:
    x, y, right, bottom = written.box.T
    return _boxes(written, x, y, right - x, bottom - y)


def _axes_swapped(written: Written) -> Written:
    y, x, h, w = written.box.T
    return _boxes(written, x, y, w, h)


def _corners_axes_swapped(written: Written) -> Written:
    return _corners(_axes_swapped(written))


def _axis_by_axis(written: Written) -> Written:
    x, right, y, bottom = written.box.T
    return _boxes(written, x, y, right - x, bottom - y)


def _centres(written: Written) -> Written:
    x, y, w, h = written.box.T
    return _boxes(written, x - w / 2, y - h / 2, w, h)


def _image_turned(written: Written) -> Written:
    return written._replace(width=written.height, height=written.width)


def _boxes(written: Written, *sides: np.ndarray) -> Written:
    return written._replace(box=np.stack(sides, axis=1))


_Readings = dict[str, Callable[[Written], Written]]
_COMMON: _Readings = {
    "as x1, y1, x2, y2": _corners,
    "with width and height of the images swapped (sizes are those after the EXIF orientation)": (
        _image_turned
    ),
    "as y, x, height, width": _axes_swapped,
}


_RARE: _Readings = {"as y1, x1, y2, x2": _corners_axes_swapped, "as x1, x2, y1, y2": _axis_by_axis}


def overhang(written: Written) -> np.ndarray:
    """(N,) how far boxes reach beyond their images, in pixels; 0 or less where they lie inside."""
    x, y, w, h = written.box.T
    beyond = np.maximum(x + w - written.width, y + h - written.height)
    return np.maximum(np.maximum(-x, -y), beyond)


def other_reading(written: Written) -> str | None:
    """The ways of writing under which all boxes make sense, where the usual one does not.

    A guess needs all boxes: one that does not fit disproves it.
    """
    if not len(written.box):
        return None
    if _areas_say_corners(written):
        return BY_AREAS
    if _are_fractions(written):
        return "as fractions of the image's sides"
    for readings in (_COMMON, _RARE) if _misfit(written) else ():
        others = {name: reading(written) for name, reading in readings.items()}
        fitting = [n for n, other in others.items() if (_fits(other) & _has_room(other)).all()]
        if fitting:
            return " or ".join(fitting)
    return None


def corners_by_area(written: Written) -> np.ndarray:
    """(N,) bool: single boxes that are x1, y1, x2, y2 by their area, unlike the others.

    Where areas are those of masks, one may be by chance that of other corners. So a box has to
    reach beyond its image too, unless the areas of nearly all boxes are width times height.
    """
    corners, same = _corners(written), _same_area(written)
    of_boxes = same.sum() >= _OF_BOXES * (~np.isnan(written.area)).sum()
    other = _fits(corners) & _same_area(corners) & ~same & (corners.box[:, 2:].min(axis=1) > 0)
    return other & (of_boxes | (overhang(written) > TOLERANCE))


def maybe_fractions(written: Written) -> np.ndarray:
    """(N,) bool: single boxes that have the look of fractions of their image's sides."""
    sides = written.box
    inside = (sides.min(axis=1) >= 0) & (sides.max(axis=1) <= 1) & (sides[:, 2:].min(axis=1) > 0)
    return inside & (sides % 1 != 0).any(axis=1)


def maybe_centres(written: Written) -> bool:
    """Whether many boxes misfit, and all fit with x and y of their centre.

    No more than a guess: small boxes that are far from the left and the top fit too.
    """
    return _misfit(written) and bool(_fits(_centres(written)).all())


def all_in_a_corner(written: Written) -> bool:
    """Whether all of many boxes lie in the upper left quarter of their images.

    So do those in per cent, or in pixels of smaller images.
    """
    x, y, w, h = written.box.T
    inside = (x + w <= written.width / 2) & (y + h <= written.height / 2)
    return len(inside) >= LEAST_BOXES and bool(inside.all())


def _misfit(written: Written) -> bool:
    return bool((~_fits(written)).sum() >= max(1, LEAST_SHARE * len(written.box)))


def _fits(written: Written) -> np.ndarray:
    return (written.box[:, 2:].min(axis=1) >= 0) & (overhang(written) <= TOLERANCE)


def _has_room(written: Written) -> np.ndarray:
    """Whether the area that the file says is one that the box can have."""
    return np.isnan(written.area) | possible(written.area, *written.box[:, 2:].T)


def possible(area: Any, width: Any, height: Any) -> Any:
    """Whether an object in a box can have this area; a mask may be a pixel larger all round.

    Args:
        area, width, height: numbers, or (N,) of each.
    """
    return (0 < area) & (area <= (width + 2) * (height + 2))


def _are_fractions(written: Written) -> bool:
    sides = written.box
    return bool(sides.min() >= 0 and sides.max() <= 1 and (sides % 1).any())


def _areas_say_corners(written: Written) -> bool:
    known = written.where(~np.isnan(written.area))
    corners = _corners(known)
    return (
        len(known.box) > len(written.box) / 2
        and bool((_fits(corners) & _same_area(corners)).all())
        and _same_area(known).sum() < len(known.box) / 2
    )


def _same_area(written: Written) -> np.ndarray:
    w, h = written.box[:, 2:].T
    return np.abs(w * h - written.area) <= _SAME_AREA * written.area
