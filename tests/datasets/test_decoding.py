"""What becomes of each kind of image file."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from bckd.datasets.decoding import decode_image, header_of
from bckd.system.errors import InputError

RED, GREEN, BLUE = (200, 30, 20), (20, 180, 40), (30, 40, 190)
# How a stored image has to be turned to be upright, by its EXIF orientation.
TURNED = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: x.transpose(1, 0, 2)[:, ::-1],
    7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
    8: lambda x: x.transpose(1, 0, 2)[::-1],
}


def picture(height: int = 24, width: int = 40) -> np.ndarray:
    """Three colours, none of which is where another one is after any turn."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, :] = BLUE
    pixels[:8, :16] = RED
    pixels[8:16, :8] = GREEN
    return pixels


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", TURNED)
def test_an_image_is_turned_upright(tmp_path: Path, orientation: int, suffix: str) -> None:
    path = tmp_path / f"image.{suffix}"
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exact = {"lossless": True} if suffix == "webp" else {"quality": 100, "subsampling": 0}
    Image.fromarray(picture()).save(path, exif=exif, **({} if suffix in ("png", "tif") else exact))
    expected = TURNED[orientation](picture())
    found = decode_image(path)
    header = header_of(path)
    assert (header.height, header.width) == found.shape[:2]
    assert header.orientation == orientation
    assert found.shape == expected.shape and found.dtype == np.uint8
    assert np.abs(found.astype(int) - expected).max() < 40  # a JPEG blurs its edges


@pytest.mark.parametrize("value", [0, 1, 9, 77])
def test_an_orientation_that_is_none_is_not_turned(tmp_path: Path, value: int) -> None:
    path = tmp_path / "image.jpg"
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = value
    Image.fromarray(picture()).save(path, exif=exif)
    assert header_of(path).orientation == 1


@pytest.mark.parametrize("value", ["text", b"\xff\xff", 7])
def test_other_tags_of_the_wrong_kind_do_not_matter(tmp_path: Path, value: object) -> None:
    """Phones write them so; only the orientation is read."""
    path = tmp_path / "image.jpg"
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.XResolution] = 72.0
    Image.fromarray(picture()).save(path, exif=exif, quality=100)
    kinds = {"text": (2, b"72/1"), b"\xff\xff": (1, b"\xff\xff\0\0"), 7: (7, b"\7\0\0\0")}
    kind, data = kinds[value]
    content, tag = path.read_bytes(), struct.pack("<HHI", 0x011A, 5, 1)
    order = "<" if tag in content else ">"
    entry = struct.pack(f"{order}HHI", 0x011A, 5, 1)
    start = content.index(entry)
    wrong = struct.pack(f"{order}HHI", 0x011A, kind, len(data)) + data
    path.write_bytes(content[:start] + wrong + content[start + 12 :])
    assert decode_image(path).shape == (40, 24, 3)


def test_postscript_is_never_run(tmp_path: Path) -> None:
    """Whatever the name of its file says."""
    path = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(path, format="EPS")
    for read in (header_of, decode_image):
        with pytest.raises(InputError, match="a.png is PostScript, a program; expected pixels"):
            read(path)


def test_a_block_of_tags_that_is_damaged_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    Image.fromarray(picture()).save(path, exif=b"Exif\0\0" + b"II*\0\xff\xff\xff\x7f")
    assert decode_image(path).shape == (24, 40, 3)


