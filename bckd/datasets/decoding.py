"""An image file as RGB pixels of 8 bits: one rule for each kind of file.

- Turned as its EXIF orientation says, as cameras mean it and viewers show it.
- Transparent parts lie on `BACKGROUND`; what a file hides beneath them is not seen.
- Grey, two colours, palettes, CMYK and YCbCr become RGB.
- Of several frames (GIF, WebP, TIFF, the two of a phone's MPO) the first.
- Values of more than 8 bits, or floats, are refused: a camera's 12 bits in a file of 16 would be
  black throughout, and nothing in the file says which values are black and white.
"""

from __future__ import annotations

import re
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from bckd.system.errors import InputError, reason
from bckd.system.files import what_it_is

BACKGROUND = "white"  # behind transparent parts

_NO_IMAGE = (
    UnidentifiedImageError,
    Image.DecompressionBombError,
    OSError,
    SyntaxError,
    ValueError,
)
# What Pillow raises of a block of tags that is damaged or holds values of the wrong kind.
_NO_TAGS = (struct.error, SyntaxError, TypeError, ValueError, LookupError, AttributeError, OSError)
# How a stored image becomes upright, by its EXIF orientation; 1 is as it is stored.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_QUARTERS = (5, 6, 7, 8)  # orientations that swap width and height
_DEEP = re.compile(
    r"\bSGI16\b|\b(L|LA|RGB|RGBA|RGBX|CMYK);16"
)  # Pillow's names of how pixels are stored


class Header(NamedTuple):
    """What an image file says before its pixels.

    Attributes:
        width, height: in pixels, turned as the EXIF orientation says.
        orientation: that orientation; 1 where the pixels are stored upright.
        format: Pillow's name of the kind of file.
    """

    width: int
    height: int
    orientation: int
    format: str | None


def decode_image(path: Path) -> np.ndarray:
    """Pixels (H, W, 3) uint8, RGB, of the file as it is meant to be seen.

    Raises:
        InputError: the file is no image, or one of more than 8 bits a channel.
    """
    with _opened(path) as file:
        return _upright(file)


def pixels_of(image: Image.Image, name: str) -> np.ndarray:
    """As `decode_image`, of an image that Pillow holds already.

    Args:
        name: for messages.

    Raises:
        InputError: as there.
    """
    try:
        _check_depth(image, name)
        return _upright(image)
    except InputError:
        raise
    except _NO_IMAGE as error:  # opened, and not read yet
        raise InputError(f"image {name} cannot be decoded: {reason(error)}") from error


def _upright(image: Image.Image) -> np.ndarray:
    image.load()  # a TIFF's own reader turns it here, and drops the tag
    turn = _TURNS.get(_orientation(image))
    upright = _on_background(image)
    return np.array(upright if turn is None else upright.transpose(turn))


def header_of(path: Path) -> Header:
    """What the file says before its pixels, which are not read.

    Raises:
        InputError: as `decode_image`, where the header shows it.
    """
    with _opened(path) as file:
        orientation = _orientation(file)
        width, height = file.size
        # Pillow gives a TIFF's size as it is once turned.
        if orientation in _QUARTERS and file.format != "TIFF":
            width, height = height, width
        return Header(width, height, orientation, file.format)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """An image file of 8 bits a channel; what reading it raises becomes one sentence."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would wait for a writer
            raise InputError(f"image {path} is no regular file")
        if not status.st_size:
            raise InputError(f"image {path} is empty")
        with Image.open(path) as file:
            if file.format == "EPS":  # to decode it, Pillow starts Ghostscript
                raise InputError(f"image {path} is PostScript, a program; expected pixels")
            _check_depth(file, str(path))
            yield file
    except InputError:
        raise
    except UnidentifiedImageError as error:
        kind = what_it_is(path) or "it is no image of a known kind"
        raise InputError(f"image {path} cannot be decoded: {kind}") from error
    except FileNotFoundError as error:
        raise InputError(f"image {path} does not exist") from error
    except _NO_IMAGE as error:
        raise InputError(f"image {path} cannot be decoded: {reason(error)}") from error


def _orientation(file: Image.Image) -> int:
    try:
        # Not a PNG's own method, which reads all pixels where there is no tag.
        found = Image.Image.getexif(file).get(ExifTags.Base.Orientation, 1)
        return found if found in _TURNS else 1
    except _NO_TAGS:
        return 1


def _check_depth(image: Image.Image, name: str) -> None:
    """Refuse more than 8 bits a channel; of colours, once they are read, Pillow has kept 8."""
    tiles = getattr(image, "tile", ())  # how a file that is open stores its pixels
    deep_colour = any(_DEEP.search(f"{tile[0]} {tile[3]}") for tile in tiles)
    if deep_colour or image.mode.startswith(("I", "F")):
        raise InputError(
            f"image {name} has values of more than 8 bits, and does not say which are "
            f"black and white; expected 8: scale them to 0..255 and save it anew"
        )


def _on_background(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    image = image.convert("RGBA")
    below = Image.new("RGBA", image.size, BACKGROUND)
    return Image.alpha_composite(below, image).convert("RGB")
