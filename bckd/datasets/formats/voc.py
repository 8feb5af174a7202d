"""Pascal VOC's XML files: one for each image, an <object> for each box, corners in pixels.

VOC itself counts pixels from 1 and its corners belong to the box: one of xmin 1 and xmax 500 is 500
pixels wide, from 0 to 500 (so read by detectron2). Many tools write VOC's fields with coordinates
from 0 instead; a 0 among them shows it, and so do fractions in most boxes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from bckd.datasets.decoding import Header
from bckd.datasets.entries import is_number
from bckd.datasets.findings import Fault, Findings, Oddity
from bckd.datasets.formats.labelled import Box, LabelledImage, LabelledSet, Tree, text_of
from bckd.datasets.formats.splitting import by_folders, part_called, part_of
from bckd.system.errors import reason

NO_XML = Fault("files that are no XML", "mend or delete them")
NO_IMAGE = Fault(
    "XML files without an image",
    "expected an image of the XML's name, or of its <filename>, anywhere below the folder",
)
NO_NAME = Fault("objects without a name", "expected <name> in each")
NO_BOX = Fault("objects without a box", "expected <bndbox> of four numbers: xmin, ymin, xmax, ymax")
SWAPPED = Fault("boxes whose right or lower side is before the other", "expected xmin below xmax")
OTHER_SIZE = Fault(
    "images of another size than their XML says",
    "expected boxes in pixels of the image as it is shown, turned by its EXIF orientation",
)
NOT_LISTED = Oddity("XML files that no list of ImageSets names are left out")
LISTED = Fault("names in a list of ImageSets without an XML file", "expected one in Annotations")
IN_NO_PART = Oddity("XML files that lie in no folder of a part are left out")
UNLABELLED = Oddity("images without an XML file are left out")
SIDES = Oddity("width and height that an XML says the other way round are those of the image")
DIFFICULT = Oddity("objects marked difficult become crowd regions: neither learnt nor judged")
FROM_ZERO = Oddity("coordinates are taken as counted from 0, as some say 0 or most have fractions")

_BEGINNING = 4096  # bytes in which an XML file says what it is
_IMAGE_FOLDERS = ("jpegimages", "images", "image", "imgs", "img")
_SIDES = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class _Object:
    """An <object>; `place` for messages."""

    place: str
    entry: int
    name: str
    corners: tuple[float, ...]
    difficult: bool


@dataclass(frozen=True)
class _File:
    """An XML file; `size`: what it says of its image, 0 where nothing."""

    path: Path
    image: Path
    size: tuple[int, int]
    objects: tuple[_Object, ...]


def holds_voc(tree: Tree) -> bool:
    """Whether a folder holds Pascal VOC's XML files."""
    return any(map(_is_voc, tree.files))


def read_voc(tree: Tree, findings: Findings) -> LabelledSet:
    """A data set of Pascal VOC's files; what is wrong or odd in it is noted."""
    every = [path for path in tree.files if _is_voc(path)]
    parts = _parts(every, tree, findings)
    paths = list(dict.fromkeys(path for part in parts.values() for path in part))
    images = _Images(tree.images, tree.root)
    files = [file for path in paths if (file := _read(path, images, tree, findings)) is not None]
    _note_unlabelled(files, {path.stem for path in every}, tree, findings)
    headers = tree.headers([file.image for file in files], findings)
    names = sorted({item.name for file in files for item in file.objects})
    labels = {name: label for label, name in enumerate(names)}
    first = 0 if _from_zero([x for file in files for x in file.objects], findings) else 1
    read = {
        file.path: _labelled(file, headers[file.image], labels, first, tree, findings)
        for file in files
        if file.image in headers
    }
    return LabelledSet(
        format="Pascal VOC's XML",
        entry="object",
        class_names=tuple(names),
        parts={part: [read[x] for x in paths if x in read] for part, paths in parts.items()},
    )


def _is_voc(path: Path) -> bool:
    if path.suffix.lower() != ".xml":
        return False
    with path.open("rb") as file:
        beginning = file.read(_BEGINNING).replace(b"\0", b"")  # of UTF-16
    return b"<annotation>" in beginning or b"<annotation " in beginning


def _parts(paths: list[Path], tree: Tree, findings: Findings) -> dict[str, list[Path]]:
    """The XML files of each part: by the lists of ImageSets, else by folders."""
    lists = _lists(tree)
    if lists:
        return _by_lists(lists, paths, tree, findings)
    parts, others = by_folders(paths, tree.root)
    for path in others:
        findings.add(IN_NO_PART, tree.named(path))
    return parts


def _lists(tree: Tree) -> list[tuple[str, Path]]:
    """Part and file of the lists to take; that of train and val together where these are not."""
    found: dict[Path, dict[str, Path]] = {}
    for path in tree.files:
        known = path.stem == "trainval" or part_called(path.stem) is not None
        if path.suffix == ".txt" and known and path.parent.name in ("Main", "ImageSets"):
            found.setdefault(path.parent, {})[path.stem] = path
    lists = []
    for named in found.values():
        both = named.pop("trainval", None)
        parts = [(part_called(stem) or "", path) for stem, path in named.items()]
        if both is not None and "train" not in {part for part, _ in parts}:
            parts.append(("train", both))
        lists += parts
    return lists