def test_sixteen_bits_a_pixel_are_not_deep(tmp_path: Path) -> None:
    """A bitmap of 5, 6 and 5 bits a channel."""
    path = tmp_path / "image.bmp"
    masks = struct.pack("<III", 0xF800, 0x07E0, 0x001F)
    pixels = struct.pack("<HH", 0xF800, 0x001F) * 2
    header = struct.pack("<IiiHHIIiiII", 40, 2, 2, 1, 16, 3, len(pixels), 0, 0, 0, 0)
    size = 14 + len(header) + len(masks) + len(pixels)
    start = struct.pack("<2sIHHI", b"BM", size, 0, 0, 14 + len(header) + len(masks))
    path.write_bytes(start + header + masks + pixels)
    assert decode_image(path).tolist() == [[[255, 0, 0], [0, 0, 255]]] * 2


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB", "L"])
def test_what_transparent_parts_hide_is_not_seen(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "image.png"
    image = Image.new("RGBA", (30, 20), (*RED, 255))
    image.paste((*BLUE, 0), (0, 0, 10, 20))  # transparent, over a colour
    expected = np.array(Image.new("RGB", (30, 20), RED).convert("L").convert("RGB"))
    if mode in ("RGBA", "LA"):
        image.convert(mode).save(path)
    elif mode == "P":
        palette = image.convert("RGB").quantize(4)
        palette.save(path, transparency=palette.getpixel((0, 0)))
    elif mode == "RGB":
        image.convert("RGB").save(path, transparency=BLUE)
    else:
        grey = image.convert("RGB").convert("L")
        grey.save(path, transparency=grey.getpixel((0, 0)))
    found = decode_image(path)
    assert (found[:, :10] == 255).all(), "transparent parts are white"
    assert not (found[:, 10:] == 255).any()
    if mode in ("L", "LA"):
        assert np.array_equal(found[:, 10:], expected[:, 10:])


def test_half_transparent_is_half_white(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    Image.new("RGBA", (4, 4), (0, 0, 100, 128)).save(path)
    assert np.abs(decode_image(path)[0, 0].astype(int) - [127, 127, 177]).max() <= 1


@pytest.mark.parametrize("name", ["cmyk.jpg", "cmyk.tif", "ycbcr.jpg"])
def test_colours_are_kept(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    mode = {"cmyk": "CMYK", "ycbcr": "YCbCr"}[path.stem]
    Image.new("RGB", (16, 16), RED).convert(mode).save(path)
    assert np.abs(decode_image(path)[8, 8].astype(int) - RED).max() < 12


@pytest.mark.parametrize("suffix", ["gif", "webp", "tif", "png"])
def test_of_several_frames_the_first_counts(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"image.{suffix}"
    frames = [Image.new("RGB", (16, 16), colour) for colour in (GREEN, RED)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert np.abs(decode_image(path)[8, 8].astype(int) - GREEN).max() < 12


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("grey.png", np.full((6, 8), 3000, np.uint16)),
        ("grey.tif", np.full((6, 8), 3000, np.uint16)),
        ("whole.tif", np.full((6, 8), 70_000, np.int32)),
        ("float.tif", np.full((6, 8), 0.25, np.float32)),
    ],
)
def test_deep_grey_is_refused(tmp_path: Path, name: str, values: np.ndarray) -> None:
    path = tmp_path / name
    Image.fromarray(values).save(path)
    with pytest.raises(InputError, match="expected 8: scale them to 0..255") as caught:
        decode_image(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_deep_values_of_sgi(tmp_path: Path) -> None:
    path = tmp_path / "image.sgi"
    Image.fromarray(picture()).save(path)
    content = bytearray(path.read_bytes())
    content[3] = 2  # bytes a channel
    path.write_bytes(bytes(content) + bytes(len(content)))
    with pytest.raises(InputError, match="more than 8 bits"):
        decode_image(path)


@pytest.mark.parametrize("channels", [3, 4])
def test_deep_colour_is_refused(tmp_path: Path, channels: int) -> None:
    """Pillow would show a camera's 12 bits as nearly black."""
    path = tmp_path / "image.png"
    row = b"\0" + struct.pack(">H", 3000) * channels * 5
    path.write_bytes(png(5, 3, depth=16, colour_type=2 if channels == 3 else 6, rows=row * 3))
    with pytest.raises(InputError, match="more than 8 bits"):
        decode_image(path)


def test_colour_that_names_its_white_is_scaled(tmp_path: Path) -> None:
    """A PPM of 12 bits says that 4095 is white."""
    path = tmp_path / "image.ppm"
    values = np.array([[0, 2048, 4095], [4095, 0, 1000]], dtype=">u2")
    path.write_bytes(b"P6 2 1 4095\n" + values.tobytes())
    assert decode_image(path).tolist() == [[[0, 128, 255], [255, 0, 62]]]


def png(width: int, height: int, depth: int, colour_type: int, rows: bytes) -> bytes:
    """A PNG file of rows, each behind its filter byte."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts
