"""An image file as RGB pixels of 8 bits: one rule for each kind of file.

- Turned as its EXIF orientation says, as cameras mean it and viewers show it.
- Transparent parts lie on `BACKGROUND`; what a file hides beneath them is not seen.
- Grey, two colours, palettes, CMYK, YCbCr and 16 bits a channel of colour become RGB of 8 bits.
- Of several frames (GIF, WebP, TIFF, the two of a phone's MPO) the first.
- One channel of more than 8 bits, or of floats, is refused: nothing in the file says which of its
  values are black and white.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from bckd.errors import InputError

BACKGROUND = "white"  # behind transparent parts

_NO_IMAGE = (
    UnidentifiedImageError,
    Image.DecompressionBombError,
    OSError,
    SyntaxError,
    ValueError,
)


def decode_image(path: Path) -> np.ndarray:
    """Pixels (H, W, 3) uint8, RGB, of the file as it is meant to be seen.

    Raises:
        InputError: the file is no image, or one of more than 8 bits a channel of grey.
    """
    try:
        with Image.open(path) as file:
            if file.mode.startswith(("I", "F")):
                raise InputError(
                    f"image {path} has values of more than 8 bits (mode {file.mode}), and does not "
                    f"say which are black and white; expected 8: scale them to 0..255 and save "
                    f"it anew"
                )
            ImageOps.exif_transpose(file, in_place=True)
            return np.array(_on_background(file))
    except InputError:
        raise
    except _NO_IMAGE as error:
        raise InputError(f"image {path} cannot be decoded: {error}") from error


def orientation_of(path: Path) -> int:
    """The EXIF orientation of an image file; 1 (as it is stored) where it has none."""
    with Image.open(path) as file:
        return file.getexif().get(ExifTags.Base.Orientation, 1)


def _on_background(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    below = Image.new("RGBA", image.size, BACKGROUND)
    return Image.alpha_composite(below, image).convert("RGB")
