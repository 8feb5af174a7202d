"""A COCO instances file, read and checked once, before anything depends on it."""

from __future__ import annotations

import contextlib
import io
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pycocotools.coco import COCO
from torch import Tensor

from bckd.datasets.boxes import Boxes, read_boxes
from bckd.datasets.entries import ImageEntry, read_categories, read_images
from bckd.datasets.findings import Fault, Findings, Oddity
from bckd.datasets.instances_file import InstanceLists, read_lists
from bckd.system.errors import InputError
from bckd.system.telling import first_of

__all__ = ["Annotations", "ImageEntry", "Objects", "class_names_of", "read_annotations"]

MARKED = Oddity("a byte order mark at the beginning is passed over")
BOXES_OF_UNLABELLED = Fault(
    "images that are marked as not labelled and have annotations", "expected one or the other"
)
_FIELDS = ("id", "file_name", "width", "height")  # of an image, in COCO's format


@dataclass(frozen=True)
class Objects:
    """Annotated boxes of one image: boxes (G, 4) xyxy pixels, labels (G,), crowd (G,) bool."""

    boxes: Tensor
    labels: Tensor
    crowd: Tensor


@dataclass(frozen=True)
class ObjectColumns:
    """The boxes to learn of all images, image by image; flat, so that processes share them.

    Attributes:
        starts: (images + 1,) int64; those of image n are starts[n] to starts[n + 1].
        boxes: (N, 4) float32 xyxy pixels.
        labels: (N,) int32.
        crowd: (N,) bool.
    """

    starts: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray

    def of(self, image: int) -> Objects:
        """The boxes of the image at a position; views where the type is theirs."""
        rows = slice(self.starts[image], self.starts[image + 1])
        boxes, labels, crowd = self.boxes[rows], self.labels[rows], self.crowd[rows]
        return Objects(*map(torch.from_numpy, (boxes, labels.astype(np.int64), crowd)))

    def first(self, count: int) -> ObjectColumns:
        """Those of the first `count` images."""
        end = self.starts[count]
        return ObjectColumns(
            self.starts[: count + 1], self.boxes[:end], self.labels[:end], self.crowd[:end]
        )

    def counts(self) -> np.ndarray:
        """(images,) how many boxes each has that are no crowd regions."""
        found = np.concatenate([[0], np.cumsum(~self.crowd)])[self.starts]
        return np.diff(found)


