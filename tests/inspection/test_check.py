"""`bckd data check`: all faults at once, what is odd, and copies in which it is mended."""

from __future__ import annotations

import copy
import json
import random
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bckd.commands import data, data_check
from bckd.datasets import annotations, boxes, entries
from bckd.datasets.annotations import MARKED, read_annotations
from bckd.datasets.findings import Findings, Kind
from bckd.datasets.image_files import UNUSABLE
from bckd.image_size import ImageSize
from bckd.inspection import notes
from bckd.inspection.checking import Checked, check, lines_of, mend
from bckd.inspection.layouts import find_parts, train_options
from bckd.inspection.mending import MENDED, mendable
from bckd.inspection.parts import MOSTLY_CROWD, NOTHING, Part
from bckd.system.errors import InputError

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two parts of three images with two boxes each."""
    root = tmp_path / "data"
    (root / "annotations").mkdir(parents=True)
    for part, shade in (("train", 0), ("val", 100)):
        write(root, part, content_of(part))
        (root / part).mkdir()
        for n in range(3):
            noise = np.random.default_rng(shade + n).integers(0, 255, (48, 64, 3), np.uint8)
            Image.fromarray(noise).save(root / part / f"{part} {n}.png")
    return root


def content_of(part: str) -> dict[str, Any]:
    return {
        "info": {"year": 2024, "unknown": ["kept"]},
        "images": [
            {"id": n, "file_name": f"{part} {n}.png", "width": 64, "height": 48, "tag": "kept"}
            for n in range(3)
        ],
        "annotations": [
            {
                "id": n + 1,
                "image_id": n // 2,
                "category_id": 1 + n % 2,
                "bbox": [4 + n, 5, 20, 10],
                "area": 200,
                "iscrowd": 0,
                "segmentation": [[4, 5, 24, 5, 24, 15]],
                "note": "kept é",
            }
            for n in range(6)
        ],
        "categories": [{"id": 1, "name": "bolt"}, {"id": 2, "name": "nut", "skeleton": []}],
    }


def file_of(root: Path, part: str = "train") -> Path:
    return root / "annotations" / f"instances_{part}.json"


def write(root: Path, part: str, content: Any) -> None:
    file_of(root, part).write_text(json.dumps(content), encoding="utf-8")


def change(root: Path, change: Change, part: str = "train") -> None:
    content = json.loads(file_of(root, part).read_text(encoding="utf-8"))
    change(content)
    write(root, part, content)


def findings_of(root: Path, part: str = "train") -> Findings:
    return next(x.findings for x in check(find_parts(root)).parts if x.part.name == part)


def text_of(found: Checked, every: bool = False) -> str:
    return "\n".join(lines_of(found, ImageSize(96, 128), every))


class TestFaults:
    def test_a_whole_data_set_has_none(self, root: Path, capsys: pytest.CaptureFixture) -> None:
        found = check(find_parts(root))
        assert not found.faults()
        assert not any(part.findings.oddities for part in found.parts) and not any(
            pair.oddities for pair in found.pairs
        )
        assert data_check.run([str(root)]) == 0
        out, err = capsys.readouterr()
        assert "no faults; to learn from them, on a CPU:\n  bckd train custom-small-te" in out
        assert out.endswith("on a GPU the presets are custom-teacher and custom\n")
        assert err == ""  # no bar where there is no terminal

    def test_all_are_told_at_once(self, root: Path) -> None:
        """Of every list and of the files; training refuses for one and says where all are."""

        def spoil(content: dict[str, Any]) -> None:
            rows = content["annotations"]
            rows[0]["bbox"] = [1, 2, 3]
            rows[1]["bbox"] = [9, 9, -4, 4]
            rows[2]["category_id"] = 77
            rows[3]["iscrowd"] = "no"
            del rows[4]["image_id"]
            content["images"].append({"id": 7, "width": 9, "height": 9})
            content["images"].append({**content["images"][0]})
            content["categories"].append({"id": 3, "name": ""})

        change(root, spoil)
        (root / "train" / "train 0.png").write_bytes(b"")
        (root / "train" / "train 1.png").unlink()
        Image.new("RGB", (48, 64)).save(root / "train" / "train 2.png")
        found = check(find_parts(root))
        text = text_of(found)
        for words in (
            "bbox is not four finite numbers (1)\n      id 1 (entry 1) has [1, 2, 3]",
            "a side below 0 (1)\n      id 2 (entry 2) has [9, 9, -4, 4]",
            "'category_id' that is no id in\n    'categories' (1)\n      id 3 (entry 3) has 77",
            "iscrowd is neither 0 nor 1 (1)\n      id 4 (entry 4)",
            "annotations without 'image_id' (1)\n      id 5 (entry 5)",
            "images without a file_name (1)\n      id 7 (entry 4)",
            "images with an id that an earlier one has (1)\n      id 0 (entry 5) as entry 1",
            "categories whose name is no line of text (1)\n      id 3 (entry 3)",
            "image files that can't be used (1)",
            "image files that are listed but absent (1)",
            "image files of another size than listed (1)",
        ):
            assert words in text
        assert len(found.faults()) == 11
        with pytest.raises(InputError, match=r"and 7 other faults; `bckd data check` lists them"):
            read_annotations(file_of(root), root / "train")
        assert data_check.run([str(root)]) == 1

    def test_boxes_of_what_is_at_fault_are_no_faults_themselves(self, root: Path) -> None:
        change(root, lambda content: content["images"][0].pop("file_name"))
        change(root, lambda content: content["categories"][0].pop("name"))
        assert len(findings_of(root).faults) == 2
        change(root, lambda content: content["images"][1].pop("id"))
        assert len(findings_of(root).faults) == 3

    def test_pixels_that_only_decoding_shows_are_broken(self, root: Path) -> None:
        path = root / "train" / "train 1.png"
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(content)
        (place,) = findings_of(root).faults[UNUSABLE]
        assert place.startswith(f"{path} cannot be decoded")

    def test_a_part_that_cannot_be_read_hides_no_other(self, root: Path) -> None:
        file_of(root, "val").write_text("[")
        change(root, lambda content: content["annotations"][0].update(bbox=[1]))
        found = check(find_parts(root))
        assert [len(part.findings.faults) for part in found.parts] == [1, 1]
        assert "not valid JSON" in text_of(found).replace("\n    ", " ")
        file_of(root).write_text("[")
        with pytest.raises(InputError, match="instances_train.json is not valid JSON"):
            check(find_parts(root))

    def test_nothing_to_learn_from(self, root: Path) -> None:
        change(root, lambda content: content["annotations"].clear())
        assert NOTHING in findings_of(root).faults
        change(root, lambda content: content.pop("annotations"))
        assert not findings_of(root).faults
        assert findings_of(root).oddities == {
            notes.UNLABELLED: [f"train {n}.png" for n in range(3)]
        }
        change(root, lambda content: content.pop("annotations"), "val")
        assert not findings_of(root, "val").faults
        unlabelled = check([Part("data", file_of(root, "val"), root / "val")])
        (kind,) = unlabelled.parts[0].findings.oddities
        assert kind.what == "there are no 'annotations', so AP is unknown"

    def test_some_images_are_not_labelled(
        self, root: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def mark(content: dict[str, Any]) -> None:
            content["images"][2]["labelled"] = False
            content["images"][1]["labelled"] = True

        change(root, mark)
        boxes_of_it = ["train 2.png"]
        assert findings_of(root).faults[annotations.BOXES_OF_UNLABELLED] == boxes_of_it
        change(root, lambda content: content["annotations"].__delitem__(slice(4, 6)))
        found = findings_of(root)
        assert not found.faults and found.oddities == {notes.UNLABELLED: ["train 2.png"]}
        change(root, lambda content: content["annotations"].clear())
        assert data_check.run([str(root)]) == 0
        assert "to learn from a teacher alone" in capsys.readouterr().out
        change(root, mark, "val")
        assert findings_of(root, "val").faults[notes.NO_JUDGE] == ["val 2.png"]
        change(root, lambda content: content["images"][0].update(labelled="no"))
        assert findings_of(root).faults[entries.NO_TRUTH] == ['id 0 (entry 1) has "no"']

    def test_first_places_or_all(self, root: Path) -> None:
        def spoil(content: dict[str, Any]) -> None:
            content["annotations"] *= 5
            for row in content["annotations"]:
                row["bbox"] = [1]

        change(root, spoil)
        assert "(entry 5)" in (text := text_of(check(find_parts(root))))
        assert "(entry 6)" not in text and "and 25 more (--all lists them)" in text
        assert "(entry 30)" in text_of(check(find_parts(root)), every=True)


class TestOddities:
    def test_crowd_regions(self, root: Path) -> None:
        change(root, lambda content: [x.update(iscrowd=1) for x in content["annotations"][:4]])
        found = findings_of(root).oddities
        assert found[MOSTLY_CROWD] == ["4 of 6"] and len(found[boxes.OUTLINED]) == 4
        for outline in ([], {"counts": [5], "size": [48, 64]}, None):
            content = json.loads(file_of(root).read_text())
            for row in content["annotations"]:
                row["segmentation"] = outline
            write(root, "train", content)
            assert boxes.OUTLINED not in findings_of(root).oddities

    def test_equal_pixels_of_files_that_differ(self, root: Path) -> None:
        def copy_one(content: dict[str, Any]) -> None:
            content["images"].append({**content["images"][0], "id": 9, "file_name": "copy.bmp"})

        picture = Image.open(root / "train" / "train 0.png")
        picture.save(root / "train" / "copy.bmp")
        picture.save(root / "val" / "val 1.png", compress_level=1)
        change(root, copy_one)
        found = check(find_parts(root))
        names = [str(root / "train" / name) for name in ("copy.bmp", "train 0.png")]
        assert found.parts[0].findings.oddities[notes.TWICE] == [f"{names[0]} as {names[1]}"]
        (place,) = found.pairs[0].oddities[notes.TRAINED_ON]
        assert place.startswith(str(root / "val" / "val 1.png"))

    def test_classes_that_differ(self, root: Path) -> None:
        def rename(content: dict[str, Any]) -> None:
            content["categories"][1]["name"] = "Nuts"
            content["categories"].append({"id": 7, "name": "spring"})
            content["categories"][0]["id"] = 8
            for row in content["annotations"]:
                row["category_id"] = 8 if row["category_id"] == 1 else 2

        change(root, rename, "val")
        found = check(find_parts(root))
        (fault,) = found.pairs[0].faults.values()
        assert fault == ["'Nuts' (there is 'nut')"]
        text = text_of(found)
        assert "'spring'" in text and "'nut' (there is 'Nuts')" in text
        assert "'bolt' has 1 and 8" in text

    def test_more_objects_than_are_judged(self, root: Path) -> None:
        def many(content: dict[str, Any]) -> None:
            row = content["annotations"][0]
            content["annotations"] = [
                {**row, "id": n, "bbox": [n % 40, n // 40, 9, 9]} for n in range(101)
            ]

        change(root, many, "val")
        assert "val 0.png with 101" in text_of(check(find_parts(root)))

    def test_table_and_sizes(self, root: Path) -> None:
        change(root, lambda content: content["annotations"].pop(), "val")
        text = text_of(check(find_parts(root)))
        assert "bolt                           3       3           3       3" in text
        assert "nut                            3       3           2       2" in text
        assert "nut                        3       28       28       28" in text  # twice as large
        assert max(map(len, text.splitlines())) <= 80 or str(root) in text


class TestLayouts:
    def test_of_coco_and_of_roboflow(self, root: Path) -> None:
        parts = find_parts(root)
        assert [part.name for part in parts] == ["train", "val"]
        assert train_options(root, parts) == ["--data.root", str(root)]
        (root / "val").rename(root / "valid")
        for part, folder in (("train", "train"), ("val", "valid")):
            file_of(root, part).rename(root / folder / "_annotations.coco.json")
        shutil.copytree(root / "valid", root / "test")
        parts = find_parts(root)
        assert [part.images.name for part in parts] == ["train", "valid", "test"]
        assert not check(parts).faults()
        words = train_options(root, parts)
        assert words is not None and words[-2:] == [
            "--data.val-annotations",
            "valid/_annotations.coco.json",
        ]

    def test_one_file_and_one_folder(self, root: Path) -> None:
        file_of(root).rename(root / "result.json")
        shutil.rmtree(root / "annotations")
        shutil.rmtree(root / "val")
        assert find_parts(root) == [Part("data", root / "result.json", root / "train")]
        (root / "train").rename(root / "images")
        assert data_check.run([str(root)]) == 0
        (root / "other.json").touch()
        with pytest.raises(InputError, match="2 JSON files"):
            find_parts(root)
        with pytest.raises(InputError, match="is no folder"):
            find_parts(root / "nothing")

    def test_what_is_named_is_one_or_the_other(self, root: Path) -> None:
        both = ["--annotations", str(file_of(root)), "--images", str(root / "train")]
        assert data.run(["check", *both]) == 0
        for words in ([], [str(root), *both], both[:2], both[2:]):
            with pytest.raises(InputError, match="needs either"):
                data_check.run(words)


ODD: dict[Kind, Change] = {
    boxes.CLIPPED: lambda c: c["annotations"][0].update(bbox=[-3, 5, 23, 10]),
    boxes.NO_AREA: lambda c: c["annotations"][1].update(bbox=[]),
    boxes.OUTSIDE: lambda c: c["annotations"][2].update(bbox=[70, 5, 9, 9]),
    boxes.AREAS: lambda c: c["annotations"][3].update(area=1e9),
    boxes.RENUMBERED: lambda c: c["annotations"][5].update(id=c["annotations"][4]["id"]),
    boxes.OTHER_KIND: lambda c: c["annotations"][3].update(image_id="1"),
    entries.WHOLE: lambda c: c["annotations"][4].update(image_id=2.0),
    entries.DELETED: lambda c: c["annotations"].append({**c["annotations"][0], "deleted": True}),
    entries.SIZES: lambda c: c["images"][0].pop("width"),
    entries.BY_URL: lambda c: c["images"][1].update(
        coco_url=f"http://x.org/a/{c['images'][1].pop('file_name')}"
    ),
    entries.BACKSLASHES: lambda c: c["images"][2].update(file_name="sub\\train 2.png"),
    entries.NAMES: lambda c: c["images"][0].update(
        file_name=unicodedata.normalize("NFD", "é%201.png")
    ),
}


class TestFix:
    @pytest.mark.parametrize("seed", range(8))
    def test_nothing_of_what_is_mended_is_left(self, root: Path, seed: int) -> None:
        """Of any mixture; what is read is the same as before, and all else stays."""
        draw = random.Random(seed)
        kinds = draw.sample([*ODD], draw.randint(1, len(ODD))) if seed else [*ODD]
        content = content_of("train")
        for kind in kinds:
            ODD[kind](content)
        folder = root / "train"
        (folder / "sub").mkdir()
        shutil.copy(folder / "train 2.png", folder / "sub")
        shutil.copy(folder / "train 0.png", folder / "é 1.png")
        marked = b"\xef\xbb\xbf" if draw.random() < 0.5 or not seed else b""
        file_of(root).write_bytes(marked + json.dumps(content).encode())
        before = file_of(root).read_bytes()
        found = check(find_parts(root), whole=True)
        expected = {*kinds, *([MARKED] if marked else [])}
        assert set(found.parts[0].findings.oddities) & set(MENDED) == expected
        ((_, path, changes),) = mend(found, root.parent / "out", root)
        assert path == root.parent / "out" / "annotations" / "instances_train.json"
        assert set(changes) == expected
        assert file_of(root).read_bytes() == before
        ours, theirs = (read_annotations(x, folder) for x in (file_of(root), path))
        assert not set(theirs.findings.oddities) & set(MENDED)
        assert ours.images == theirs.images
        for name in ("bbox", "area", "crowd", "labels", "images"):
            assert np.array_equal(*(getattr(x.truth.boxes, name) for x in (ours, theirs)))
        written = json.loads(path.read_text(encoding="utf-8"))
        assert written["info"] == content["info"]
        assert written["categories"] == content["categories"]
        assert all(
            row["note"] == "kept é" and row["segmentation"] for row in written["annotations"]
        )
        assert all(row["tag"] == "kept" for row in written["images"])

    def test_corners_where_areas_say_so(self, root: Path) -> None:
        def corners(content: dict[str, Any]) -> None:
            for row in content["annotations"]:
                x, y, w, h = row["bbox"]
                row["bbox"] = [x, y, x + w, y + h]

        expected = read_annotations(file_of(root)).truth.boxes.bbox
        change(root, corners)
        found = check(find_parts(root), whole=True)
        assert boxes.CORNERS in found.parts[0].findings.faults
        ((_, path, changes),) = mend(found, root.parent / "out", root)
        assert [*changes] == [boxes.CORNERS]
        assert np.array_equal(read_annotations(path).truth.boxes.bbox, expected)
        change(root, lambda content: [row.pop("area") for row in content["annotations"]])
        assert boxes.CORNERS not in findings_of(root).faults  # they fit as sides

    @pytest.mark.parametrize("masks", [False, True])
    def test_single_boxes_as_corners(self, root: Path, masks: bool) -> None:
        """Found where they reach out; within, only if no area is a mask's: it may be by chance."""

        def spoil(content: dict[str, Any]) -> None:
            rows = content["annotations"] * 5
            rows[:] = [dict(row, id=n, area=150 if masks else 200) for n, row in enumerate(rows)]
            rows[0].update(bbox=[40, 20, 60, 45], area=500)  # reaches beyond 64 x 48
            rows[1].update(bbox=[10, 12, 40, 20], area=240)  # lies within, as both
            content["annotations"] = rows

        change(root, spoil)
        (places,) = [
            places
            for kind, places in findings_of(root).faults.items()
            if kind == boxes.SOME_CORNERS
        ]
        assert len(places) == (1 if masks else 2)
        found = check(find_parts(root), whole=True)
        ((_, path, _),) = mend(found, root.parent / "out", root)
        mended = [row["bbox"] for row in json.loads(path.read_text())["annotations"]]
        assert mended[:2] == [[40, 20, 20, 25], [10, 12, 40, 20] if masks else [10, 12, 30, 8]]
        assert mended[2] == [6, 5, 20, 10]

    def test_single_boxes_as_fractions(self, root: Path) -> None:
        change(root, lambda c: c["annotations"][0].update(bbox=[0.1, 0.2, 0.3, 0.25], area=0.075))
        (place,) = findings_of(root).oddities[boxes.FRACTIONS]
        assert place == "id 1 (entry 1) has [0.1, 0.2, 0.3, 0.25] on train 0.png"

    def test_files_of_another_format(self, tmp_path: Path) -> None:
        Image.new("RGB", (40, 20)).save(tmp_path / "a.png")
        (tmp_path / "a.txt").write_text("0 .5 .5 .2 .2\n")
        (tmp_path / "classes.txt").write_text("bolt\n")
        (tmp_path / "notes.json").write_text("{}")
        with pytest.raises(InputError, match="holds files of YOLO, not of COCO; .*data convert"):
            find_parts(tmp_path)

    def test_a_folder_a_part(self, root: Path, tmp_path: Path) -> None:
        """As of two tasks of CVAT."""
        for part in ("train", "val"):
            task = tmp_path / "export" / f"Task-{part}"
            (task / "annotations").mkdir(parents=True)
            file_of(root, part).rename(task / "annotations" / "instances_default.json")
            (root / part).rename(task / "images")
        parts = find_parts(tmp_path / "export")
        assert [part.name for part in parts] == ["train", "val"]
        assert not check(parts).faults()
        words = train_options(tmp_path / "export", parts)
        assert words is not None and words[3] == "Task-train/images"

    def test_what_corners_hid_is_told_of_the_copies(
        self, root: Path, capsys: pytest.CaptureFixture
    ) -> None:
        """Corners are no boxes yet, so a class that training lacks had none; in the copy it has."""

        def spoil(content: dict[str, Any]) -> None:
            content["categories"][1]["name"] = "Nut"
            for row in content["annotations"]:
                x, y, w, h = row["bbox"]
                row["bbox"] = [x, y, x + w, y + h]

        change(root, spoil, "val")
        out = root.parent / "out"
        assert data_check.run([str(root), "--fix", str(out)]) == 1
        before, _, after = capsys.readouterr().out.partition("With these copies:")
        unlisted = "that the training's file does not list (1)"
        assert unlisted not in before and unlisted in after and "'Nut'" in after
        assert "x1, y1, x2, y2" in before and "x1, y1, x2, y2" not in after
        assert after.splitlines()[-1].startswith("1 kind of fault")
        change(root, lambda content: content["categories"][1].update(name="nut"), "val")
        assert data_check.run([str(root), "--fix", str(out)]) == 0

    def test_what_has_two_answers_stays(self, root: Path) -> None:
        """An image of another size than listed: which boxes lie outside is not known."""
        change(root, lambda c: c["annotations"][0].update(bbox=[70, 5, 9, 9]))
        Image.new("RGB", (128, 96)).save(root / "train" / "train 0.png")
        found = check(find_parts(root), whole=True)
        assert boxes.OUTSIDE in found.parts[0].findings.oddities
        assert boxes.OUTSIDE not in mendable(found.parts[0].findings)
        assert [*mend(found, root.parent / "out", root)] == []

    def test_entries_at_fault_stay_as_they_are(self, root: Path) -> None:
        change(root, lambda c: c["annotations"][0].update(bbox=[1, 2]))
        change(root, lambda c: c["annotations"][1].update(bbox=[0, 0, 0, 0]))
        change(root, lambda c: c["images"].append({**c["images"][0], "file_name": "other.png"}))
        change(root, lambda c: c["annotations"].append({"id": 99}))
        content = json.loads(file_of(root).read_text())
        found = check(find_parts(root), whole=True)
        ((_, path, _),) = mend(found, root.parent / "out", root)
        expected = copy.deepcopy(content)
        del expected["annotations"][1]
        assert json.loads(path.read_text()) == expected

    def test_by_the_command(self, root: Path, capsys: pytest.CaptureFixture) -> None:
        change(root, lambda c: c["annotations"][0].update(bbox=[-3, 5, 23, 10]))
        out = root.parent / "out"
        assert data_check.run([str(root), "--fix", str(out)]) == 0
        text = capsys.readouterr().out
        assert "clipped: boxes that reach beyond their image" in text and "id 1 (entry 1)" in text
        path = out / "annotations" / "instances_train.json"
        assert f" --data.train-annotations {path}" in text.splitlines()[-3]
        assert not (out / "annotations" / "instances_val.json").exists()
        with pytest.raises(InputError, match="is used for something else here"):
            data_check.run([str(root), "--fix", str(root)])
