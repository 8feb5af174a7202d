"""COCO-format images as batches for the detector."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torchvision.transforms.v2.functional as transforms
from torch import Tensor
from torchvision import tv_tensors

from bckd.datasets.annotations import Annotations, Objects
from bckd.datasets.augmentations import Augmentation, augment
from bckd.datasets.decoding import decode_image
from bckd.datasets.image_files import look_at_files
from bckd.datasets.preprocessing import Frame, channels_first, resized, with_margins
from bckd.image_size import ImageSize
from bckd.normalisation import IMAGENET, Normalisation
from bckd.structures import Batch, GroundTruth
from bckd.system.errors import InputError

STAND_INS = 8  # images that are tried in place of an unreadable one
AUGMENTED = 1  # beside (seed, epoch, index), so that a flip and an augmentation draw apart


class UnreadableImageError(InputError):
    """The file of an image can't be decoded, or has another size than it had."""


class Key(NamedTuple):
    """Which sample of a data set; a plain (epoch, index) serves as well.

    Attributes:
        epoch, image: what its randomness depends on, beside the seed; image: its index.
        canvas: height and width that the network is to see of it; None: that of the largest
            image of its batch.
        short_side: in pixels, that it is brought to; None: as all images of the data set.
    """

    epoch: int
    image: int
    canvas: tuple[int, int] | None = None
    short_side: int | None = None


@dataclass(frozen=True)
class Sample:
    """One image, brought to size: image (3, H, W) uint8 RGB, boxes in its pixels.

    `frame` is the part of it that is the file's picture, xyxy: all but the margins.
    """

    image: Tensor
    normalisation: Normalisation
    boxes: Tensor
    labels: Tensor
    crowd: Tensor
    original_size: tuple[int, int]
    frame: Frame
    index: int
    flipped: bool
    image_id: int | str
    file_name: str
    canvas: tuple[int, int] | None = None  # see `Key`
    unreadable: tuple[str, ...] = ()  # why images are not there that this one stands in for
    labelled: bool | None = None  # None: all images of the data set are


