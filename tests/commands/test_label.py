"""`bckd data label`: a teacher's boxes as labels, beside those that somebody drew."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import bckd
from bckd.commands.main import main
from bckd.datasets.annotations import read_annotations
from bckd.datasets.boxes import TWO_CLASSES
from bckd.geometry import box_similarity
from bckd.image_size import ImageSize
from bckd.models.detector import Detector
from bckd.prediction import Prediction
from bckd.recipes import Recipe
from bckd.training.trainer import train
from bckd.zoo.checkpoints import save_detector

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    def call(*arguments: object) -> tuple[int, str, str]:
        words = ["bckd", "data", "label", *map(str, arguments), "--device", "cpu"]
        monkeypatch.setattr(sys, "argv", [*words, "--workers", "0"])
        with pytest.raises(SystemExit) as caught:
            main()
        return int(caught.value.code or 0), *capsys.readouterr()

    return call


@pytest.fixture
def root(scenes_root: Path, tmp_path: Path) -> Path:
    """The tiny scenes, of which every second one to train on has no labels."""
    root = tmp_path / "scenes"
    shutil.copytree(scenes_root, root)
    content = content_of(root)
    for image in content["images"][::2]:
        image["labelled"], image["licence"] = False, 3
    free = {image["id"] for image in content["images"][::2]}
    rows = content["annotations"]
    content["annotations"] = [row for row in rows if row["image_id"] not in free]
    content["info"] = {"year": 2024}
    write(root, content)
    return root


def file_of(root: Path) -> Path:
    return root / "annotations" / "instances_train.json"


def content_of(root: Path) -> dict[str, Any]:
    return json.loads(file_of(root).read_text(encoding="utf-8"))


def write(root: Path, content: dict[str, Any]) -> None:
    file_of(root).write_text(json.dumps(content), encoding="utf-8")


def found_in(root: Path, weights: Path, image: dict[str, Any], threshold: float) -> Prediction:
    path = root / "train" / image["file_name"]
    return bckd.load(weights, device="cpu").predict(path, threshold=threshold)


def test_images_without_labels_get_the_teachers(
    call: Call, root: Path, tiny_teacher: Path, tmp_path: Path, tiny_recipe: Recipe
) -> None:
    before, out = content_of(root), tmp_path / "out" / "labelled.json"
    given = (root / "train", "--annotations", file_of(root), "--teacher", tiny_teacher)
    code, text, _ = call(*given, "--threshold", 0.4, "--out", out)
    assert code == 0
    content = json.loads(out.read_text())
    assert content["info"] == before["info"] and content["categories"] == before["categories"]
    plain = [{k: x for k, x in image.items() if k != "labelled"} for image in before["images"]]
    assert content["images"] == plain
    kept = len(before["annotations"])
    assert content["annotations"][:kept] == before["annotations"]
    new = content["annotations"][kept:]
    assert len({row["id"] for row in content["annotations"]}) == len(content["annotations"])
    names = {row["id"]: row["name"] for row in content["categories"]}
    for image in before["images"][::2]:
        rows = [row for row in new if row["image_id"] == image["id"]]
        found = found_in(root, tiny_teacher, image, 0.4)
        assert [names[row["category_id"]] for row in rows] == [*found.names]
        assert [row["score"] for row in rows] == pytest.approx(found.scores.tolist(), rel=1e-5)
        for row, (left, top, right, bottom) in zip(rows, found.boxes.tolist(), strict=True):
            expected = [left, top, right - left, bottom - top]
            assert row["bbox"] == pytest.approx(expected, abs=2e-3) and row["iscrowd"] == 0
    images = len({row["image_id"] for row in new})
    assert f"{len(new)} boxes of the teacher, of a score of 0.4 or more, on {images} of 12" in text
    assert f"--data.train-annotations {out}" in text

    assert call(*given, "--threshold", 0.4, "--out", tmp_path / "again.json")[0] == 0
    assert (tmp_path / "again.json").read_bytes() == out.read_bytes()
    data = replace(tiny_recipe.data, root=root, train_annotations=str(out))
    assert train(replace(tiny_recipe, data=data, steps=1), progress=False).out.is_dir()


def test_they_are_held_against_the_labels(
    call: Call, root: Path, tiny_teacher: Path, tmp_path: Path
) -> None:
    content = content_of(root)
    given = (root / "train", "--annotations", file_of(root), "--teacher", tiny_teacher)
    _, text, _ = call(*given, "--threshold", 0.4, "--out", tmp_path / "out.json")
    right, said, objects = 0, 0, 0
    names = {row["id"]: row["name"] for row in content["categories"]}
    annotations = read_annotations(file_of(root))
    for image in content["images"][1::2]:
        found = found_in(root, tiny_teacher, image, 0.4)
        truth = annotations.objects_of(image["id"])
        known = [annotations.class_names[label] for label in truth.labels]
        overlaps = box_similarity(found.boxes[:, None], truth.boxes[None])
        free = set(range(len(known)))
        for name, row in zip(found.names, overlaps.tolist(), strict=True):
            hits = [n for n in free if known[n] == name and row[n] >= 0.5]
            if hits:
                free.discard(max(hits, key=row.__getitem__))
                right += 1
        said, objects = said + len(found), objects + len(known)
    assert names and said and objects
    precision, recall = right / said, right / objects
    assert (
        f"labels of 12 images such boxes have precision {precision:.2f} and recall {recall:.2f}, "
        in text
    )


def test_which_images(call: Call, root: Path, tiny_teacher: Path, tmp_path: Path) -> None:
    content, out = content_of(root), tmp_path / "out.json"
    drawn = content["images"][1]["id"]
    unlisted = content["images"].pop()
    rows, gone = content["annotations"], (drawn, unlisted["id"])
    content["annotations"] = [row for row in rows if row["image_id"] not in gone]
    write(root, content)
    given = (root / "train", "--annotations", file_of(root), "--out", out, "--threshold", "None")
    marked = {}
    for which in ("unlabelled", "empty", "all"):
        code, text, _ = call(*given, "--which", which)
        assert code == 0
        found = json.loads(out.read_text())
        free = [row["id"] for row in found["images"] if row.get("labelled") is False]
        assert f"has {len(free)} images marked as not labelled" in text
        assert not {row["image_id"] for row in found["annotations"]} & {*free}
        marked[which] = len(free), len(found["annotations"])
    kept = len(content["annotations"])
    assert marked == {"unlabelled": (12, kept), "empty": (13, kept), "all": (23, 0)}
    assert call(*given, "--unlisted")[0] == 0
    last = json.loads(out.read_text())["images"][-1]
    assert last["file_name"] == unlisted["file_name"] and last["labelled"] is False
    assert (last["width"], last["height"]) == (unlisted["width"], unlisted["height"])
    with_all = (root / "train", "--annotations", file_of(root), "--out", out, "--which", "all")
    _, text, _ = call(*with_all, "--teacher", tiny_teacher)
    found = json.loads(out.read_text())
    assert all("score" in row for row in found["annotations"])
    assert "against the labels of 11 images" in text


def test_a_folder(call: Call, root: Path, tiny_teacher: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    code, text, _ = call(root / "train", "--teacher", tiny_teacher, "--out", out)
    assert code == 0 and "on 24 of 24 images" in text and "precision" not in text
    found = read_annotations(out)
    assert found.class_names == bckd.load(tiny_teacher, device="cpu").detector.class_names
    assert len(found.images) == 24 and not {*found.findings.oddities} - {TWO_CLASSES}
    code, _, _ = call(root / "train", "--teacher", tiny_teacher, "--out", out, "--threshold=None")
    marked = read_annotations(out)
    assert code == 0 and len(marked.training_images) == 24 == len(marked.unlabelled_images)


def test_classes_of_another_name(
    call: Call, root: Path, tiny_detector: Callable[..., Detector], tmp_path: Path
) -> None:
    names = [row["name"] for row in content_of(root)["categories"]]
    weights = tmp_path / "other.safetensors"
    other = ("moon", *names[:0:-1], "thing")
    save_detector(weights, tiny_detector(other), ImageSize(64, 64), {})
    given = (root / "train", "--annotations", file_of(root), "--teacher", weights)
    out = tmp_path / "out.json"
    code, _, error = call(*given, "--out", out)
    assert code == 2 and f"has no class {names[0]}" in error and not out.exists()
    more = ("--threshold", 0, "--teacher-classes", f"{names[0]}=moon", "--out", out)
    assert call(*given, *more)[0] == 0
    assert read_annotations(out).class_names == tuple(names)


def test_what_is_refused(call: Call, scenes_root: Path, tiny_teacher: Path, tmp_path: Path) -> None:
    whole, out = scenes_root / "train", tmp_path / "out.json"
    file = file_of(scenes_root)
    for words, sentence in (
        ((), "needs the folder of the images"),
        ((whole,), "needs a teacher (--teacher)"),
        ((whole, "--threshold", "None"), "needs a teacher (--teacher)"),
        ((whole, "--teacher", tiny_teacher, "--annotations", file), "every image is labelled"),
        ((whole, "--teacher", "nobody"), "nobody"),
    ):
        code, _, error = call(*words, "--out", out)
        assert code == 2 and sentence in error and len(error.splitlines()) == 1, error
    code, _, error = call(whole, "--teacher", tiny_teacher, "--annotations", file, "--out", file)
    assert code == 2 and "is used for something else here" in error
    assert not out.exists()
