"""Sources of other formats, written and converted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from bckd.datasets.annotations import Annotations
from bckd.datasets.formats.converting import convert
from bckd.system.errors import InputError

SIDES = (40, 20)


def picture(path: Path, sides: tuple[int, int] = SIDES, orientation: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", sides, "grey")
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(path, exif=exif)


def make(root: Path, files: dict[str, str | bytes | None]) -> Path:
    """A folder of files: text, bytes, or None for a picture."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            picture(path)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def boxes(part: Annotations) -> dict[str, list[tuple[str, list[float]]]]:
    """By file name, class and bbox of each box."""
    content = part.content
    names = {row["id"]: row["name"] for row in content["categories"]}
    files = {row["id"]: row["file_name"] for row in content["images"]}
    found: dict[str, list[tuple[str, list[float]]]] = {name: [] for name in files.values()}
    for row in content["annotations"]:
        found[files[row["image_id"]]].append((names[row["category_id"]], row["bbox"]))
    return found


@pytest.fixture(name="picture")
def _picture() -> Callable[..., None]:
    return picture


@pytest.fixture(name="make")
def _make() -> Callable[..., Path]:
    return make


@pytest.fixture(name="boxes")
def _boxes() -> Callable[..., dict[str, list[tuple[str, list[float]]]]]:
    return boxes


@pytest.fixture
def converted(tmp_path: Path) -> Callable[..., dict[str, Annotations]]:
    def converted(
        files: dict[str, str | bytes | None], **settings: object
    ) -> dict[str, Annotations]:
        source = make(tmp_path / "source", files)
        return convert(source, tmp_path / "out", progress=False, **settings).parts

    return converted


@pytest.fixture
def refusal(tmp_path: Path) -> Callable[..., str]:
    """The sentence that refuses a source; nothing is written."""

    def refusal(files: dict[str, str | bytes | None], **settings: object) -> str:
        source = make(tmp_path / "source", files)
        with pytest.raises(InputError) as caught:
            convert(source, tmp_path / "out", progress=False, **settings)
        assert [path.name for path in tmp_path.iterdir()] == ["source"]
        message = str(caught.value)
        assert "\n" not in message
        return message

    return refusal
