"""What annotation tools write is read as people expect: which boxes of which files come out.

Each export is written here as the tool lays out its fields, for three images of two classes.
"""

from __future__ import annotations

import contextlib
import io
import json
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bckd.datasets.annotations import Annotations, read_annotations
from bckd.datasets.coco import CocoDataset
from bckd.image_size import ImageSize
from bckd.system.errors import InputError

NAMES = ("bolt 1.jpg", "bolt 2.jpg", "nut.jpg")
BOXES = ([4.0, 5.0, 20.0, 10.0], [1.5, 2.0, 30.25, 40.0], [30.0, 8.0, 30.0, 38.0])
CLASSES = ("bolt", "bolt", "nut")
TRUTH = sorted(zip(NAMES, CLASSES, map(tuple, BOXES), strict=True))


def draw(folder: Path, names: Sequence[str] = NAMES) -> Path:
    """Images of 64 x 48 pixels."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 48), (number, 90, 9)).save(path)
    return folder


def export(first_id: int = 1, first_class: int = 1) -> dict[str, Any]:
    """The lists with what all tools write."""
    return {
        "images": [
            {"id": n, "file_name": name, "width": 64, "height": 48}
            for n, name in enumerate(NAMES, first_id)
        ],
        "annotations": [
            {
                "id": n,
                "image_id": n,
                "category_id": first_class + (name == "nut"),
                "bbox": box,
                "area": box[2] * box[3],
                "segmentation": [],
                "iscrowd": 0,
            }
            for n, (box, name) in enumerate(zip(BOXES, CLASSES, strict=True), first_id)
        ],
        "categories": [
            {"id": first_class, "name": "bolt"},
            {"id": first_class + 1, "name": "nut"},
        ],
    }


def rename(content: dict[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    for row in content["images"]:
        row["file_name"] = change(row["file_name"])
    return content


def read(folder: Path, content: Any, before: bytes = b"") -> Annotations:
    """What is read of an export; its files are there."""
    path = folder.parent / "export.json"
    path.write_bytes(before + json.dumps(content).encode())
    found = read_annotations(path, folder)
    CocoDataset(folder, found, ImageSize(48, 64))
    return found


def truth_of(found: Annotations) -> list[tuple[str, str, tuple[float, ...]]]:
    """(file, class, x, y, width and height) of every box."""
    boxes = found.truth.boxes
    rows = zip(boxes.images, boxes.labels, boxes.bbox.tolist(), strict=True)
    names = [name for _, name in found.truth.categories]
    return sorted((found.images[i].file_name, names[label], tuple(box)) for i, label, box in rows)


def told(found: Annotations) -> list[str]:
    stream = io.StringIO()
    with contextlib.redirect_stdout(stream):
        found.findings.tell()
    return stream.getvalue().splitlines()


def test_as_it_should_be(tmp_path: Path) -> None:
    found = read(draw(tmp_path / "images"), export())
    assert truth_of(found) == TRUTH and not told(found)


class TestTools:
    def test_roboflow(self, tmp_path: Path) -> None:
        """Ids from 0, a root class without boxes, names with a hash, what they were beside."""
        content = export(0, first_class=1)
        content["categories"] = [
            {"id": 0, "name": "parts", "supercategory": "none"},
            *({**row, "supercategory": "parts"} for row in content["categories"]),
        ]
        rename(content, lambda name: f"{name.replace(' ', '-')[:-4]}_jpg.rf.8d93c8.jpg")
        for row in content["images"]:
            row |= {"license": 1, "date_captured": "2024-05-01", "extra": {"name": "x.jpg"}}
        names = [row["file_name"] for row in content["images"]]
        found = read(draw(tmp_path / "train", names), content)
        assert [(kind, box) for _, kind, box in truth_of(found)] == [x[1:] for x in TRUTH]
        assert found.class_names == ("parts", "bolt", "nut") and not told(found)

    def test_cvat(self, tmp_path: Path) -> None:
        """Attributes, masks as RLE, of which one is turned; and a version that counts no ids."""
        content = export()
        for row in content["images"]:
            row |= {"license": 0, "flickr_url": "", "coco_url": "", "date_captured": 0}
        for row in content["annotations"]:
            row["attributes"] = {"occluded": False, "rotation": 0.0}
            row["id"] = 0
        content["annotations"][0]["attributes"]["rotation"] = 30.5
        content["annotations"][1]["segmentation"] = {"counts": [5, 9], "size": [48, 64]}
        found = read(draw(tmp_path / "images"), content)
        assert truth_of(found) == TRUTH
        turned, counted = told(found)
        assert "are counted anew (3)" in counted
        assert turned.endswith("as they are written, unturned (1): id 0 (entry 1) by 30.5")

    @pytest.mark.parametrize(
        "written",
        [
            "images\\{}",
            "images/{}",
            "images\\7/{}",
            "..\\..\\label-studio\\media\\upload\\7\\{}",
            "/data/upload/7/{}",
            "http://localhost:8080/data/upload/7/{}",
            "/data/local-files/?d=images/{}",
        ],
    )
    @pytest.mark.parametrize("mark", ["", "1a2b3c4d-"])
    @pytest.mark.parametrize("stored_mark", ["", "1a2b3c4d-"])
    @pytest.mark.parametrize("quoted", [True, False])
    def test_label_studio(
        self, tmp_path: Path, written: str, mark: str, stored_mark: str, quoted: bool
    ) -> None:
        """Paths of its server, with an upload's mark or without, spaces quoted or not."""
        content = rename(
            export(0, first_class=0),
            lambda name: written.format(mark + (name.replace(" ", "%20") if quoted else name)),
        )
        stored = [stored_mark + name for name in NAMES]
        found = read(draw(tmp_path / "images", stored), content)
        assert truth_of(found) == sorted((stored_mark + name, *rest) for name, *rest in TRUTH)
        assert len(told(found)) <= 1

    def test_labelme2coco(self, tmp_path: Path) -> None:
        """Paths of the machine that it ran on."""
        for machine in ("/mnt/work/shots/", "D:\\work\\shots\\"):
            content = rename(export(), lambda name, machine=machine: machine + name)
            found = read(draw(tmp_path / "shots"), content)
            (line,) = told(found)
            assert truth_of(found) == TRUTH and "are read as the only files" in line

    def test_via(self, tmp_path: Path) -> None:
        """Ids of images are text in the annotations, outlines are flat lists."""
        content = export(0)
        for row in content["annotations"]:
            row["image_id"] = str(row["image_id"])
            row["segmentation"] = [4, 5, 24, 5, 24, 15, 4, 15]
        found = read(draw(tmp_path / "images"), content)
        (line,) = told(found)
        assert truth_of(found) == TRUTH and "taken for the same (3)" in line

    def test_fiftyone(self, tmp_path: Path) -> None:
        """No area, no iscrowd, classes that count from 0."""
        content = export(first_class=0)
        for row in content["annotations"]:
            del row["area"], row["iscrowd"], row["segmentation"]
        found = read(draw(tmp_path / "data"), content)
        assert truth_of(found) == TRUTH and not told(found)

    def test_datumaro(self, tmp_path: Path) -> None:
        """Names without the folder of their subset."""
        content = export()
        for row in content["annotations"]:
            row["attributes"] = {"occluded": True}
        found = read(draw(tmp_path / "images", [f"train/{name}" for name in NAMES]), content)
        assert [x[1:] for x in truth_of(found)] == [x[1:] for x in TRUTH]
        assert {image.file_name for image in found.images} == {f"train/{name}" for name in NAMES}

    @pytest.mark.parametrize("folder", [".", "train2017"])
    def test_lvis(self, tmp_path: Path, folder: str) -> None:
        """No file_name: an address, whose last folder is the one of the images or is in it."""
        content = export()
        for row in content["images"]:
            name = row.pop("file_name").replace(" ", "%20")
            row["coco_url"] = f"http://images.cocodataset.org/train2017/{name}"
        draw(tmp_path / "lvis" / "train2017")
        found = read(tmp_path / "lvis" / folder, content)
        assert [(Path(name).name, *rest) for name, *rest in truth_of(found)] == TRUTH

    def test_superannotate(self, tmp_path: Path) -> None:
        content = export()
        for row in content["annotations"]:
            row |= {"iscrowd": False, "segmentation": [[1, 1, 5, 1, 5, 5]]}
        assert truth_of(read(draw(tmp_path / "images"), content)) == TRUTH

    def test_coco_annotator(self, tmp_path: Path) -> None:
        """A path of its server beside the name, and what was deleted there."""
        content = export()
        for row in content["images"]:
            row |= {"path": f"/datasets/shots/a/{row['file_name']}", "deleted": False}
        for row in content["annotations"]:
            row |= {"isbbox": True, "color": "#a1b2c3", "metadata": {}, "deleted": False}
        row = {**content["annotations"][0], "id": 9, "bbox": [1, 1, 9, 9], "deleted": True}
        content["annotations"].append(row)
        content["images"].append({**content["images"][0], "id": 9, "deleted": True})
        found = read(draw(tmp_path / "shots", [f"a/{name}" for name in NAMES]), content)
        assert truth_of(found) == sorted((f"a/{name}", *rest) for name, *rest in TRUTH)
        assert any("marked as deleted are left out (2)" in line for line in told(found))

    def test_makesense(self, tmp_path: Path) -> None:
        """Annotations count from 0, images from 1, and a box is an outline too."""
        content = export()
        for row in content["annotations"]:
            x, y, w, h = row["bbox"]
            row |= {"id": row["id"] - 1, "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]]}
        assert truth_of(read(draw(tmp_path / "images"), content)) == TRUTH

    def test_a_table_s_numbers(self, tmp_path: Path) -> None:
        """Whole numbers as pandas writes a column that has a gap, classes counted in text."""
        content = export()
        for row in content["annotations"]:
            row["image_id"], row["iscrowd"] = float(row["image_id"]), 0.0
        for row in content["categories"]:
            row["id"] = str(row["id"])
        found = read(draw(tmp_path / "images"), content)
        assert truth_of(found) == TRUTH
        assert found.category_ids == (1, 2) and len(told(found)) == 1

    def test_a_mark_no_sizes_and_folders(self, tmp_path: Path) -> None:
        content = rename(export(), lambda name: f"cam/{name}")
        for row in content["images"]:
            del row["width"]
            row["height"] = None
        folder = draw(tmp_path / "images", [f"cam/{name}" for name in NAMES])
        found = read(folder, content, before=b"\xef\xbb\xbf")
        assert truth_of(found) == sorted((f"cam/{name}", *rest) for name, *rest in TRUTH)
        assert len(told(found)) == 2

    def test_a_challenge_s_file(self, tmp_path: Path) -> None:
        content = export()
        del content["annotations"]
        found = read(draw(tmp_path / "images"), content)
        assert not found.labelled and len(found.images) == 3


class TestNames:
    @pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
    def test_one_text_composed_in_two_ways(self, tmp_path: Path, forms: tuple[str, str]) -> None:
        """macOS and Linux differ in it."""
        ours, theirs = (unicodedata.normalize(form, "Schlüssel é.jpg") for form in forms)
        content = rename(export(), lambda name: ours if name == "nut.jpg" else name)
        found = read(draw(tmp_path / "images", [*NAMES[:2], theirs]), content)
        assert theirs in {image.file_name for image in found.images}

    def test_case(self, tmp_path: Path) -> None:
        content = rename(export(), str.upper)
        assert truth_of(read(draw(tmp_path / "images"), content)) == TRUTH

    def test_a_file_of_that_very_name_is_the_one(self, tmp_path: Path) -> None:
        names = ["a%20b.jpg", "a b.jpg", "1a2b3c4d-a b.jpg"]
        content = export()
        for row, name in zip(content["images"], names, strict=True):
            row["file_name"] = name
        found = read(draw(tmp_path / "images", names), content)
        assert [image.file_name for image in found.images] == names and not told(found)

    @pytest.mark.parametrize(
        ("stored", "listed"),
        [
            (("1a2b3c4d-nut.jpg", "5e6f7a8b-nut.jpg"), ("nut.jpg", "bolt 1.jpg", "bolt 2.jpg")),
            (("NUT.jpg", "Nut.jpg"), ("nut.jpg", "bolt 1.jpg", "bolt 2.jpg")),
            (("nut.jpg",), ("cam1/nut.jpg", "cam2/nut.jpg", "bolt 1.jpg")),
            (("a/nut.jpg", "b/nut.jpg"), ("nut.jpg", "bolt 1.jpg", "bolt 2.jpg")),
        ],
    )
    def test_two_answers_are_none(
        self, tmp_path: Path, stored: Sequence[str], listed: Sequence[str]
    ) -> None:
        content = export()
        for row, name in zip(content["images"], listed, strict=True):
            row["file_name"] = name
        folder = draw(tmp_path / "images", [*stored, *NAMES[:2]])
        with pytest.raises(InputError, match="listed but absent"):
            read(folder, content)


class TestOtherFormats:
    """The tools' own files are told for what they are."""

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ({"_via_settings": {}, "_via_img_metadata": {}}, "a project of VIA"),
            ({"a.jpg7": {"filename": "a.jpg", "size": 7, "regions": []}}, "VIA's own format"),
            ({"name": "x", "assets": {}, "tags": []}, "a project of VoTT"),
            ({"version": "5", "shapes": [], "imagePath": "a.jpg"}, "labelme's file of one image"),
            ({"info": {}, "categories": {"label": {}}, "items": []}, "Datumaro's own format"),
            ({"metadata": {"name": "a.jpg"}, "instances": []}, "SuperAnnotate's own format"),
            ({"samples": []}, "FiftyOne's own format"),
            ([{"id": 1, "annotations": [], "data": {"image": "a"}}], "Label Studio's own format"),
            ([{"image": "a.jpg", "annotations": []}], "CreateML's format"),
            (
                [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}],
                "a list of detections",
            ),
        ],
    )
    def test_is_named(self, tmp_path: Path, content: Any, words: str) -> None:
        with pytest.raises(InputError, match=f"export.json is {words}") as caught:
            read(draw(tmp_path / "images"), content)
        assert "expected COCO's" in str(caught.value)
