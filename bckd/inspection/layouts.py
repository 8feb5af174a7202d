"""Where the parts of a data set lie below its folder, as tools lay them out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bckd.datasets.formats import FORMATS
from bckd.datasets.formats.labelled import Tree
from bckd.inspection.parts import Part
from bckd.recipes.presets import PRESETS
from bckd.system.errors import InputError

_ROBOFLOW = "_annotations.coco.json"
# Folders of images and annotation files by part. The first layout with a file is the one.
_LAYOUTS: tuple[dict[str, tuple[tuple[str, ...], str]], ...] = (
    {
        part: ((part, f"images/{part}", "images"), f"annotations/instances_{part}.json")
        for part in ("train", "val", "test")
    },
    {
        part: ((f"{part}2017", f"images/{part}2017"), f"annotations/instances_{part}2017.json")
        for part in ("train", "val")
    },
    {
        part: ((folder,), f"{folder}/{_ROBOFLOW}")
        for part, folder in (("train", "train"), ("val", "valid"), ("test", "test"))
    },
    {
        part: ((f"{part}/data",), f"{part}/labels.json") for part in ("train", "val", "test")
    },  # FiftyOne
)
_WORDS = {  # in the names of folders that hold a part each
    "train": {"train", "training"},
    "val": {"val", "valid", "validation"},
    "test": {"test", "testing"},
}
_FOLDERS = ("images/default", "images", "data", "img", "JPEGImages")  # of a single file's images


def find_parts(root: Path) -> list[Part]:
    """The parts of the data set in a folder.

    Raises:
        InputError: nothing there is laid out in a known way, or in more than one.
    """
    if not root.is_dir():
        raise InputError(f"{root} is no folder; expected that of a data set")
    for layout in _LAYOUTS:
        parts = [
            Part(name, root / file, _first_folder(root, folders))
            for name, (folders, file) in layout.items()
            if (root / file).is_file()
        ]
        if parts:
            return parts
    return _part_folders(root) or [_single(root)]


def _part_folders(root: Path) -> list[Part]:
    """A folder a part, each with one annotation file and its images: CVAT's tasks, for example."""
    parts = []
    for name, words in _WORDS.items():
        folders = [x for x in _folders(root) if words & set(re.split(r"[\W_]+", x.name.lower()))]
        if len(folders) == 1 and len(_json_files(folders[0])) == 1:
            parts.append(replace(_single(folders[0]), name=name))
    return parts if any(part.name == "train" for part in parts) else []


def _json_files(root: Path) -> list[Path]:
    """The files that may be annotations, in a folder and the folders in it."""
    return sorted(
        path for place in (root, *_folders(root)) for path in place.glob("*.json") if path.is_file()
    )


def _single(root: Path) -> Part:
    """The one annotation file below a folder, and the one folder of its images."""
    files = _json_files(root)
    formats = [name for name, other in FORMATS.items() if other.is_in(Tree(root, progress=False))]
    if formats:
        raise InputError(
            f"{root} holds files of {' or '.join(map(str.upper, formats))}, not of COCO; expected "
            f"what `bckd data convert {root}` makes of them"
        )
    if len(files) != 1:
        found = f"{len(files)} JSON files" if files else "no JSON file"
        raise InputError(
            f"{root} has neither annotations/instances_train.json with train/ nor Roboflow's "
            f"train/{_ROBOFLOW} nor a folder a part (names with train and val), and {found} in it "
            f"or its folders; expected one of these, or name file and folder by --annotations and "
            f"--images"
        )
    others = [x for x in _folders(root) if x != files[0].parent and any(x.iterdir())]
    own = files[0].parent
    known = [root / name for name in _FOLDERS if (root / name).is_dir()]
    if known:
        return Part("data", files[0], known[0])
    return Part("data", files[0], others[0] if len(others) == 1 else own)


def train_options(root: Path, parts: Sequence[Part]) -> list[str] | None:
    """The words after `bckd train custom` that have it take these parts.

    Returns:
        None where there is none to learn from or none to judge by.
    """
    by_name = {part.name: part for part in parts}
    if not {"train", "val"} <= set(by_name):
        return None
    words = ["--data.root", str(root)]
    usual = PRESETS["custom"].recipe.data
    for name in ("train", "val"):
        part = by_name[name]
        for field, path in (("images", part.images), ("annotations", part.annotations)):
            below = path.relative_to(root) if path.is_relative_to(root) else path.absolute()
            if below.as_posix() != getattr(usual, f"{name}_{field}"):
                words += [f"--data.{name}-{field}", below.as_posix()]
    return words


def _folders(root: Path) -> list[Path]:
    return sorted(x for x in root.iterdir() if x.is_dir() and not x.name.startswith("."))


def _first_folder(root: Path, names: tuple[str, ...]) -> Path:
    """The first that is there, else the first."""
    return next((root / name for name in names if (root / name).is_dir()), root / names[0])