class CocoDataset(torch.utils.data.Dataset[Sample]):
    """Images of a COCO annotation file, resized and perhaps flipped.

    Args:
        folder: where the files are.
        annotations: the checked annotation file.
        size: how images are brought to size.
        flip: probability of a horizontal flip; 0 for evaluation.
        seed: of the flips. A sample depends on (seed, epoch, index) alone, so a
            resumed run sees what an uninterrupted one would have seen.
        skip_empty: leave out labelled images without any box to learn (official training).
        cache: keep decoded images in memory.
        normalisation: of the detector that the images are for.
        augmentations: see `bckd.datasets.augmentations`; of the samples of an epoch alone.
        stand_ins: the samples of an epoch have another image in place of one that turns out to
            be unreadable; which one depends on the image and its canvas alone.

    Raises:
        InputError: listed images are absent or can't be used, or nothing is left.
    """

    def __init__(
        self,
        folder: Path,
        annotations: Annotations,
        size: ImageSize,
        flip: float = 0.0,
        seed: int = 0,
        skip_empty: bool = False,
        cache: bool = False,
        normalisation: Normalisation = IMAGENET,
        augmentations: Sequence[Augmentation] = (),
        stand_ins: bool = False,
    ) -> None:
        self.folder, self.annotations, self.size = folder, annotations, size
        self.flip, self.seed = flip, seed
        self.normalisation, self.augmentations = normalisation, tuple(augmentations)
        self.stand_ins = stand_ins
        self.images = annotations.training_images if skip_empty else annotations.images
        self.mixed = not all(image.labelled for image in self.images)
        if not self.images:
            small = f" ({annotations.too_small} are below a pixel)"
            what = "image has a box to learn from" + (small if annotations.too_small else "")
            raise InputError(f"{annotations.path}: no {what}")
        self.files = look_at_files(folder, self.images, annotations.path)
        self._cached: dict[int, Tensor] | None = {} if cache else None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: Key | tuple[int, int]) -> Sample:
        """The sample of a key.

        Raises:
            InputError: the file can't be decoded, or has another size than it had; nor can the
                next ones that would fit in its place, where they may.
        """
        epoch, index, canvas, side = Key(*key)
        unreadable: list[str] = []
        for number in chain([index], self._stand_ins(index, canvas, side)):
            drawn = (self.seed, epoch, number, AUGMENTED) if self.augmentations else None
            try:
                sample = self.sample(number, self._flips(epoch, number), drawn, side)
            except UnreadableImageError as error:
                unreadable.append(str(error))
            else:
                return replace(sample, canvas=canvas, unreadable=tuple(unreadable))
        raise InputError(unreadable[0])

    def _stand_ins(
        self, index: int, canvas: tuple[int, int] | None, side: int | None
    ) -> Iterator[int]:
        """The next few images that need no more room than the one at `index` was given.

        Args:
            side: the short one that they are resized to, as in its key.
        """
        if not self.stand_ins:
            return
        size = self._size_of(side)
        rows, columns = canvas or self._canvas(index, size)
        others = ((index + n) % len(self) for n in range(1, len(self)))
        sizes = ((n, *self._canvas(n, size)) for n in others)
        fit = (n for n, height, width in sizes if height <= rows and width <= columns)
        yield from islice(fit, STAND_INS)

    def _size_of(self, short_side: int | None) -> ImageSize:
        return self.size if short_side is None else replace(self.size, short_side=short_side)

    def _canvas(self, index: int, size: ImageSize) -> tuple[int, int]:
        entry = self.images[index]
        return size.canvas(entry.height, entry.width)

    def sample(
        self,
        index: int,
        flipped: bool,
        drawn: Sequence[int] | None = None,
        short_side: int | None = None,
    ) -> Sample:
        """The image at `index`, flipped horizontally or not; raises as `__getitem__` does.

        Args:
            drawn: numbers from which its augmentations follow; None: without them.
            short_side: see `Key`.
        """
        entry = self.images[index]
        size = self._size_of(short_side)
        image = resized(self.pixels(index), size)
        image = transforms.horizontal_flip(image) if flipped else image
        objects = self._objects_in_picture(index, flipped, size)
        if drawn is not None:
            image, objects = augment(image.contiguous(), objects, self.augmentations, drawn)
        image, frame = with_margins(image, self.size)
        objects = _moved(objects, *frame[:2])
        return Sample(
            image,
            self.normalisation,
            objects.boxes,
            objects.labels,
            objects.crowd,
            (entry.height, entry.width),
            frame,
            index,
            flipped,
            entry.id,
            entry.file_name,
            labelled=entry.labelled if self.mixed else None,
        )

    def resized_objects(self, index: int, flipped: bool = False) -> Objects:
        """The boxes of the image at `index` to learn, in pixels of its sample."""
        entry = self.images[index]
        margins = self.size.margins(*self.size.resized(entry.height, entry.width))
        return _moved(self._objects_in_picture(index, flipped, self.size), *margins[:2])

    def _objects_in_picture(self, index: int, flipped: bool, size: ImageSize) -> Objects:
        """The boxes of the image at `index`, in pixels of it once resized, without margins."""
        entry = self.images[index]
        objects = self.annotations.objects_of(entry.id)
        boxes = tv_tensors.BoundingBoxes(
            objects.boxes, format="XYXY", canvas_size=(entry.height, entry.width)
        )
        sides = size.resized(entry.height, entry.width)
        if sides != (entry.height, entry.width):
            boxes = transforms.resize(boxes, list(sides))
        if flipped:
            boxes = transforms.horizontal_flip(boxes)
        return replace(objects, boxes=boxes.as_subclass(Tensor))

    def with_annotations(self, annotations: Annotations) -> CocoDataset:
        """The same images with other annotations of theirs."""
        other = CocoDataset.__new__(CocoDataset)
        vars(other).update(vars(self), annotations=annotations)
        return other

    def __getstate__(self) -> dict[str, Any]:
        """What a process that is spawned to load samples is sent: what samples are made of."""
        return {**vars(self), "annotations": self.annotations.to_learn_from(), "files": []}

    def canvas(self, index: int) -> tuple[int, int]:
        """Height and width that the image at `index` is padded to when it is alone."""
        return self._canvas(index, self.size)

    def batch(self, indices: Iterable[int]) -> Batch:
        """The images at these positions, not to be flipped, each on its own canvas."""
        samples = [replace(self.sample(n, flipped=False), canvas=self.canvas(n)) for n in indices]
        return collate(samples, self.size)

    @property
    def one_size(self) -> bool:
        """Whether all images have the same size once resized."""
        return len({self.size.resized(image.height, image.width) for image in self.images}) == 1

    def pixels(self, index: int) -> Tensor:
        """The decoded file, (3, H, W) uint8 RGB; the channels of a pixel lie together in memory."""
        if self._cached is None:
            return self._decode(index)
        if index not in self._cached:
            self._cached[index] = self._decode(index)
        return self._cached[index]

    def _flips(self, epoch: int, index: int) -> bool:
        if self.flip == 0:
            return False
        return bool(np.random.default_rng((self.seed, epoch, index)).random() < self.flip)

    def _decode(self, index: int) -> Tensor:
        entry = self.images[index]
        path = self.folder / entry.file_name
        try:
            pixels = decode_image(path)
        except InputError as error:
            raise UnreadableImageError(str(error)) from error
        if pixels.shape[:2] != (entry.height, entry.width):
            raise UnreadableImageError(
                f"image {path} is {pixels.shape[1]}x{pixels.shape[0]} pixels, but "
                f"{self.annotations.path} says {entry.width}x{entry.height}"
            )
        return channels_first(pixels)


