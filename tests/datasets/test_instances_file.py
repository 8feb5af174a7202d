"""The lists of a file of COCO's size: the quick way says what Python's does, and holds little."""

from __future__ import annotations

import gc
import json
import pickle
import random
import tracemalloc
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from bckd.datasets import boxes, instances_file
from bckd.datasets.annotations import read_annotations
from bckd.datasets.coco import CocoDataset
from bckd.datasets.processes import start_process
from bckd.evaluation.average_precision import evaluation_loader
from bckd.image_size import ImageSize
from bckd.system.errors import InputError

VALUES = (
    *(None, True, 0, 1.0, -0.0, 0.5, float("nan"), float("inf"), 1e301, 10**25, 2**63, -(2**70)),
    *("", "1", "é", "\ud800", "a\\b", "9" * 30, [], [1], [1, 2, 3, 4], [0.5, 2, 3, "4"], {}),
)


def whole(number: random.Random) -> dict[str, Any]:
    """A file as it should be."""
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 64, "height": 48} for n in range(1, 4)]
    rows = [
        {
            "segmentation": [[number.random() for _ in range(6)]],
            "id": n,
            "image_id": number.randint(1, 3),
            "category_id": number.randint(1, 2),
            "bbox": [number.randint(0, 40), number.uniform(0, 30), 5, number.uniform(0.5, 20)],
            "area": number.uniform(1, 40),
            "iscrowd": number.randint(0, 1),
        }
        for n in range(1, 8)
    ]
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    return {"info": {}, "images": images, "annotations": rows, "categories": categories}


def garbled(number: random.Random) -> bytes:
    """A file with some values of other kinds, or with some bytes too many or too few."""
    content = whole(number)
    for _ in range(number.randint(0, 2)):
        rows = content[number.choice(("images", "annotations", "annotations", "categories"))]
        row = number.choice(rows)
        if isinstance(row, dict):
            row[number.choice([*row])] = number.choice(VALUES)
        if number.random() < 0.2:
            rows[number.randrange(len(rows))] = number.choice(VALUES)
    if number.random() < 0.1:
        content[number.choice([*content])] = number.choice(VALUES)
    text = json.dumps(content, ensure_ascii=number.random() < 0.5)
    written = text.encode("utf-8", "surrogatepass")
    place = number.randrange(len(written))
    match number.randrange(9):
        case 0:
            written = b"\xef\xbb\xbf" + written
        case 1:
            extra = number.choice([b"\xff", b"\n", b"NaN", b",", b'"', b"}", b"\\ud800", b"\\"])
            written = written[:place] + extra + written[place:]
        case 2:
            written = written[:place] + written[place + 1 :]
        case 3:
            written = written.replace(b'"id"', b'"id": 3, "id"', 1)
        case 4:
            written = written.replace(b'"id"', b'"\\u0069d"')
    return written


def outcome(path: Path) -> object:
    """All that is made of a file."""
    try:
        found = read_annotations(path)
    except InputError as error:
        return str(error)
    objects = [found.objects_of(image.id) for image in found.images]
    columns = [(x.boxes.tolist(), x.labels.tolist(), x.crowd.tolist()) for x in objects]
    return repr((found.images, found.class_names, found.content, columns, found.findings))


