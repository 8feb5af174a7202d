"""YOLO's label files: a line for each object, in fractions of the image's sides.

A line has the index of the class, x and y of the box's middle, its width and its height. What else
stands in such files: a polygon in place of the box (its box is taken), keypoints or a confidence
after it (passed over).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bckd.datasets.decoding import Header
from bckd.datasets.entries import is_number
from bckd.datasets.findings import Fault, Findings, Oddity, shown
from bckd.datasets.formats.labelled import Box, LabelledImage, LabelledSet, Tree, text_of
from bckd.datasets.formats.yolo_layout import Layout, description_of, labels_of, layout_of
from bckd.system.errors import InputError
from bckd.system.telling import first_of

_LINE = "expected class, x, y, width, height"
NO_TEXT = Fault("label files that can't be read", "expected text in UTF-8")
NO_LINE = Fault("lines that are neither five numbers nor a class and a polygon", _LINE)
NO_INDEX = Fault("lines whose class is no whole number from 0 on", _LINE)
NO_FRACTIONS = Fault(
    "lines with numbers that are no fractions of the image's sides",
    f"{_LINE}, these four from 0 to 1 (are they in pixels?)",
)
BELOW_ZERO = Fault("lines whose width or height is below 0", f"{_LINE}, in this order")
POLYGONS = Oddity("lines with a polygon give its box")
CONFIDENCES = Oddity("confidences at the end of lines are passed over")
NO_FILE = Oddity("images without a label file count as images without objects")
NO_IMAGE = Oddity("label files without an image are left out")
NO_NAMES = Oddity("classes that nothing names are called by their index")

_MOST = 10_000  # classes that an index without names may stand for
_FRACTIONS = (-1.0, 2.0)  # beyond is no box that only reaches out of its image


def holds_yolo(tree: Tree) -> bool:
    """Whether a folder holds a YOLO data set: its description, or text files of images."""
    return (
        any(path.name == "obj.data" for path in tree.files)
        or description_of(tree) is not None
        or any(map(labels_of, tree.images))
    )


def read_yolo(tree: Tree, findings: Findings) -> LabelledSet:
    """A YOLO data set; what is wrong or odd in it is noted.

    Raises:
        InputError: there is none, or no label file at all.
    """
    layout = layout_of(tree, findings)
    paths = list(dict.fromkeys(path for images in layout.parts.values() for path in images))
    headers = tree.headers(paths, findings)
    labels = {path: labels_of(path) for path in headers}
    if headers and not any(labels.values()):
        raise InputError(
            f"{tree.root}: none of {len(labels)} images, such as {tree.named(paths[0])}, has a "
            f"label file; expected it in the folder 'labels' where the image is in 'images', or "
            f"beside it"
        )
    _note_files(tree, layout, labels, findings)
    reading = _Reading(tree, layout, findings)
    read = {path: reading.image(path, headers[path], labels[path]) for path in headers}
    return LabelledSet(
        format="YOLO labels",
        entry="line",
        class_names=reading.class_names(),
        parts={
            part: [read[path] for path in images if path in read]
            for part, images in layout.parts.items()
        },
    )


def _note_files(
    tree: Tree, layout: Layout, labels: dict[Path, Path | None], findings: Findings
) -> None:
    """Note what has no counterpart among images and label files."""
    for part, images in layout.parts.items():
        absent = [path for path in images if path in labels and labels[path] is None]
        if part != "test" or len(absent) < len(images):  # a test part may have no labels at all
            for path in absent:
                findings.add(NO_FILE, tree.named(path))
    found = set(labels.values())
    folders = {path.parent for path in found if path is not None}
    for folder in sorted(folders):
        for path in sorted(folder.glob("*.txt")):
            if path not in found and path not in layout.no_labels:
                findings.add(NO_IMAGE, tree.named(path))


@dataclass
class _Reading:
    """What the lines of a data set are read by.

    Attributes:
        most: the highest index of a class that occurred.
    """

    tree: Tree
    layout: Layout
    findings: Findings
    most: int = -1
    beyond: Fault = field(init=False)

    def __post_init__(self) -> None:
        names = self.layout.class_names
        who = "the file" if (file := self.layout.names_file) is None else self.tree.named(file)
        self.beyond = Fault(
            "lines whose class is beyond the names",
            f"{who} names {len(names)} classes ({first_of([*names])}): expected one from 0 to "
            f"{len(names) - 1}",
        )

    def image(self, path: Path, header: Header, labels: Path | None) -> LabelledImage:
        """An image with the boxes of its label file."""
        boxes = () if labels is None else tuple(self._boxes(labels, header))
        return LabelledImage(path, header.width, header.height, labels, boxes)

    def class_names(self) -> tuple[str, ...]:
        """Those that are named, or one for each index that may occur."""
        if self.layout.class_names:
            return self.layout.class_names
        names = tuple(f"class_{n}" for n in range(max(self.most, 0) + 1))
        for name in names:
            self.findings.add(NO_NAMES, name)
        return names

    def _boxes(self, path: Path, header: Header) -> list[Box]:
        try:
            lines = text_of(path).splitlines()
        except InputError as error:
            self.findings.add(NO_TEXT, str(error))
            return []
        name = self.tree.named(path)
        found = [
            self._box(line.split(), f"{name} line {number}", number, header)
            for number, line in enumerate(lines, 1)
            if line.strip()
        ]
        return [box for box in found if box is not None]

    def _box(self, words: list[str], where: str, entry: int, header: Header) -> Box | None:
        label, *numbers = map(_number, words)
        fault = self._fault_of(label, numbers)
        if fault is None:
            numbers = self._coordinates(numbers, where)
            fault = _fault_of_coordinates(numbers)
        if fault is not None:
            self.findings.add(fault, f"{where} {shown(' '.join(words))}")
            return None
        self.most = max(self.most, int(label))
        sides = (header.width, header.height) * 2
        x1, y1, x2, y2 = (n * side for n, side in zip(_corners(numbers), sides, strict=True))
        return Box(int(label), x1, y1, x2, y2, crowd=False, entry=entry)

    def _fault_of(self, label: float, numbers: list[float]) -> Fault | None:
        """What is wrong with the numbers of a line by themselves."""
        if len(numbers) < 4 or not all(map(is_number, numbers)):
            return NO_LINE
        if not is_number(label) or label != int(label) or not 0 <= label < _MOST:
            return NO_INDEX
        names = self.layout.class_names
        return self.beyond if names and label >= len(names) else None

    def _coordinates(self, numbers: list[float], where: str) -> list[float]:
        """Those of the box, or of a polygon's points."""
        if self.layout.keypoints:
            return numbers[:4]
        if len(numbers) % 2:
            self.findings.add(CONFIDENCES, where)
            numbers = numbers[:-1]
        if len(numbers) > 4:
            self.findings.add(POLYGONS, where)
        return numbers


def _fault_of_coordinates(numbers: Sequence[float]) -> Fault | None:
    if not all(_FRACTIONS[0] <= number <= _FRACTIONS[1] for number in numbers):
        return NO_FRACTIONS
    return BELOW_ZERO if len(numbers) == 4 and min(numbers[2:]) < 0 else None


def _number(word: str) -> float:
    """A number; nan where a word is none."""
    try:
        return float(word)
    except ValueError:
        return float("nan")


def _corners(numbers: Sequence[float]) -> tuple[float, float, float, float]:
    """x1, y1, x2, y2 of x, y, width, height, or of the points of a polygon."""
    if len(numbers) == 4:
        x, y, w, h = numbers
        return x - w / 2, y - h / 2, x + w / 2, y + h / 2
    xs, ys = numbers[::2], numbers[1::2]
    return min(xs), min(ys), max(xs), max(ys)