def _moved(objects: Objects, left: int, top: int) -> Objects:
    """The objects of a picture with margins of so many pixels left of it and above."""
    if not (left or top):
        return objects
    shift = torch.tensor([left, top, left, top], dtype=objects.boxes.dtype)
    return replace(objects, boxes=objects.boxes + shift)


def collate(samples: Sequence[Sample], size: ImageSize) -> Batch:
    """Pad samples on the right and bottom to one batch.

    Where samples have no canvas, all get that of the largest of them.
    """
    sizes = [tuple(sample.image.shape[-2:]) for sample in samples]
    padded = [(size.padded(height), size.padded(width)) for height, width in sizes]
    largest = max(h for h, _ in padded), max(w for _, w in padded)
    canvases = [sample.canvas or largest for sample in samples]
    rows, columns = (max(sides) for sides in zip(*canvases, strict=True))
    # By numpy, which asks for large pages: a quarter of the time.
    pixels = torch.from_numpy(np.zeros((len(samples), rows, columns, 3), np.uint8))
    pixels = pixels.permute(0, 3, 1, 2)
    for image, sample in zip(pixels, samples, strict=True):
        image[:, : sample.image.shape[1], : sample.image.shape[2]] = sample.image
    return Batch(
        pixels=pixels,
        normalisation=samples[0].normalisation,
        sizes=torch.tensor(sizes),
        padded_sizes=torch.tensor(padded),
        canvases=tuple(canvases),
        original_sizes=torch.tensor([sample.original_size for sample in samples]),
        frames=torch.tensor([sample.frame for sample in samples]),
        ground_truth=_truth_of(samples),
        indices=tuple(sample.index for sample in samples),
        flipped=tuple(sample.flipped for sample in samples),
        image_ids=tuple(sample.image_id for sample in samples),
        file_names=tuple(sample.file_name for sample in samples),
        unreadable=tuple(why for sample in samples for why in sample.unreadable),
    )


def _truth_of(samples: Sequence[Sample]) -> GroundTruth:
    truth = GroundTruth.from_lists(
        [sample.boxes for sample in samples],
        [sample.labels for sample in samples],
        [sample.crowd for sample in samples],
    )
    labelled = [sample.labelled for sample in samples]
    # All or none of a data set's samples say so: many processes take the same way through a step.
    return truth if labelled[0] is None else replace(truth, labelled=torch.tensor(labelled))
