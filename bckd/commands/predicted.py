"""What `bckd predict` does: a line an image, drawings, and COCO results of all of them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from bckd.commands.help import columns_of, shortened, terminal_width
from bckd.datasets.decoding import header_of
from bckd.datasets.finding_images import find_images
from bckd.evaluation.average_precision import to_results, write_results
from bckd.prediction import Prediction, load
from bckd.structures import Detections
from bckd.system.errors import InputError
from bckd.system.exit_codes import DONE, PARTLY
from bckd.system.files import one_writer, write_atomically, write_json

FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}  # drawings of other files are PNG
QUALITY = 92  # of JPEG
COUNT = 7  # columns of the number of objects
LONGEST = 0.45  # of a line, that the name of a file takes


def run_predict(
    source: Path, named: Sequence[Path], out: Path, threshold: float, device: str = "auto"
) -> int:
    """Predict, draw, print and write; the exit code.

    Args:
        source: of the detector.
        named: files, folders and patterns.
        out: folder to write to.
        threshold: lower scores are left out.
        device: as of `bckd.load`.

    Raises:
        InputError: the detector or the images are not there, no image can be read, or one that
            is read would be replaced.
    """
    images = find_images(named)
    drawings = {name: out / drawn_name(name) for name in images}
    _check_kept(images, drawings)
    detector = load(source, device=device)
    results = CocoResults(detector.detector.class_names)
    faults = []
    width = min(max(map(columns_of, images)), int(LONGEST * terminal_width()))
    with one_writer(out):
        predictions = detector.predict_each(images.values(), threshold)
        for name, found in zip(images, predictions, strict=True):
            if isinstance(found, InputError):
                faults.append(found)
                print(line_of(name, "-", ["cannot be read, see below"], width))
                continue
            print(line_of(name, str(len(found)), _words(found), width), flush=True)
            results.add(name, images[name], found)
            _draw(found, drawings[name])
        if not results.images and len(faults) == 1:
            raise faults[0]
        if results.images:
            results.write(out)
    if results.images:
        print(f"\n{results.told}, with a score of {threshold:g} or more;")
        print(f"drawings, detections.json and images.json are in {out}")
    if not faults:
        return DONE
    print(f"{len(faults)} of {len(images)} images can't be read:", file=sys.stderr)
    for fault in faults:
        print(f"  {fault}", file=sys.stderr)
    if not results.images:
        raise InputError(f"none of these {len(faults)} images can be read")
    return PARTLY


class CocoResults:
    """Detections as COCO results, and the images and classes that their ids mean.

    `images.json` is a COCO file without annotations, so that pycocotools reads
    `COCO("images.json").loadRes("detections.json")`; each detection has the names of its file and
    its class as well.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self.class_names = tuple(class_names)
        self.category_ids = tuple(range(1, len(class_names) + 1))
        self.images: list[dict[str, Any]] = []
        self.rows: list[dict[str, Any]] = []

    def add(self, name: str, path: Path, found: Prediction) -> None:
        """One image's detections."""
        header = header_of(path)
        number = len(self.images) + 1
        image = {"id": number, "file_name": name, "width": header.width, "height": header.height}
        self.images.append(image)
        detections = Detections(found.boxes, found.scores, found.labels)
        for row in to_results(detections, number, self.category_ids):
            name_of_class = self.class_names[row["category_id"] - 1]
            self.rows.append({**row, "file_name": name, "category_name": name_of_class})

    @property
    def told(self) -> str:
        """How many there are, in words."""
        images = len({row["image_id"] for row in self.rows})
        return f"{len(self.rows)} objects in {images} of {len(self.images)} images"

    def write(self, folder: Path) -> None:
        """Write detections.json and images.json."""
        categories = [
            {"id": number, "name": name}
            for number, name in zip(self.category_ids, self.class_names, strict=True)
        ]
        content = {"images": self.images, "categories": categories, "annotations": []}
        write_json(folder / "images.json", content)
        write_results(folder / "detections.json", self.rows)


def drawn_name(name: str) -> str:
    """The name of an image's drawing: its own, with .png behind it where it is no JPEG or PNG."""
    return name if Path(name).suffix.lower() in FORMATS else f"{name}.png"


def line_of(name: str, count: str, words: Sequence[str], width: int) -> str:
    """A line of the table, as long as the terminal is wide at most.

    Args:
        name: of the file.
        count: of its objects.
        words: what is said of it, the best first; those that find no room are left out.
        width: columns of the name.
    """
    name = shortened(name, width)
    line = name + " " * (width - columns_of(name)) + f"{count:>{COUNT}}  "
    room, said = terminal_width() - columns_of(line), ""
    for word in words:
        longer = f"{said}, {word}" if said else word
        if columns_of(longer) > room:
            break
        said = longer
    return (line + said).rstrip()


def _words(found: Prediction) -> list[str]:
    pairs = zip(found.names, found.scores.tolist(), strict=True)
    return [f"{name} {score:.2f}" for name, score in pairs]


def _draw(found: Prediction, path: Path) -> None:
    picture, kind = found.draw(), FORMATS[path.suffix.lower()]
    write_atomically(path, lambda part: _save(picture, part, kind))


def _save(picture: Image.Image, path: Path, kind: str) -> None:
    with path.open("wb") as file:
        picture.save(file, kind, quality=QUALITY)


def _check_kept(images: dict[str, Path], drawings: dict[str, Path]) -> None:
    """Refuse a folder in which a drawing would replace an image, or another drawing."""
    read = {path.resolve() for path in images.values()}
    by_place: dict[Path, str] = {}
    for name, path in drawings.items():
        place = path.resolve()
        if place in read:
            raise InputError(f"{path} would be replaced by its drawing; name another --out")
        if place in by_place:
            raise InputError(
                f"{by_place[place]} and {name} would both be drawn to {path}; rename one of them"
            )
        by_place[place] = name
