"""A saved detector at work: images in, boxes with names out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import overload

from PIL import Image
from torch import Tensor

from bckd.datasets.plain_images import AnyImage, PlainImages, pixels_at
from bckd.evaluation.average_precision import evaluation_loader, find_objects
from bckd.system.device import pick_device
from bckd.system.errors import InputError
from bckd.system.telling import first_of
from bckd.zoo.checkpoints import Checkpoint, load_detector

BATCH_SIZE = 16
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
        from bckd.viz.detections import named_boxes  # late: who draws nothing needs no matplotlib

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
        if not 0 <= threshold <= 1:
            raise InputError(f"threshold is {threshold}; expected a number from 0 to 1")
        several = isinstance(images, list | tuple)
        given = images if isinstance(images, list | tuple) else [images]
        dataset = PlainImages(given, self.size, self.detector.normalisation)
        found = dict(
            find_objects(self.detector, evaluation_loader(dataset, BATCH_SIZE), progress=False)
        )
        predictions = []
        for index, image in enumerate(dataset.images):
            chosen = found[index].scores >= threshold
            labels = found[index].labels[chosen]
            names = tuple(self.detector.class_names[label] for label in labels.tolist())
            boxes = found[index].boxes[chosen].float()
            predictions.append(Prediction(boxes, found[index].scores[chosen], labels, names, image))
        return predictions if several else predictions[0]


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