@dataclass(frozen=True)
class BoxesToFind:
    """What COCO's evaluation holds detections against: all boxes of a file, by its own classes.

    Attributes:
        categories: (id, name) in the order of the ids.
        boxes: `labels` are positions in `categories`.
    """

    categories: tuple[tuple[int, str], ...]
    boxes: Boxes

    def category_ids(self) -> set[int]:
        """Those that have a box."""
        return {self.categories[label][0] for label in np.unique(self.boxes.labels)}

    def counts(self, images: int) -> np.ndarray:
        """(images,) how many boxes each has that are no crowd regions."""
        return np.bincount(self.boxes.images[~self.boxes.crowd], minlength=images)

    def rows(self, images: Sequence[ImageEntry]) -> list[dict[str, Any]]:
        """The annotations as COCO's format has them; `id` is the place in the file, from 1 on.

        pycocotools takes a match with id 0 for none.
        """
        boxes = self.boxes
        columns = (boxes.numbers, boxes.images, boxes.labels, boxes.bbox, boxes.area, boxes.crowd)
        return [
            {
                "id": number,
                "image_id": images[image].id,
                "category_id": self.categories[label][0],
                "bbox": bbox,
                "area": area,
                "iscrowd": int(crowd),
            }
            for number, image, label, bbox, area, crowd in zip(
                *(column.tolist() for column in columns), strict=True
            )
        ]


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
        objects: boxes to learn: those of at least one pixel both ways, and crowd regions.
        truth: boxes to find: those, and the smaller ones.
        labelled: whether the file has a list of annotations. A challenge's test file has none, and
            no image that is labelled.
        findings: what was odd in the whole file, to be told.
    """

    path: Path
    images: tuple[ImageEntry, ...]
    class_names: tuple[str, ...]
    category_ids: tuple[int | None, ...]
    objects: ObjectColumns = field(repr=False)
    truth: BoxesToFind = field(repr=False)
    labelled: bool = True
    findings: Findings = field(default_factory=lambda: Findings(""), repr=False)

    @property
    def too_small(self) -> int:
        """How many boxes of the file are not to learn, below a pixel."""
        return int((~self.truth.boxes.learnable).sum())

    @property
    def content(self) -> dict[str, Any]:
        """The file as pycocotools needs it, made anew at each look.

        Boxes lie within their image, `area` and `iscrowd` are filled in, and the annotations' ids
        count from 1.
        """
        return {
            "info": {},
            "licenses": [],
            "images": [{name: getattr(image, name) for name in _FIELDS} for image in self.images],
            "annotations": self.truth.rows(self.images),
            "categories": [{"id": key, "name": name} for key, name in self.truth.categories],
        }

    @property
    def occurring_classes(self) -> frozenset[str]:
        """Names of the classes that have a box."""
        found = self.truth.category_ids()
        pairs = zip(self.class_names, self.category_ids, strict=True)
        return frozenset(name for name, identity in pairs if identity in found)

    @property
    def learnable_classes(self) -> frozenset[str]:
        """Names of the classes that have a box to learn, neither a crowd region nor too small."""
        labels = np.unique(self.objects.labels[~self.objects.crowd])
        return frozenset(self.class_names[label] for label in labels)

    @property
    def learnable_images(self) -> tuple[ImageEntry, ...]:
        """Those that have a box to learn, neither a crowd region nor too small."""
        return tuple(self.images[n] for n in np.flatnonzero(self.objects.counts()))

    @property
    def unlabelled_images(self) -> tuple[ImageEntry, ...]:
        """Those of which nothing is known: a teacher says what is in them, or nobody."""
        return tuple(image for image in self.images if not image.labelled)

    @property
    def training_images(self) -> tuple[ImageEntry, ...]:
        """Those that training takes: with a box to learn, or not labelled."""
        learnable = self.objects.counts() > 0
        pairs = zip(self.images, learnable.tolist(), strict=True)
        return tuple(image for image, has_box in pairs if has_box or not image.labelled)

    @property
    def idle_classes(self) -> frozenset[str]:
        """Names of the classes that nothing is learnt of, as labels show none of them.

        Where no image has labels, there are none: a teacher is to know all classes.
        """
        if not any(image.labelled for image in self.images):
            return frozenset()
        return frozenset(self.class_names) - self.learnable_classes

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
        place = np.array([_place(x, class_names) for x in self.class_names], dtype=np.int32)
        objects = replace(self.objects, labels=place[self.objects.labels])
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
        """The boxes of an image to learn; none is a valid answer.

        Raises:
            KeyError: the file has no such image.
        """
        n = bisect_left(self.images, image_id, key=lambda image: image.id)
        if n == len(self.images) or self.images[n].id != image_id:
            raise KeyError(image_id)
        return self.objects.of(n)

    def labelled_alone(self) -> Annotations:
        """The same file, restricted to its images that are labelled."""
        kept = np.array([image.labelled for image in self.images])
        if kept.all():
            return self
        starts = np.append(self.objects.starts[:-1][kept], self.objects.starts[-1])
        place = np.cumsum(kept) - 1  # no box is of an image that is left out
        boxes = replace(self.truth.boxes, images=place[self.truth.boxes.images])
        return replace(
            self,
            images=tuple(image for image in self.images if image.labelled),
            objects=replace(self.objects, starts=starts),
            truth=replace(self.truth, boxes=boxes),
        )

    def first(self, count: int | None) -> Annotations:
        """The same file, restricted to its first `count` images by id."""
        if count is None or count >= len(self.images):
            return self
        boxes = self.truth.boxes
        truth = replace(self.truth, boxes=boxes.where(boxes.images < count))
        return replace(
            self, images=self.images[:count], objects=self.objects.first(count), truth=truth
        )

    def to_learn_from(self) -> Annotations:
        """The same file without boxes to find and without what was odd."""
        boxes = self.truth.boxes
        none = boxes.where(np.zeros(len(boxes.numbers), dtype=bool))
        truth = replace(self.truth, boxes=none)
        return replace(self, truth=truth, findings=Findings(self.path))

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
    `bckd.datasets.entries` and `bckd.datasets.boxes`.

    Args:
        folder: of the images, which say what the file does not (their sizes).

    Raises:
        InputError: the file is absent, no JSON, lacks a field, names a category or an image that
            is not listed, or has boxes that are no x, y, width, height.
    """
    annotations = gather_annotations(read_lists(path), path, folder)
    annotations.findings.check()
    return annotations


def gather_annotations(lists: InstanceLists, path: Path, folder: Path | None) -> Annotations:
    """As `read_annotations`, of what is in order in the file; `findings` has all of its faults.

    Args:
        lists: of the file.
        path: of the file, for messages.
    """
    findings = Findings(path)
    if lists.marked:
        findings.add(MARKED)
    images = read_images(lists.images, folder, findings)
    categories = read_categories(lists.categories, findings)
    boxes = read_boxes(lists.annotations or (), images, categories, findings)
    listed = tuple(images.usable.values())
    if lists.annotations is None:
        listed = tuple(replace(image, labelled=False) for image in listed)
    strays = [listed[n] for n in np.unique(boxes.images) if not listed[n].labelled]
    if strays:
        findings.add(BOXES_OF_UNLABELLED, *(image.file_name for image in strays))
    return Annotations(
        path=path,
        images=listed,
        class_names=tuple(categories.usable.values()),
        category_ids=tuple(categories.usable),
        objects=_to_learn(boxes, len(images.usable)),
        truth=BoxesToFind(tuple(categories.usable.items()), boxes),
        labelled=lists.annotations is not None,
        findings=findings,
    )


def class_names_of(path: Path) -> tuple[str, ...]:
    """The class names of a COCO instances JSON file, of which nothing else is looked at.

    Raises:
        InputError: as `read_annotations`, where its lists or its categories are at fault.
    """
    findings = Findings(path)
    categories = read_categories(read_lists(path).categories, findings)
    findings.check()
    return tuple(categories.usable.values())


def _to_learn(boxes: Boxes, images: int) -> ObjectColumns:
    """The boxes to learn, image by image, each image's in the order of the file."""
    rows = np.argsort(boxes.images, kind="stable")
    rows = rows[boxes.learnable[rows]]
    starts = np.searchsorted(boxes.images[rows], np.arange(images + 1))
    return ObjectColumns(starts, boxes.corners[rows], boxes.labels[rows], boxes.crowd[rows])


def _place(name: str, class_names: tuple[str, ...]) -> int:
    """Where a class stands among these; -1 for one of no box, which has no label."""
    return class_names.index(name) if name in class_names else -1
