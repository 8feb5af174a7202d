"""A COCO instances file, read and checked once, before anything depends on it."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from pycocotools.coco import COCO
from torch import Tensor

from bckd.datasets.entries import Annotated, ImageEntry, read_boxes, read_categories, read_images
from bckd.datasets.findings import Findings
from bckd.system.errors import InputError
from bckd.system.files import read_json
from bckd.system.telling import first_of

__all__ = ["Annotations", "ImageEntry", "Objects", "class_names_of", "read_annotations"]


@dataclass(frozen=True)
class Objects:
    """Annotated boxes of one image: boxes (G, 4) xyxy pixels, labels (G,), crowd (G,) bool."""

    boxes: Tensor
    labels: Tensor
    crowd: Tensor


@dataclass(frozen=True)
class Annotations:
    """A checked COCO instances file.

    Attributes:
        path: the file.
        images: in the order of their ids.
        class_names: the K names, in the order of the category ids unless `with_classes` says
            another.
        category_ids: the K ids; label k of the detector is category_ids[k]. None: the file has
            no such category.
        objects: boxes to learn by image id, only for images that have any: those of at least
            one pixel both ways, and crowd regions.
        content: what pycocotools needs: boxes within their image, `area` and `iscrowd` filled in.
        too_small: how many boxes of `content` are not to learn, below a pixel.
        labelled: whether the file has a list of annotations; a challenge's test file has none.
        findings: what was odd in the whole file, to be told.
    """

    path: Path
    images: tuple[ImageEntry, ...]
    class_names: tuple[str, ...]
    category_ids: tuple[int | None, ...]
    objects: dict[int | str, Objects] = field(repr=False)
    content: dict[str, Any] = field(repr=False)
    too_small: int = 0
    labelled: bool = True
    findings: Findings = field(default_factory=lambda: Findings(""), repr=False)

    @property
    def occurring_classes(self) -> frozenset[str]:
        """Names of the classes that have a box."""
        found = {row["category_id"] for row in self.content["annotations"]}
        pairs = zip(self.class_names, self.category_ids, strict=True)
        return frozenset(name for name, identity in pairs if identity in found)

    @property
    def learnable_classes(self) -> frozenset[str]:
        """Names of the classes that have a box to learn, neither a crowd region nor too small."""
        labels = {k for x in self.objects.values() for k in x.labels[~x.crowd].unique().tolist()}
        return frozenset(self.class_names[label] for label in labels)

    def with_classes(self, class_names: tuple[str, ...], who: str) -> Annotations:
        """The same file with the labels of a detector: matched by name, in its order.

        Args:
            class_names: the detector's; what the file does not list has no category id.
            who: whose they are, for the message.

        Raises:
            InputError: a class that has boxes here is not among them.
        """
        if class_names == self.class_names:
            return self
        self.check_known(class_names, who)
        id_of = dict(zip(self.class_names, self.category_ids, strict=True))
        place = torch.tensor([_place(name, class_names) for name in self.class_names])
        objects = {
            key: replace(value, labels=place[value.labels]) for key, value in self.objects.items()
        }
        ids = tuple(id_of.get(name) for name in class_names)
        return replace(self, class_names=class_names, category_ids=ids, objects=objects)

    def check_known(self, class_names: tuple[str, ...], who: str) -> None:
        """Refuse boxes of a class that is not among these; arguments as of `with_classes`."""
        id_of = dict(zip(self.class_names, self.category_ids, strict=True))
        unknown = sorted(self.occurring_classes - set(class_names))
        if unknown:
            listed = first_of([f"{name!r} (id {id_of[name]})" for name in unknown])
            raise InputError(
                f"{self.path} has boxes of {listed}, which {who} has not; its classes are "
                f"{first_of([*map(repr, class_names)])}"
            )

    def objects_of(self, image_id: int | str) -> Objects:
        """The boxes of an image; none is a valid answer."""
        none = Objects(
            torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.bool)
        )
        return self.objects.get(image_id, none)

    def first(self, count: int | None) -> Annotations:
        """The same file, restricted to its first `count` images by id."""
        if count is None or count >= len(self.images):
            return self
        images = self.images[:count]
        kept = {image.id for image in images}
        content = dict(self.content)
        content["images"] = [entry for entry in content["images"] if entry["id"] in kept]
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] in kept]
        objects = {key: value for key, value in self.objects.items() if key in kept}
        learnt = sum(len(value.labels) for value in objects.values())
        too_small = len(content["annotations"]) - learnt
        return replace(self, images=images, objects=objects, content=content, too_small=too_small)

    def to_pycocotools(self) -> COCO:
        """The file as pycocotools' index (which prints while it works; we keep it quiet)."""
        coco = COCO()
        coco.dataset = self.content
        with contextlib.redirect_stdout(io.StringIO()):
            coco.createIndex()
        return coco


