"""`bckd predict`: drawings, COCO results, a table, and what can't be read."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image
from pycocotools.coco import COCO

import bckd
from bckd import prediction
from bckd.commands.main import main
from bckd.commands.predicted import line_of
from bckd.datasets import plain_images
from bckd.system.errors import InputError

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def photos(scenes_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Images of one name in two folders, one of them turned by its EXIF tag, and odd names."""
    monkeypatch.chdir(tmp_path)
    names = sorted((scenes_root / "val").iterdir())
    for folder in ("a", "b/deep"):
        (tmp_path / "photos" / folder).mkdir(parents=True)
    shutil.copy(names[0], "photos/a/1.png")
    shutil.copy(names[1], "photos/b/deep/猫 ü.png")
    with Image.open(names[2]) as image:
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6
        image.resize((96, 64)).transpose(Image.Transpose.ROTATE_90).save(
            "photos/b/1.png", exif=exif
        )
        image.save("photos/b/photo.bmp")
        image.convert("RGB").save("photos/b/photo.JPG", format="JPEG")
    return Path("photos")


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    def call(*arguments: object) -> tuple[int, str, str]:
        words = ["bckd", "predict", *map(str, arguments), "--device", "cpu"]
        monkeypatch.setattr(sys, "argv", words)
        monkeypatch.setenv("COLUMNS", "80")
        with pytest.raises(SystemExit) as caught:
            main()
        return int(caught.value.code or 0), *capsys.readouterr()

    return call


def test_is_what_the_library_finds(call: Call, photos: Path, tiny_teacher: Path) -> None:
    code, text, error = call(tiny_teacher, photos, "--out", "out", "--threshold", 0.2)
    assert (code, error) == (0, "")
    images = json.loads(Path("out/images.json").read_text(encoding="utf-8"))
    rows = json.loads(Path("out/detections.json").read_text(encoding="utf-8"))
    names = ["a/1.png", "b/1.png", "b/deep/猫 ü.png", "b/photo.JPG", "b/photo.bmp"]
    assert [row["file_name"] for row in images["images"]] == names
    assert rows
    loaded = bckd.load(tiny_teacher, device="cpu")
    together = loaded.predict([photos / name for name in names], threshold=0.2)
    for entry, found in zip(images["images"], together, strict=True):
        with Image.open(photos / entry["file_name"]) as image:
            turned = image.getexif().get(ExifTags.Base.Orientation) == 6
            size = image.size[::-1] if turned else image.size
        assert (entry["width"], entry["height"]) == size
        own = [row for row in rows if row["image_id"] == entry["id"]]
        assert {row["file_name"] for row in own} <= {entry["file_name"]}
        assert [row["score"] for row in own] == found.scores.tolist()
        assert tuple(row["category_name"] for row in own) == found.names
        boxes = np.array([row["bbox"] for row in own]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        np.testing.assert_allclose(boxes, found.boxes.numpy(), atol=2e-3)
        (line,) = [x for x in text.splitlines() if x.startswith(entry["file_name"])]
        assert line.removeprefix(entry["file_name"]).split()[0] == str(len(found))


def test_other_tools_read_the_files(call: Call, photos: Path, tiny_teacher: Path) -> None:
    call(tiny_teacher, photos, "--out", "out", "--threshold", 0)
    with contextlib.redirect_stdout(StringIO()):
        coco = COCO("out/images.json")
        results = coco.loadRes("out/detections.json")
    rows = results.loadAnns(results.getAnnIds())
    assert rows and {row["image_id"] for row in rows} <= set(coco.getImgIds())
    assert {coco.cats[row["category_id"]]["name"] == row["category_name"] for row in rows} == {True}


def test_every_image_is_drawn_under_its_name(call: Call, photos: Path, tiny_teacher: Path) -> None:
    assert call(tiny_teacher, photos, "--out", "out")[0] == 0
    drawn = {
        path.relative_to("out").as_posix() for path in Path("out").rglob("*") if path.is_file()
    }
    names = {"a/1.png", "b/1.png", "b/deep/猫 ü.png", "b/photo.JPG", "b/photo.bmp.png"}
    assert drawn == names | {"detections.json", "images.json"}
    with Image.open("out/b/1.png") as upright:
        assert upright.width > upright.height
    with Image.open("out/b/photo.JPG") as photo:
        assert photo.format == "JPEG"


def test_what_cannot_be_read_is_named_and_the_rest_done(
    call: Call, photos: Path, tiny_teacher: Path
) -> None:
    (photos / "b" / "broken.jpg").write_text("no pixels")
    code, text, error = call(tiny_teacher, photos, "absent.png", "--out", "out")
    assert code == 1
    assert "5 images" in text and len(error.splitlines()) == 3
    assert "broken.jpg cannot be decoded" in error and "absent.png does not exist" in error
    assert len(json.loads(Path("out/images.json").read_text(encoding="utf-8"))["images"]) == 5
    assert max(map(len, text.splitlines())) <= 80


def test_nothing_that_can_be_read_is_refused(call: Call, photos: Path, tiny_teacher: Path) -> None:
    code, _, error = call(tiny_teacher, "x.png", "--out", "out")
    assert code == 2 and error.splitlines()[-1].startswith("bckd: error: image x.png does not ")
    code, _, error = call(tiny_teacher, "x.png", "y.png", "--out", "out")
    assert code == 2 and "x.png" in error and "y.png" in error
    assert not Path("out").exists()


def test_no_image_is_replaced(call: Call, photos: Path, tiny_teacher: Path) -> None:
    before = (photos / "a" / "1.png").read_bytes()
    code, _, error = call(tiny_teacher, photos / "a", "--out", photos / "a")
    assert code == 2 and "would be replaced by its drawing; name another --out" in error
    shutil.copy(photos / "a" / "1.png", photos / "b" / "photo.bmp.png")
    code, _, error = call(tiny_teacher, photos / "b", "--out", "out")
    assert code == 2 and "would both be drawn" in error and not Path("out").exists()
    assert (photos / "a" / "1.png").read_bytes() == before


def test_few_images_are_in_memory(
    photos: Path, tiny_teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more than a batch is read before its predictions are taken."""
    read = []
    decode = plain_images.decode_image
    monkeypatch.setattr(plain_images, "decode_image", lambda x: read.append(x) or decode(x))
    monkeypatch.setattr(prediction, "BATCH_SIZE", 2)
    stream = bckd.load(tiny_teacher, device="cpu").predict_each(
        photos / "a/1.png" for _ in range(9)
    )
    for number, found in enumerate(stream):
        assert not isinstance(found, InputError)
        assert len(read) <= 2 * (number // 2 + 1)
    assert number == 8


def test_an_image_that_is_none_stops_a_list_and_no_stream(photos: Path, tiny_teacher: Path) -> None:
    loaded = bckd.load(tiny_teacher, device="cpu")
    given = [photos / "a/1.png", "https://example.org/cat.jpg", photos / "b/1.png"]
    kinds = [isinstance(x, InputError) for x in loaded.predict_each(given)]
    assert kinds == [False, True, False]
    with pytest.raises(InputError, match="is an address"):
        loaded.predict(given)


def test_lines_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    words = ["person 0.91", "dog 0.80", "cat 0.70"]
    assert line_of("a.jpg", "3", words, 10) == "a.jpg           3  person 0.91, dog 0.80"
    assert line_of("folder/long.jpg", "0", [], 10) == "...ong.jpg      0"
