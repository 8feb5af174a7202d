"""The nouns: what flows from the data set through the detector to the losses.

Shape letters used throughout the package: N images, A locations of an image
(all levels, anchors or points), K classes, G boxes of an image (padded to the
largest count of the batch), L pyramid levels, H and W height and width.
Boxes are xyxy in pixels of the padded batch unless a docstring says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from bckd.normalisation import Normalisation


@dataclass(frozen=True)
class Level:
    """One level of the feature pyramid: its stride in pixels, its grid, locations a cell."""

    stride: int
    height: int
    width: int
    per_cell: int = 1

    @property
    def count(self) -> int:
        """Number of locations of the level."""
        return self.height * self.width * self.per_cell


@dataclass(frozen=True)
class Locations:
    """Where the predictions of one image stand; the same for the whole batch.

    Order: levels from fine to coarse, each row by row, the locations of a cell together.

    Attributes:
        centres: (A, 2) x and y in pixels.
        strides: (A,) stride of each location's level, in pixels.
        levels: the L levels.
        anchors: (A, 4) anchor boxes, or None where the detector predicts from points.
    """

    centres: Tensor
    strides: Tensor
    levels: tuple[Level, ...]
    anchors: Tensor | None = None

    @property
    def counts(self) -> list[int]:
        """Number of locations of each level; sums to A."""
        return [level.count for level in self.levels]

    def inside(self, sizes: Tensor) -> Tensor:
        """(N, A) bool: the location's cell starts inside an image of `sizes`.

        Args:
            sizes: (N, 2) height and width in pixels.
        """
        column_row = self.centres / self.strides[:, None]
        cells = torch.ceil(sizes[:, None].flip(-1) / self.strides[:, None])
        return (column_row.floor() < cells).all(dim=-1)


@dataclass(frozen=True)
class KeptScores:
    """What `DenseOutput.scores` and `background_bce` are of these class logits, (N, A, K) each."""

    cls_logits: Tensor
    scores: Tensor
    background_bce: Tensor


@dataclass(frozen=True)
class DenseOutput:
    """All that a dense detector says of a batch, in training as in evaluation.

    Tensors are float32, also under autocast: areas and sums overflow in half precision.

    Attributes:
        cls_logits: (N, A, K) raw classification logits.
        boxes: (N, A, 4) decoded boxes, not clipped to the image.
        locations: the A locations.
        box_logits: (N, A, 4, bins) logits of the four side distributions (left,
            top, right, bottom; a bin is one stride), or None.
        deltas: (N, A, 4) offsets of the boxes from the anchors, where the supervised loss
            compares these (see `geometry.boxes_to_deltas`), or None.
        quality: (N, A) centerness logits, or None.
        features: the pyramid's L maps, (N, C, H, W) each.
        kept: see `keeping_scores`.
    """

    cls_logits: Tensor
    boxes: Tensor
    locations: Locations
    box_logits: Tensor | None = None
    deltas: Tensor | None = None
    quality: Tensor | None = None
    features: tuple[Tensor, ...] = ()
    kept: KeptScores | None = None

    def __repr__(self) -> str:
        shapes = [f"{name} {tuple(x.shape)}" for name, x in self.per_location().items()]
        strides = ", ".join(str(level.stride) for level in self.locations.levels)
        return f"DenseOutput({', '.join(shapes)}, strides {strides})"

    @property
    def scores(self) -> Tensor:
        """(N, A, K) sigmoids of the class logits."""
        kept = self._kept()
        return self.cls_logits.sigmoid() if kept is None else kept.scores

    @property
    def background_bce(self) -> Tensor:
        """(N, A, K) cross-entropy of each score with 0: -log(1 - score).

        With a target y it is that minus y * logit.
        """
        kept = self._kept()
        return F.softplus(self.cls_logits) if kept is None else kept.background_bce

    def keeping_scores(self) -> Self:
        """The same, whose `scores` and `background_bce` are computed once for all that ask."""
        return replace(self, kept=KeptScores(self.cls_logits, self.scores, self.background_bce))

    def _kept(self) -> KeptScores | None:
        """What was kept, unless it is of other logits (those of a copy, by `replace`)."""
        kept = self.kept
        return kept if kept is not None and kept.cls_logits is self.cls_logits else None

    def per_location(self) -> dict[str, Tensor]:
        """What is said of each location, (N, A, ...) by the name of its field; no None."""
        names = ("cls_logits", "boxes", "box_logits", "deltas", "quality")
        values = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class GroundTruth:
    """Annotated boxes of a batch, padded to the largest count.

    Attributes:
        boxes: (N, G, 4).
        labels: (N, G) class index, or -1 where the row is padding.
        crowd: (N, G) bool: a region with many objects, none of which is a box of its own.
        has_crowd: whether there is any such region; known without asking the device.
        labelled: (N,) bool: images whose objects are annotated. Of the others nothing is known:
            they have no box, and no place of theirs is background. None: all images are.
    """

    boxes: Tensor
    labels: Tensor
    crowd: Tensor
    has_crowd: bool = True
    labelled: Tensor | None = None

    @property
    def objects(self) -> Tensor:
        """(N, G) bool: rows to detect (neither padding, crowd nor of zero area)."""
        sides = self.boxes[..., 2:] - self.boxes[..., :2]
        return (self.labels >= 0) & ~self.crowd & (sides > 0).all(dim=-1)

    @classmethod
    def from_lists(
        cls, boxes: list[Tensor], labels: list[Tensor], crowd: list[Tensor] | None = None
    ) -> Self:
        """Pad one (G_n, 4), (G_n,), (G_n,) tensor per image to a batch."""
        crowd = crowd or [torch.zeros_like(image, dtype=torch.bool) for image in labels]
        pad = torch.nn.utils.rnn.pad_sequence
        return cls(
            boxes=pad([image.reshape(-1, 4) for image in boxes], batch_first=True),
            labels=pad(labels, batch_first=True, padding_value=-1),
            crowd=pad(crowd, batch_first=True),
            has_crowd=any(bool(image.any()) for image in crowd),
        )

    def to(self, device: torch.device | str) -> Self:
        """The same ground truth on another device."""
        return self.with_each(_mover(device))

    def pin_memory(self) -> Self:
        """The same ground truth in page-locked memory."""
        return self.with_each(Tensor.pin_memory)

    def with_each(self, change: Callable[[Tensor], Tensor]) -> Self:
        """The same ground truth with what `change` makes of each tensor."""
        boxes, labels, crowd = (change(x) for x in (self.boxes, self.labels, self.crowd))
        labelled = None if self.labelled is None else change(self.labelled)
        return replace(self, boxes=boxes, labels=labels, crowd=crowd, labelled=labelled)


@dataclass(frozen=True)
class Batch:
    """Images brought to size, with what is needed to undo the resizing.

    Attributes:
        pixels: (N, 3, H, W) uint8 RGB, zero-padded on the right and bottom to the largest canvas;
            in memory the channels of a pixel lie together. `images` is what a network takes.
        normalisation: of the detector that the images are for.
        sizes: (N, 2) height and width of each image after resizing, before padding on the
            right and bottom.
        padded_sizes: (N, 2) each image's own size rounded up to the padding
            multiple. Locations beyond it take no part in training.
        canvases: height and width of what the network is to see of each image: the largest
            padded size of its group (see `bckd.groups`).
        original_sizes: (N, 2) height and width of the file.
        frames: (N, 4) xyxy pixels that the file's picture takes up; what else lies within
            `sizes` are black margins (see `ImageSize.centred`).
        ground_truth: boxes after resizing.
        indices: positions in the data set.
        flipped: whether each image was flipped horizontally.
        image_ids: the ids in the annotation file.
        file_names: for messages.
        unreadable: why images are not there that others stand in for, a sentence each.
    """

    pixels: Tensor
    normalisation: Normalisation
    sizes: Tensor
    padded_sizes: Tensor
    canvases: tuple[tuple[int, int], ...]
    original_sizes: Tensor
    frames: Tensor
    ground_truth: GroundTruth
    indices: tuple[int, ...]
    flipped: tuple[bool, ...]
    image_ids: tuple[int | str, ...]
    file_names: tuple[str, ...]
    unreadable: tuple[str, ...] = ()

    @cached_property
    def images(self) -> Tensor:
        """(N, 3, H, W) float32: the pixels normalised, padding 0; on the device of the pixels.

        Computed when first asked for, and kept.
        """
        return self.normalisation.images_of(self.pixels, self.sizes)

    def part(self, rows: slice) -> Self:
        """Some of the images, in the memory of all."""
        ours = {field.name: getattr(self, field.name) for field in fields(self)}
        alike = ("normalisation", "ground_truth")
        truth = self.ground_truth.with_each(lambda tensor: tensor[rows])
        chosen = {name: value[rows] for name, value in ours.items() if name not in alike}
        return replace(self, ground_truth=truth, **chosen)

    def parts(self, count: int) -> list[Self]:
        """So many equal parts, images in a row."""
        size = len(self.pixels) // count
        return [self.part(slice(start, start + size)) for start in range(0, count * size, size)]

    def to(self, device: torch.device | str) -> Self:
        """The same batch with what a training step reads on another device.

        `original_sizes` and `frames` stay on the host. A GPU copies from page-locked memory (see
        `pin_memory`) while the host goes on.
        """
        return self._with_each_of_a_step(_mover(device))

    def pin_memory(self) -> Self:
        """The same batch with all that `to` moves in page-locked memory.

        A DataLoader calls it where it is told to pin.
        """
        return self._with_each_of_a_step(Tensor.pin_memory)

    def _with_each_of_a_step(self, change: Callable[[Tensor], Tensor]) -> Self:
        return replace(
            self,
            pixels=change(self.pixels),
            sizes=change(self.sizes),
            padded_sizes=change(self.padded_sizes),
            ground_truth=self.ground_truth.with_each(change),
        )


def _mover(device: torch.device | str) -> Callable[[Tensor], Tensor]:
    # Towards the host a copy that is not waited for could be read before it is there.
    ahead = torch.device(device).type == "cuda"
    return lambda tensor: tensor.to(device, non_blocking=ahead)


@dataclass(frozen=True)
class Assignment:
    """What each location of a batch shall learn.

    Attributes:
        labels: (N, A) class index; K (the number of classes) means background.
        boxes: (N, A, 4) target box of the positives, zeros elsewhere.
        valid: (N, A) bool: inside the image; distillation uses these.
        counted: (N, A) bool: takes part in the supervised classification loss
            (valid, not in a crowd region, in a labelled image).
        positive: (N, A) bool.
        num_positives: what sums over this process's images are divided by: scalar, positives
            of the batch, averaged over processes, at least 1 a group. Where locations have
            anchors an image without any counts as one (as the official code does), but for one
            that is not labelled. RetinaNet's groups each have their own: then (N,).
        images_per_group: see `bckd.groups`; distillation asks which levels of a group have a
            positive.
        localisation_region: (N, A) weight of the valuable localisation region,
            or None where nobody asked for it.
    """

    labels: Tensor
    boxes: Tensor
    valid: Tensor
    counted: Tensor
    positive: Tensor
    num_positives: Tensor
    localisation_region: Tensor | None = None
    images_per_group: int | None = None

    @classmethod
    def for_distillation(cls, positive: Tensor, valid: Tensor | None = None) -> Self:
        """All that distillation asks of an assignment, of one that is made elsewhere.

        It teaches nothing from labels: it has no classes and no boxes.

        Args:
            positive: (N, A) bool: locations that learn an object.
            valid: (N, A) bool: locations to distil at; None: all of them.
        """
        valid = torch.ones_like(positive) if valid is None else valid
        return cls(
            labels=torch.zeros_like(positive, dtype=torch.long),
            boxes=torch.zeros(*positive.shape, 4, device=positive.device),
            valid=valid,
            counted=valid,
            positive=positive,
            num_positives=positive.sum(dim=1).clamp(min=1).sum().float(),
        )

    def over_positives(self, values: Tensor) -> Tensor:
        """The sum of values (N, ...), divided by the number of positives; scalar."""
        if self.num_positives.dim() == 0:
            return values.sum() / self.num_positives
        return (values.flatten(1).sum(dim=1) / self.num_positives).sum()


@dataclass(frozen=True)
class Detections:
    """Final detections of one image, best first.

    Attributes:
        boxes: (D, 4).
        scores: (D,).
        labels: (D,) class index.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor

    @property
    def finite(self) -> bool:
        """Whether every box and score is a number."""
        return bool(self.boxes.isfinite().all() & self.scores.isfinite().all())
