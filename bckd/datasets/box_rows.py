"""Entries of 'annotations' as columns that grow, while a file of COCO's size is read."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from bckd.datasets.box_readings import Written, possible
from bckd.datasets.entries import ImageEntry, is_number
from bckd.datasets.findings import place
from bckd.datasets.instances_file import Annotation

_LEAST, _MOST = -(2**63), 2**63 - 1  # of the numbers that eight bytes hold


class Ids:
    """Ids of entries, whatever the file has there; where all are numbers, in eight bytes each."""

    def __init__(self) -> None:
        self._all: array[int] | list[Any] = array("q")

    def append(self, identity: Any) -> None:
        """Add the one of the next entry."""
        fits = type(identity) is int and _LEAST <= identity <= _MOST
        if not fits and isinstance(self._all, array):
            self._all = list(self._all)
        self._all.append(identity)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._all)

    def __getitem__(self, row: int) -> Any:
        return self._all[row]

    @property
    def distinct(self) -> bool:
        """Whether all are numbers of eight bytes, no two of them the same."""
        return isinstance(self._all, array) and bool((np.diff(np.sort(self._all)) != 0).all())


class BoxRows:
    """Entries of 'annotations' whose fields are of the right kinds: columns that grow.

    Attributes:
        ids: of all entries, whatever the file has there.
        odd_areas: by row, what the file has as an area that the box can't have.
    """

    def __init__(self, images: Sequence[ImageEntry]) -> None:
        self._listed = images
        self.ids = Ids()
        self.odd_areas: dict[int, Any] = {}
        self._numbers, self._images, self._labels = array("i"), array("i"), array("i")
        self._crowd, self._boxes, self._areas = array("b"), array("d"), array("d")

    def add(self, number: int, image: int, label: int, raw: Annotation) -> None:
        """Add an entry."""
        box, area = tuple(map(float, raw.bbox)), raw.area
        known = float(area) if is_number(area) and area > 0 else float("nan")
        if area is not None and not possible(known, box[2], box[3]):
            self.odd_areas[len(self._numbers)] = area
        self._numbers.append(number)
        self._images.append(image)
        self._labels.append(label)
        self._crowd.append(int(raw.iscrowd or 0))
        self._boxes.extend(box)
        self._areas.append(known)

    @property
    def numbers(self) -> np.ndarray:
        return np.array(self._numbers)

    @property
    def images(self) -> np.ndarray:
        return np.array(self._images)

    @property
    def labels(self) -> np.ndarray:
        return np.array(self._labels)

    @property
    def crowd(self) -> np.ndarray:
        return np.array(self._crowd, dtype=bool)

    def written(self) -> Written:
        """The boxes as they are written."""
        sides = np.array([(x.width, x.height) for x in self._listed], dtype=np.float64)
        width, height = sides[self.images].T
        return Written(np.array(self._boxes).reshape(-1, 4), width, height, np.array(self._areas))

    def number(self, row: int) -> int:
        """Place of a row in its list, from 1 on."""
        return self._numbers[row]

    def place(self, row: int) -> str:
        """Id and place of a row."""
        number = self.number(row)
        return place(self.ids[number - 1], number)

    def box(self, row: int) -> str:
        """Where a row is, and what it has as a box."""
        sides = self._boxes[4 * row : 4 * row + 4]
        return f"{self.place(row)} has [{', '.join(f'{side:g}' for side in sides)}]"

    def file_name(self, row: int) -> str:
        """The image of a row."""
        return self._listed[self._images[row]].file_name
