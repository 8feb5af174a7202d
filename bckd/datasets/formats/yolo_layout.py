"""Which images a YOLO data set has, in which parts, with which classes, and where its labels lie.

It is what a data.yaml says (Ultralytics, Roboflow, CVAT), an obj.data (darknet), lists of images
or, where there is none of them, the names of folders.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bckd.datasets.findings import Fault, Findings, Oddity
from bckd.datasets.formats.labelled import Tree, files_below, is_image, text_of
from bckd.datasets.formats.splitting import by_folders, part_called
from bckd.system.errors import InputError, reason
from bckd.system.telling import first_of

NO_IMAGE = Fault("images that a list names and that are not there", "expected a path of each")
NO_PART = Oddity("parts that are named and of which no image is there are left out")
IN_NO_PART = Oddity("images that lie in no folder of a part are left out")

_NAMES = {"classes.txt", "obj.names", "labels.txt", "_darknet.labels"}  # one name a line
_IMAGE_FOLDER = re.compile(r"(?:JPEG)?(I|i)mage(s?)", re.ASCII)


@dataclass(frozen=True)
class Layout:
    """A YOLO data set before its labels are read.

    Attributes:
        names_file: that the names are of; None: nothing names the classes.
        keypoints: whether a line goes on with keypoints after its box.
        no_labels: text files that belong to the layout.
    """

    parts: dict[str, list[Path]]
    class_names: tuple[str, ...]
    names_file: Path | None
    keypoints: bool
    no_labels: frozenset[Path]


def layout_of(tree: Tree, findings: Findings) -> Layout:
    """The layout of a YOLO data set.

    Raises:
        InputError: its description can't be read, or says what is not there.
    """
    description = description_of(tree)
    said: dict[str, Any] = {} if description is None else _read_yaml(description)
    darknet = _darknet_of(tree)
    if description is None and darknet is not None:
        description, said = darknet, _read_darknet(darknet)
    named, names_file = _class_names(tree, description, said)
    texts = _texts_of_parts(tree, said)
    bases = _bases(tree, description, said)
    parts, lists = _parts(tree, texts, bases, findings)
    return Layout(
        parts=parts,
        class_names=named,
        names_file=names_file,
        keypoints="kpt_shape" in said,
        no_labels=frozenset({*lists, *names_files(tree)}),
    )


def labels_of(image: Path) -> Path | None:
    """The label file of an image; None where there is none.

    It lies in the folder `labels` where the image lies in `images`, at any depth, or beside it.
    """
    places = [_with_labels(image, depth) for depth in range(len(image.parts) - 2, 0, -1)]
    for place in [*filter(None, places), image]:
        text = place.with_suffix(".txt")
        if text.is_file():
            return text
    return None


def _with_labels(image: Path, depth: int) -> Path | None:
    """The path with the folder at a depth called as those of labels are, if it is one of images."""
    *before, folder = image.parts[: depth + 1]
    found = _IMAGE_FOLDER.search(folder)
    if found is None:
        return None
    word = ("Label" if found[1] == "I" and "JPEG" not in found[0] else "label") + found[2]
    return Path(*before, folder.replace(found[0], word), *image.parts[depth + 1 :])


def _read_yaml(path: Path) -> dict[str, Any]:
    """The mapping of a YAML file, its values as text: names such as `no` or `1` are none else.

    Raises:
        InputError: it holds none, or is no YAML.
    """
    try:
        found = yaml.load(text_of(path), Loader=yaml.BaseLoader)  # makes text, lists and dicts
    except (yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{path} is not valid YAML: {reason(error)}") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} holds no names and values; expected a data.yaml as YOLO has it")
    return found


def description_of(tree: Tree) -> Path | None:
    """The YAML file that describes a YOLO data set, if there is one.

    Raises:
        InputError: there are several, of which no one alone is data.yaml.
    """
    if tree.given is not None:
        return tree.given
    files = [path for path in tree.files if path.suffix.lower() in (".yaml", ".yml")]
    for depth in sorted({len(path.parts) for path in files}):  # an archive may hold a folder
        found = [path for path in files if len(path.parts) == depth and _describes(path)]
        called = [path for path in found if path.stem == "data"]
        if len(found) > 1 and len(called) != 1:
            listed = first_of([tree.named(path) for path in found])
            raise InputError(
                f"{tree.root} holds several files that describe a YOLO data set ({listed}); name "
                f"one in place of the folder"
            )
        if found:
            return next(iter(called or found))
    return None


def _describes(path: Path) -> bool:
    try:
        said = _read_yaml(path)
    except InputError:
        return path.stem == "data"  # reading it says what is wrong
    return "names" in said or "nc" in said or {"train", "val"} <= set(said)


def _darknet_of(tree: Tree) -> Path | None:
    return next((path for path in tree.files if path.name == "obj.data"), None)


def _read_darknet(path: Path) -> dict[str, Any]:
    pairs = (line.partition("=") for line in text_of(path).splitlines() if "=" in line)
    said = {key.strip(): value.strip() for key, _, value in pairs}
    return {key: value for key, value in said.items() if key != "names"}  # of its file


def _texts_of_parts(tree: Tree, said: dict[str, Any]) -> dict[str, list[str]]:
    """By part, the folders and lists that are named."""
    keys = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
    named: dict[str, list[str]] = {}
    for key, part in keys.items():
        value = said.get(key) or []
        texts = value if isinstance(value, list) else [value]
        if not all(isinstance(text, str) for text in texts):
            raise InputError(f"{tree.root}: '{key}' of its description is no path or list of paths")
        named.setdefault(part, []).extend(text for text in texts if text)
    if not any(named.values()):
        for path in tree.files:
            known = part_called(path.stem) if path.suffix == ".txt" else None
            if known is not None and path.parent == tree.root and _is_list(path):
                named.setdefault(known, []).append(path.name)
    return {part: texts for part, texts in named.items() if texts}


def _is_list(path: Path) -> bool:
    lines = text_of(path).split("\n")
    return is_image(Path(lines[0].strip()))


def _bases(tree: Tree, description: Path | None, said: dict[str, Any]) -> list[Path]:
    """The folders that paths of the description may be relative to."""
    beside = tree.root if description is None else description.parent
    bases = [beside, tree.root]
    path = said.get("path")
    if isinstance(path, str) and path:
        found = located(path, bases)
        bases = bases if found is None else [found, *bases]
    return list(dict.fromkeys(bases))


def located(text: str, bases: Sequence[Path]) -> Path | None:
    """The file or folder that a text names, if it is there.

    A path is as people find it: from the folder of the file that has it, from there although it
    begins with ../ (Roboflow), or from another machine, of which as much of the end counts as is
    here.
    """
    plain = text.strip().replace("\\", "/")
    names = [name for name in plain.split("/") if name not in ("", ".", "..")]
    candidates = [base.joinpath(*names) for base in bases]
    candidates += [base / plain for base in bases]
    candidates += [base.joinpath(*names[n:]) for n in range(1, len(names)) for base in bases]
    return next((path for path in candidates if os.path.exists(path)), None)


def _parts(
    tree: Tree, texts: dict[str, list[str]], bases: Sequence[Path], findings: Findings
) -> tuple[dict[str, list[Path]], list[Path]]:
    """The images of each part, and the lists that name some."""
    if not texts:
        parts, others = by_folders(tree.images, tree.root)
        for path in others:
            findings.add(IN_NO_PART, tree.named(path))
        return parts, []
    places = {part: _places(named, bases) for part, named in texts.items()}
    _check_apart(tree, texts, places)
    parts, lists = {}, []
    for part, found in places.items():
        images = []
        for place in found:
            if place.is_dir():
                images += [path for path in files_below(place) if is_image(path)]
            else:
                lists.append(place)
                images += _listed(tree, place, bases, findings)
        parts[part] = list(dict.fromkeys(images))
        if not images and not findings.faults:
            where = f"'{part}' ({', '.join(texts[part])})"
            if part == "train":
                raise InputError(f"{tree.root}: there is no image at {where}; expected a path")
            findings.add(NO_PART, where)
    return {part: images for part, images in parts.items() if images}, lists


def _places(texts: Sequence[str], bases: Sequence[Path]) -> list[Path]:
    return [place for place in (located(text, bases) for text in texts) if place is not None]


def _check_apart(tree: Tree, texts: dict[str, list[str]], places: dict[str, list[Path]]) -> None:
    """Refuse ends of paths that lead two parts to one place."""
    if "train" in places and "val" in places and texts["train"] != texts["val"]:
        both = set(places["train"]) & set(places["val"])
        if both:
            raise InputError(
                f"{tree.root}: 'train' ({', '.join(texts['train'])}) and 'val' "
                f"({', '.join(texts['val'])}) are both found at {min(both)} alone; expected "
                f"paths that are there"
            )


def _listed(tree: Tree, path: Path, bases: Sequence[Path], findings: Findings) -> Iterator[Path]:
    """The images that a list names, one a line."""
    for number, line in enumerate(text_of(path).splitlines(), 1):
        if not line.strip():
            continue
        found = located(line, [path.parent, *bases])
        if found is None or not found.is_file():
            findings.add(NO_IMAGE, f"{tree.named(path)} line {number} {line.strip()}")
        else:
            yield found


def names_files(tree: Tree) -> list[Path]:
    """The files that name classes, one a line."""
    return [path for path in tree.files if path.name in _NAMES or path.suffix == ".names"]


def _class_names(
    tree: Tree, description: Path | None, said: dict[str, Any]
) -> tuple[tuple[str, ...], Path | None]:
    """The names of the classes, and the file that they are of."""
    names = said.get("names")
    if description is not None and names:
        return tuple(_of_yaml(description, names)), description
    files = names_files(tree)
    if not files:
        return (), None
    lists = {path: _lines(path) for path in files}
    longest = max(files, key=lambda path: len(lists[path]))
    for path in files:
        if lists[path] != lists[longest][: len(lists[path])]:
            raise InputError(
                f"{tree.root}: {tree.named(path)} and {tree.named(longest)} name the classes "
                f"differently; expected one list for all images"
            )
    return tuple(lists[longest]), longest


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in text_of(path).rstrip().splitlines()]


def _of_yaml(path: Path, names: Any) -> list[str]:
    """A list of names, or a mapping of indices to names; gaps get a name."""
    if isinstance(names, dict) and all(key.isdecimal() for key in names):
        numbers = {int(key): name for key, name in names.items()}
        if max(numbers) < 100 * len(numbers):
            names = [numbers.get(n, f"class_{n}") for n in range(max(numbers) + 1)]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{path}: 'names' is neither a list of names nor index: name for each")
    return names