def test_the_quick_way_and_python_s_say_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of duplicate names, nan, halves of characters, whole numbers of any size, bytes that are no
    UTF-8, and of what is no JSON."""
    path = tmp_path / "instances.json"
    quickly, taken = instances_file._quickly, []

    def seen(path: Path) -> Any:
        taken.append(quickly(path))
        return taken[-1]

    kinds = set()
    for seed in range(400):
        path.write_bytes(garbled(random.Random(seed)))
        monkeypatch.setattr(instances_file, "_quickly", seen)
        quick = outcome(path)
        monkeypatch.setattr(instances_file, "_quickly", lambda path: None)
        assert quick == outcome(path), path.read_bytes()
        kinds.add((taken[-1] is None, quick.startswith("(")))
    assert len(kinds) == 4  # each way, and each end of it, is among them


def polygons(path: Path, boxes: int = 3000, before: str = "") -> Path:
    """A file that is mostly polygons, as COCO's is."""
    content = whole(random.Random(0))
    row = {**content["annotations"][0], "segmentation": [[n + 0.25 for n in range(200)]]}
    content["annotations"] = [{**row, "id": n, "bbox": [n % 50, 5, 9, 9]} for n in range(boxes)]
    path.write_text(before + json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize("before", ["", "\ufeff"])
def test_polygons_are_passed_over(tmp_path: Path, before: str) -> None:
    """Python's reader takes six times the file's length."""
    path = polygons(tmp_path / "instances.json", before=before)
    tracemalloc.start()
    try:
        found = read_annotations(path)
        kept, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(found.content["annotations"]) == 3000
    assert most < 1.5 * path.stat().st_size
    assert kept < 300 * 3000


def test_the_file_is_let_go_of_before_its_boxes_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which takes memory of its own; every entry holds the whole file."""
    path, checked, held = polygons(tmp_path / "instances.json"), boxes._checked, []

    def seen(*arguments: Any) -> Any:
        held.append(tracemalloc.get_traced_memory()[0])
        return checked(*arguments)

    monkeypatch.setattr(boxes, "_checked", seen)
    tracemalloc.start()
    try:
        read_annotations(path)
    finally:
        tracemalloc.stop()
    assert held[0] < 0.5 * path.stat().st_size


def test_entries_of_a_file_are_let_go_of_one_by_one() -> None:
    values = [Held(n) for n in range(3)]
    seen = [weakref.ref(value) for value in values]
    alive = []
    for _ in instances_file._let_go_of(values):
        alive.append(sum(value() is not None for value in seen))
    assert alive == [3, 2, 1] and not values


@dataclass
class Held:
    """Something that a weak reference can be to."""

    number: int


@pytest.fixture
def data(custom_root: Path) -> CocoDataset:
    annotations = read_annotations(custom_root / "annotations" / "instances_train.json")
    return CocoDataset(custom_root / "train", annotations, ImageSize(48, 80), flip=0.5)


class TestProcesses:
    def test_what_one_is_sent_is_small_and_gives_the_same_samples(self, data: CocoDataset) -> None:
        sent = pickle.loads(pickle.dumps(data))
        assert not sent.files and not sent.annotations.content["annotations"]
        for index in range(len(data)):
            ours, theirs = data[1, index], sent[1, index]
            assert torch.equal(ours.image, theirs.image) and torch.equal(ours.boxes, theirs.boxes)
            assert torch.equal(ours.labels, theirs.labels) and ours.image_id == theirs.image_id

    def test_equal_sides_are_one_object_there_too(self, tmp_path: Path) -> None:
        content = whole(random.Random(0))
        for row in content["images"]:
            row["width"] = 6400
        path = tmp_path / "instances.json"
        path.write_text(json.dumps(content))
        images = read_annotations(path).images
        for listed in (images, pickle.loads(pickle.dumps(images))):
            assert len({id(image.width) for image in listed}) == 1

    def test_a_box_takes_few_bytes(self, tmp_path: Path, data: CocoDataset) -> None:
        """COCO's 860 thousand are 19 MB a process."""
        path = polygons(tmp_path / "instances.json")
        more = data.with_annotations(read_annotations(path))
        assert len(pickle.dumps(more)) - len(pickle.dumps(data)) < 25 * 3000

    def test_no_collection_looks_at_what_was_there_before(self) -> None:
        (frozen,) = DataLoader(Frozen(), num_workers=1, worker_init_fn=start_process)
        assert frozen.item() > 1000

    def test_those_of_an_evaluation_start_so(self, data: CocoDataset) -> None:
        assert evaluation_loader(data, 2, 0).worker_init_fn is start_process


class Frozen(torch.utils.data.Dataset[int]):
    """One sample: how many objects a collection passes over."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        return gc.get_freeze_count()
