"""Images without annotations, as a detector takes them: files, or what a program holds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bckd.datasets.coco import Key, Sample
from bckd.datasets.decoding import decode_image, header_of, pixels_of
from bckd.datasets.preprocessing import channels_first, resized, with_margins
from bckd.image_size import ImageSize
from bckd.normalisation import Normalisation
from bckd.system.errors import InputError

AnyImage = str | Path | Image.Image | np.ndarray | Tensor


class PlainImages(torch.utils.data.Dataset[Sample]):
    """Images as `CocoDataset` prepares them for evaluation, with no box to find.

    Args:
        images: of each a path, a PIL image, an array (H, W, 3) or a tensor (3, H, W) of uint8
            RGB. What has an EXIF orientation is turned by it.
        size: how images are brought to size.
        normalisation: of the detector that the images are for.

    Raises:
        InputError: one is none of these, or can't be decoded.
    """

    def __init__(
        self, images: Sequence[AnyImage], size: ImageSize, normalisation: Normalisation
    ) -> None:
        self.size, self.normalisation = size, normalisation
        self.images = [_path_or_pixels(image, n) for n, image in enumerate(images, 1)]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: Key) -> Sample:
        """The sample of a key, whose image id is its index; raises as `pixels_at` does."""
        index, canvas = Key(*key)[1:3]
        pixels = pixels_at(self.images[index])
        image, frame = with_margins(resized(pixels, self.size), self.size)
        return Sample(
            image,
            self.normalisation,
            boxes=torch.zeros(0, 4),
            labels=torch.zeros(0, dtype=torch.long),
            crowd=torch.zeros(0, dtype=torch.bool),
            original_size=(pixels.shape[1], pixels.shape[2]),
            frame=frame,
            index=index,
            flipped=False,
            image_id=index,
            file_name=self._name(index),
            canvas=canvas,
        )

    def canvas(self, index: int) -> tuple[int, int]:
        """Height and width that the image at `index` is padded to when it is alone."""
        image = self.images[index]
        if isinstance(image, Path):
            header = header_of(image)
            return self.size.canvas(header.height, header.width)
        return self.size.canvas(*image.shape[1:])

    def _name(self, index: int) -> str:
        image = self.images[index]
        return str(image) if isinstance(image, Path) else f"number {index + 1}"


def pixels_at(image: Path | Tensor) -> Tensor:
    """(3, H, W) uint8 RGB: the pixels themselves, or those of a file.

    Raises:
        InputError: the file can't be decoded.
    """
    return channels_first(decode_image(image)) if isinstance(image, Path) else image


def _path_or_pixels(image: AnyImage, number: int) -> Path | Tensor:
    """A path, or pixels (3, H, W) uint8."""
    match image:
        case str() if re.match(r"[a-z][a-z0-9+.-]+://", image, re.IGNORECASE):
            raise InputError(f"image {image} is an address; expected a file: fetch it first")
        case str() | Path():
            return Path(image)
        case Image.Image():
            return channels_first(pixels_of(image, f"number {number}"))
        case np.ndarray(dtype=np.uint8, shape=(_, _, 3)) if image.size:
            return channels_first(np.ascontiguousarray(image))
        case Tensor(dtype=torch.uint8, shape=(3, _, _)) if image.numel():
            return image.cpu()
    kind = type(image).__name__
    if isinstance(image, np.ndarray | Tensor):
        kind = f"{kind} of {image.dtype} and shape {tuple(image.shape)}"
    raise InputError(
        f"image number {number} is {kind}; expected a path, a PIL image, an array (H, W, 3) of "
        f"uint8 or a tensor (3, H, W) of uint8"
    )
