"""A saved detector at work: images in, boxes with names out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import overload

from PIL import Image
from torch import Tensor

from bckd.datasets.coco import Sample, collate
from bckd.datasets.plain_images import AnyImage, path_or_pixels, pixels_at, plain_sample
from bckd.evaluation.average_precision import find_objects
from bckd.structures import Detections
from bckd.system.device import pick_device
from bckd.system.errors import InputError
from bckd.system.telling import first_of
from bckd.zoo.checkpoints import Checkpoint, load_detector

BATCH_SIZE = 16
READERS = 4  # threads that decode the images of a batch
Images = list[AnyImage] | tuple[AnyImage, ...]


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a detector finds in one image, best first.

    Attributes:
        boxes: (D, 4) xyxy in pixels of the image, turned by its EXIF orientation.
        scores: (D,) in 0..1.
        labels: (D,) class index.
        names: of the D classes.
        image: its file, or its pixels (3, H, W) uint8.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    names: tuple[str, ...]
    image: Path | Tensor

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        found = [f"{n} {x:.2f}" for n, x in zip(self.names, self.scores.tolist(), strict=True)]
        return f"Prediction({first_of(found) or 'nothing'})"

    def draw(self) -> Image.Image:
        """The image with the boxes on it, coloured by class."""
        from bckd.viz.named_boxes import named_boxes  # late: who draws nothing needs no matplotlib

        picture = pixels_at(self.image).permute(1, 2, 0).numpy()
        return named_boxes(picture, self.boxes, self.labels, self.scores, self.names)


class LoadedDetector(Checkpoint):
    """A checkpoint that takes images as they come."""

    @overload
    def predict(self, images: AnyImage, threshold: float = 0.3) -> Prediction: ...
    @overload
    def predict(self, images: Images, threshold: float = 0.3) -> list[Prediction]: ...
    def predict(
        self, images: AnyImage | Images, threshold: float = 0.3
    ) -> Prediction | list[Prediction]:
        """What the detector finds, of each image what an evaluation finds in it.

        Args:
            images: a path, a PIL image, an array (H, W, 3) or a tensor (3, H, W) of uint8 RGB;
                or a list of these, which gives a list.
            threshold: lower scores are left out, and those below the detector's own
                (`detector.settings.score_threshold`).

        Raises:
            InputError: an image is none of these or can't be decoded, the threshold is out of
                range, or a box or a score is no number.
        """
        several = isinstance(images, list | tuple)
        given = images if isinstance(images, list | tuple) else [images]
        predictions = []
        for found in self.predict_each(given, threshold):
            if isinstance(found, InputError):
                raise found
            predictions.append(found)
        return predictions if several else predictions[0]

    def predict_each(
        self, images: Iterable[AnyImage], threshold: float = 0.3
    ) -> Iterator[Prediction | InputError]:
        """As `predict`, one image after the other, of which few are in memory at a time.

        In place of an image that can't be decoded comes the error that says so.

        Args:
            images, threshold: as of `predict`.

        Raises:
            InputError: the threshold is out of range, or a box or a score is no number.
        """
        if not 0 <= threshold <= 1:
            raise InputError(f"threshold is {threshold}; expected a number from 0 to 1")
        coming = enumerate(images, 1)
        with ThreadPoolExecutor(READERS) as pool:
            while some := list(islice(coming, BATCH_SIZE)):
                read = list(pool.map(self._read, some))
                found = self._found([x[1] for x in read if not isinstance(x, InputError)])
                for each in read:
                    if isinstance(each, InputError):
                        yield each
                    else:
                        image, sample = each
                        yield self._prediction(found[sample.index], image, threshold)

    def _read(self, numbered: tuple[int, AnyImage]) -> tuple[Path | Tensor, Sample] | InputError:
        """A path or pixels of an image, and what the detector is to see of it."""
        number, given = numbered
        try:
            image = path_or_pixels(given, number)
            return image, plain_sample(image, number, self.size, self.detector.normalisation)
        except InputError as error:
            return error

    def _found(self, samples: Sequence[Sample]) -> dict[int | str, Detections]:
        """The detections of some samples by their index; those of one canvas are a batch."""
        together: dict[tuple[int, int] | None, list[Sample]] = {}
        for sample in samples:
            together.setdefault(sample.canvas, []).append(sample)
        batches = [collate(same, self.size) for same in together.values()]
        return dict(find_objects(self.detector, batches, progress=False))

    def _prediction(self, found: Detections, image: Path | Tensor, threshold: float) -> Prediction:
        chosen = found.scores >= threshold
        labels = found.labels[chosen]
        names = tuple(self.detector.class_names[label] for label in labels.tolist())
        return Prediction(found.boxes[chosen].float(), found.scores[chosen], labels, names, image)


def load(
    source: Path | str, class_names: tuple[str, ...] | None = None, device: str = "auto"
) -> LoadedDetector:
    """Load a detector and bring it to a device, to predict with it.

    Args:
        source, class_names: as of `bckd.zoo.checkpoints.load_detector`: the folder of a run, a
            file of weights, or a published name.
        device: cpu, cuda, cuda:1, mps; auto: cuda where there is one, else cpu.

    Raises:
        InputError: as there, or there is no such device.
    """
    found = load_detector(source, class_names)
    detector = found.detector.to(pick_device(device))
    return LoadedDetector(detector, found.size, found.record, found.made)