def read_annotations(path: Path, folder: Path | None = None) -> Annotations:
    """Read a COCO instances JSON file and check it.

    What harmlessly differs from COCO's own files is made right and noted in `findings`; see
    `bckd.datasets.entries`. In `content` the annotations' ids count from 1.

    Args:
        folder: of the images, which say what the file does not (their sizes).

    Raises:
        InputError: the file is absent, no JSON, lacks a field, names a category or an image that
            is not listed, or has boxes that are no x, y, width, height.
    """
    content = _load(path)
    findings = Findings(path)
    images, listed = read_images(content["images"], folder, findings)
    categories = read_categories(content["categories"], findings)
    ids = tuple(identity for identity, _ in categories)
    annotated = read_boxes(content.get("annotations", []), images, ids, findings)
    return Annotations(
        path=path,
        images=tuple(images),
        class_names=tuple(name for _, name in categories),
        category_ids=ids,
        objects=_objects(annotated, ids),
        content={
            "info": {},
            "licenses": [],
            **content,
            "images": listed,
            "annotations": [found.entry for found in annotated],
        },
        too_small=sum(not found.learnable for found in annotated),
        labelled="annotations" in content,
        findings=findings,
    )


def class_names_of(path: Path) -> tuple[str, ...]:
    """The class names of a COCO instances JSON file, of which nothing else is looked at.

    Raises:
        InputError: as `read_annotations`, where its lists or its categories are at fault.
    """
    categories = read_categories(_load(path)["categories"], Findings(path))
    return tuple(name for _, name in categories)


def _load(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise InputError(f"annotation file {path} does not exist")
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"annotation file {path} holds no object; expected COCO format")
    for key in ("images", "annotations", "categories"):
        absent = key not in content and key == "annotations"
        if not absent and not isinstance(content.get(key), list):
            raise InputError(f"{path}: field '{key}' is missing or no list; expected COCO format")
        if not absent and not content[key] and key != "annotations":
            raise InputError(f"{path}: no {key} listed")
    return content


def _objects(annotated: Sequence[Annotated], ids: tuple[int, ...]) -> dict[int | str, Objects]:
    """The boxes to learn by image id."""
    label_of = {identity: label for label, identity in enumerate(ids)}
    rows: dict[int | str, list[tuple[list[float], int, bool]]] = {}
    for found in annotated:
        if found.learnable:
            entry = found.entry
            row = (found.box, label_of[entry["category_id"]], bool(entry["iscrowd"]))
            rows.setdefault(entry["image_id"], []).append(row)
    return {key: _stack(value) for key, value in rows.items()}


def _stack(rows: list[tuple[list[float], int, bool]]) -> Objects:
    boxes, labels, crowd = zip(*rows, strict=True)
    return Objects(torch.tensor(boxes), torch.tensor(labels), torch.tensor(crowd))


def _place(name: str, class_names: tuple[str, ...]) -> int:
    """Where a class stands among these; -1 for one of no box, which has no label."""
    return class_names.index(name) if name in class_names else -1
