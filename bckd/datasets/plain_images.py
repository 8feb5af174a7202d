"""Images without annotations, as a detector takes them: files, or what a program holds."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bckd.datasets.coco import Sample
from bckd.datasets.decoding import decode_image, pixels_of
from bckd.datasets.preprocessing import channels_first, resized, with_margins
from bckd.image_size import ImageSize
from bckd.normalisation import Normalisation
from bckd.system.errors import InputError

AnyImage = str | Path | Image.Image | np.ndarray | Tensor


def plain_sample(
    image: Path | Tensor, number: int, size: ImageSize, normalisation: Normalisation
) -> Sample:
    """An image as `CocoDataset` prepares it for evaluation, alone and with no box to find.

    Args:
        image: its file, or its pixels (3, H, W) uint8 RGB. What has an EXIF orientation is turned
            by it.
        number: of it, its index and its id.
        size: how images are brought to size.
        normalisation: of the detector that the image is for.

    Raises:
        InputError: the file can't be decoded.
    """
    pixels = pixels_at(image)
    _, height, width = pixels.shape
    resized_image, frame = with_margins(resized(pixels, size), size)
    return Sample(
        resized_image,
        normalisation,
        boxes=torch.zeros(0, 4),
        labels=torch.zeros(0, dtype=torch.long),
        crowd=torch.zeros(0, dtype=torch.bool),
        original_size=(height, width),
        frame=frame,
        index=number,
        flipped=False,
        image_id=number,
        file_name=str(image) if isinstance(image, Path) else f"number {number}",
        canvas=size.canvas(height, width),
    )


def pixels_at(image: Path | Tensor) -> Tensor:
    """(3, H, W) uint8 RGB: the pixels themselves, or those of a file.

    Raises:
        InputError: the file can't be decoded.
    """
    return channels_first(decode_image(image)) if isinstance(image, Path) else image


def path_or_pixels(image: AnyImage, number: int) -> Path | Tensor:
    """The path of an image's file, or its pixels (3, H, W) uint8.

    Args:
        image: a path, a PIL image, an array (H, W, 3) or a tensor (3, H, W) of uint8 RGB.
        number: of it, for messages.

    Raises:
        InputError: it is none of these.
    """
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