def _by_lists(
    lists: Sequence[tuple[str, Path]], paths: Sequence[Path], tree: Tree, findings: Findings
) -> dict[str, list[Path]]:
    known = {(path.parent.parent, path.stem): path for path in paths}
    parts: dict[str, list[Path]] = {}
    for part, path in lists:
        root = path.parents[2] if path.parent.name == "Main" else path.parents[1]
        for number, line in enumerate(text_of(path).splitlines(), 1):
            name = line.strip()
            found = known.get((root, name))
            if name and found is None:
                findings.add(LISTED, f"{tree.named(path)} line {number} {name}")
            elif found is not None:
                parts.setdefault(part, []).append(found)
    listed = {path for found in parts.values() for path in found}
    for path in paths:
        if path not in listed:
            findings.add(NOT_LISTED, tree.named(path))
    return parts


class _Images:
    """The images below a folder, to be found by name."""

    def __init__(self, images: Iterable[Path], root: Path) -> None:
        self._root = root
        self._by_stem: dict[str, list[Path]] = {}
        for path in images:
            self._by_stem.setdefault(path.stem, []).append(path)

    def of(self, path: Path, file_name: str) -> Path | None:
        """The image of an XML file: of its name, else of the one that it says."""
        said = Path(file_name.replace("\\", "/")).stem
        found = self._by_stem.get(path.stem) or self._by_stem.get(said) or ()
        return min(found, key=lambda image: self._distance(image, path), default=None)

    def _distance(self, image: Path, path: Path) -> tuple[bool, bool, bool, int]:
        """Beside the XML, then in the same part, in a folder of images, in one nearby.

        VOC's masks, and those of others, have their images' names too.
        """
        common = [*zip(image.parts, path.parts, strict=False)]
        return (
            image.parent != path.parent,
            part_of(image, self._root) != part_of(path, self._root),
            not any(folder.lower() in _IMAGE_FOLDERS for folder in image.parent.parts),
            -sum(ours == theirs for ours, theirs in common),
        )


def _read(path: Path, images: _Images, tree: Tree, findings: Findings) -> _File | None:
    """An XML file; None where it has no image, or is none."""
    where = tree.named(path)
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # an unknown encoding
        findings.add(NO_XML, f"{where} ({reason(error)})")
        return None
    image = images.of(path, _text(root, "filename"))
    if image is None:
        findings.add(NO_IMAGE, f"{where} with <filename> {_text(root, 'filename')!r}")
        return None
    found = (
        _object(element, number, f"{where} object {number}", findings)
        for number, element in enumerate(root.findall("object"), 1)
    )
    size = (_side(_text(root, "size/width")), _side(_text(root, "size/height")))
    return _File(path, image, size, tuple(item for item in found if item is not None))


def _object(element: Element, number: int, where: str, findings: Findings) -> _Object | None:
    name = " ".join(_text(element, "name").split())
    if not name:
        findings.add(NO_NAME, where)
        return None
    corners = tuple(_number(_text(element, f"bndbox/{side}")) for side in _SIDES)
    if not all(map(is_number, corners)):
        findings.add(NO_BOX, f"{where} {name!r}")
        return None
    x1, y1, x2, y2 = corners
    if x2 < x1 or y2 < y1:
        listed = ", ".join(f"{side} {value:g}" for side, value in zip(_SIDES, corners, strict=True))
        findings.add(SWAPPED, f"{where} {name!r} has {listed}")
        return None
    difficult = _number(_text(element, "difficult")) == 1
    if difficult:
        findings.add(DIFFICULT, f"{where} {name!r}")
    return _Object(where, number, name, corners, difficult)


def _from_zero(objects: Sequence[_Object], findings: Findings) -> bool:
    """Whether coordinates count from 0."""
    zeros = [item.place for item in objects if min(item.corners) < 1]
    broken = [item.place for item in objects if any(side % 1 for side in item.corners)]
    if not zeros and 2 * len(broken) <= len(objects):
        return False
    for where in zeros or broken:
        findings.add(FROM_ZERO, where)
    return True


def _labelled(
    file: _File,
    header: Header,
    labels: Mapping[str, int],
    first: int,
    tree: Tree,
    findings: Findings,
) -> LabelledImage:
    """An image and its boxes; `first` is the number of the first pixel."""
    sides = (header.width, header.height)
    if all(file.size) and file.size != sides:
        said = f"{tree.named(file.path)} says {file.size[0]}x{file.size[1]}"
        where = f"{said}, {tree.named(file.image)} is {sides[0]}x{sides[1]}"
        stands = header.orientation == 1 and file.size == sides[::-1]
        findings.add(SIDES if stands else OTHER_SIZE, where)
    boxes = []
    for item in file.objects:
        x1, y1, x2, y2 = item.corners
        corners = (x1 - first, y1 - first, x2, y2)
        boxes.append(Box(labels[item.name], *corners, item.difficult, item.entry))
    return LabelledImage(file.image, *sides, file.path, tuple(boxes))


def _note_unlabelled(
    files: Sequence[_File], stems: set[str], tree: Tree, findings: Findings
) -> None:
    """Note images without an XML file, in folders where there are images with one.

    Args:
        stems: names of all XML files.
    """
    used = {file.image for file in files}
    folders = {image.parent for image in used}
    for image in tree.images:
        if image not in used and image.parent in folders and image.stem not in stems:
            findings.add(UNLABELLED, tree.named(image))


def _text(element: Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _number(text: str) -> float:
    """A number; nan where a text is none."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _side(text: str) -> int:
    """A side of an image in pixels; 0 where the file says none."""
    number = _number(text)
    return int(number) if is_number(number) and number > 0 else 0
