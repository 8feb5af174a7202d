"""The photographs of VOC2007's test set, made of a folder like the official one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bckd.commands.main import run
from bckd.datasets.annotations import read_annotations
from bckd.datasets.coco_classes import COCO_CLASSES
from bckd.datasets.formats import voc2007
from bckd.datasets.formats.voc2007 import write_voc2007
from bckd.system.errors import InputError

SHARED = os.environ.get("BCKD_SHARED")
DOG = ("dog", 0, (48, 240, 195, 371))
PERSON = ("person", 1, (8, 12, 352, 498))


def xml(number: int, sides: tuple[int, int], *objects: tuple[str, int, tuple[int, ...]]) -> str:
    """An XML file as VOC's are: an object is name, difficult, corners."""
    text = "".join(
        f"<object><name>{name}</name><pose>Left</pose><truncated>1</truncated>"
        f"<difficult>{difficult}</difficult><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin>"
        f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for name, difficult, (x1, y1, x2, y2) in objects
    )
    size = f"<size><width>{sides[0]}</width><height>{sides[1]}</height><depth>3</depth></size>"
    return f"<annotation><filename>{number:06}.jpg</filename>{size}{text}</annotation>"


@pytest.fixture
def voc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A test set of four images, of which the lists name three."""
    lists = tmp_path / "lists.json"
    lists.write_text(json.dumps({"train": [2, 4], "val": [1]}))
    monkeypatch.setattr(voc2007, "LISTS", lists)
    root = tmp_path / "VOCdevkit" / "VOC2007"
    content = {
        1: ((353, 500), (DOG, PERSON)),
        2: ((300, 200), (("tvmonitor", 0, (1, 1, 300, 200)),)),
        3: ((500, 375), (DOG,)),
        4: ((500, 375), (("aeroplane", 0, (101, 51, 350, 200)),)),
    }
    (root / "Annotations").mkdir(parents=True)
    (root / "JPEGImages").mkdir()
    (root / "ImageSets" / "Main").mkdir(parents=True)
    for number, (sides, objects) in content.items():
        (root / "Annotations" / f"{number:06}.xml").write_text(xml(number, sides, *objects))
        Image.new("RGB", sides, (200, 10 * number, 0)).save(root / f"JPEGImages/{number:06}.jpg")
    (root / "ImageSets/Main/test.txt").write_text("".join(f"{n:06}\n" for n in content))
    (root / "ImageSets/Main/dog_test.txt").write_text("000001  1\n")
    return root


def rows(root: Path, part: str) -> dict[str, Any]:
    return json.loads((root / f"annotations/instances_{part}.json").read_text())


def test_images_of_the_lists_become_small(voc: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert write_voc2007(voc, out, progress=False) == {"train": (2, 2), "val": (1, 2)}
    assert sorted(x.name for x in (out / "train").iterdir()) == ["000002.jpg", "000004.jpg"]
    assert [(x["id"], x["width"], x["height"]) for x in rows(out, "train")["images"]] == [
        (2, 300, 200),  # never larger
        (4, 320, 240),
    ]
    with Image.open(out / "val" / "000001.jpg") as image:
        assert image.size == (226, 320)
        assert np.abs(np.asarray(image).astype(int) - (200, 10, 0)).max() < 4


def test_boxes_are_the_published_ones(voc: Path, tmp_path: Path) -> None:
    """VOC's first image: its boxes count from 1, and shrink with it, each side by its own factor.

    The numbers are those of the data set that the published runs learnt from.
    """
    out = tmp_path / "out"
    write_voc2007(voc, out, progress=False)
    dog, person = rows(out, "val")["annotations"]
    assert dog == {
        "id": 1,
        "image_id": 1,
        "category_id": 18,
        "bbox": [30.09, 152.96, 94.75, 84.48],
        "area": 8004.48,
        "iscrowd": 0,
        "segmentation": [],
        "difficult": 0,
    }
    assert person["bbox"] == [4.48, 7.04, 220.88, 311.68]
    assert (person["difficult"], person["iscrowd"]) == (1, 0)  # learnt and judged all the same


def test_classes_are_cocos(voc: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_voc2007(voc, out, progress=False)
    names = read_annotations(out / "annotations/instances_train.json").class_names
    assert len(names) == 20
    assert {*names} < {*COCO_CLASSES}
    found = {x["id"]: x["name"] for x in rows(out, "train")["categories"]}
    labels = [found[x["category_id"]] for x in rows(out, "train")["annotations"]]
    assert labels == ["tv", "airplane"]


def test_a_folder_that_lacks_images_is_refused(voc: Path, tmp_path: Path) -> None:
    (tmp_path / "lists.json").write_text(json.dumps({"train": [2, 5], "val": [1]}))
    with pytest.raises(InputError, match=r"lacks 1 of 3 images \(000005\)"):
        write_voc2007(voc, tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_other_classes_are_refused(voc: Path, tmp_path: Path) -> None:
    file = voc / "Annotations" / "000004.xml"
    file.write_text(file.read_text().replace("aeroplane", "licence"))
    with pytest.raises(InputError, match="objects of licence; expected VOC's 20 classes"):
        write_voc2007(voc, tmp_path / "out", progress=False)


def test_what_is_there_stays(voc: Path, tmp_path: Path) -> None:
    write_voc2007(voc, tmp_path / "out", progress=False)
    with pytest.raises(InputError, match="is there already"):
        write_voc2007(voc, tmp_path / "out", progress=False)


def test_as_a_command(voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(["data", "voc2007", str(voc), "--root", str(tmp_path / "out")])
    assert "train 2 images, 2 boxes\nval   1 images, 2 boxes\n" in capsys.readouterr().out
    with pytest.raises(InputError, match="nowhere does not exist"):
        run(["data", "voc2007", str(tmp_path / "nowhere"), "--root", str(tmp_path / "other")])


def test_lists_of_both_parts() -> None:
    lists = json.loads(voc2007.LISTS.read_text())
    assert {part: len(numbers) for part, numbers in lists.items()} == {"train": 2800, "val": 1000}
    assert all(numbers == sorted({*numbers}) for numbers in lists.values())
    assert not {*lists["train"]} & {*lists["val"]}


@pytest.mark.skipif(not SHARED, reason="BCKD_SHARED is not set: the folder that holds real/")
@pytest.mark.parametrize("part", ["train", "val"])
def test_lists_are_those_of_the_published_runs(part: str) -> None:
    content = rows(Path(SHARED or "") / "real" / "voc2007", part)
    assert [x["id"] for x in content["images"]] == json.loads(voc2007.LISTS.read_text())[part]
    assert {(x["name"], x["id"]) for x in content["categories"]} == {*voc2007.CLASSES.values()}
