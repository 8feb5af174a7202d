"""Reading a COCO instances file: what is filled in, and the sentence for each thing wrong."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bckd.datasets.annotations import Annotations, read_annotations
from bckd.errors import InputError
from bckd.evaluation import score

CONTENT: dict[str, Any] = {
    "images": [
        {"id": 8, "file_name": "b.jpg", "width": 64, "height": 48},
        {"id": 5, "file_name": "a.jpg", "width": 40, "height": 60},
    ],
    "annotations": [
        {"id": 21, "image_id": 8, "category_id": 9, "bbox": [4, 5, 20, 10]},
        {"id": 22, "image_id": 5, "category_id": 2, "bbox": [1, 2, 30.5, 40]},
        {"id": 23, "image_id": 8, "category_id": 2, "bbox": [30, 8, 30, 38], "iscrowd": 1},
    ],
    "categories": [{"id": 9, "name": "dog"}, {"id": 2, "name": "cat"}],
}


def write(folder: Path, change: Callable[[dict[str, Any]], object] = lambda content: None) -> Path:
    content = copy.deepcopy(CONTENT)
    change(content)
    path = folder / "instances.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def error_of(path: Path) -> str:
    """The one sentence that refuses the file; it names the file."""
    with pytest.raises(InputError) as caught:
        read_annotations(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def update(part: str, position: int, **fields: Any) -> Callable[[dict[str, Any]], object]:
    return lambda content: content[part][position].update(fields)


def without(part: str, position: int, field: str) -> Callable[[dict[str, Any]], object]:
    return lambda content: content[part][position].pop(field)


class TestReading:
    def test_labels_follow_the_category_ids_and_images_their_ids(self, tmp_path: Path) -> None:
        found = read_annotations(write(tmp_path))
        assert found.category_ids == (2, 9)
        assert found.class_names == ("cat", "dog")
        assert [image.file_name for image in found.images] == ["a.jpg", "b.jpg"]
        objects = found.objects_of(8)
        assert objects.boxes.tolist() == [[4, 5, 24, 15], [30, 8, 60, 46]]
        assert objects.labels.tolist() == [1, 0]
        assert objects.crowd.tolist() == [False, True]

    def test_an_image_without_boxes(self, tmp_path: Path) -> None:
        found = read_annotations(write(tmp_path, lambda content: content["annotations"].pop(1)))
        objects = found.objects_of(5)
        assert objects.boxes.shape == (0, 4)
        assert objects.labels.dtype == torch.long and objects.crowd.dtype == torch.bool

    def test_missing_area_and_iscrowd_are_filled_in(self, tmp_path: Path) -> None:
        path = write(tmp_path, update("annotations", 0, area=77.5, iscrowd=1))
        given, filled, _ = read_annotations(path).content["annotations"]
        assert (given["area"], given["iscrowd"]) == (77.5, 1)
        assert (filled["area"], filled["iscrowd"]) == (30.5 * 40, 0)

    def test_null_is_as_good_as_missing(self, tmp_path: Path) -> None:
        path = write(tmp_path, update("annotations", 0, area=None, iscrowd=None))
        row = read_annotations(path).content["annotations"][0]
        assert (row["area"], row["iscrowd"]) == (200, 0)

    def test_a_box_a_little_outside_is_clipped(self, tmp_path: Path) -> None:
        path = write(tmp_path, update("annotations", 0, bbox=[-1.5, 0, 67, 49]))
        assert read_annotations(path).objects_of(8).boxes[0].tolist() == [0, 0, 64, 48]

    @pytest.mark.parametrize(
        ("changes", "learnt"),
        [
            ({"bbox": [10, 10, 0, 5]}, False),
            ({"bbox": [10, 10, 5, 0]}, False),
            ({"bbox": [10, 10, 0.9, 30]}, False),
            ({"bbox": [10, 10, 30, 0.9]}, False),
            ({"bbox": [10, 10, 1, 1]}, True),
            ({"bbox": [10, 10, 20, 10], "area": 0}, False),
            ({"bbox": [64, 10, 2, 10]}, False),  # beside the image, which ends there
            ({"bbox": [63.5, 10, 2, 10]}, True),
        ],
    )
    def test_a_box_too_small_to_learn_is_there_to_be_found(
        self, tmp_path: Path, changes: dict, learnt: bool
    ) -> None:
        """As the official code: below a pixel, of no area, or outside the image."""
        before = read_annotations(write(tmp_path))
        found = read_annotations(write(tmp_path, update("annotations", 0, **changes)))
        assert len(found.content["annotations"]) == len(before.content["annotations"])
        counts = [len(x.objects_of(8).labels) for x in (before, found)]
        assert counts[0] - counts[1] == (0 if learnt else 1) == found.too_small
        assert found.first(1).too_small == 0  # the first image is the other one

    def test_a_box_of_a_turned_image_is_told_so(self, tmp_path: Path) -> None:
        message = error_of(write(tmp_path, update("annotations", 0, bbox=[2, 50, 20, 10])))
        assert "outside its image b.jpg of 64x48" in message
        assert "it would fit a turned image: sizes are those after its EXIF orientation" in message
        message = error_of(write(tmp_path, update("annotations", 0, bbox=[2, 50, 20, 40])))
        assert "EXIF" not in message


class TestFirst:
    def test_the_first_images_by_id_and_their_boxes(self, tmp_path: Path) -> None:
        one = read_annotations(write(tmp_path)).first(1)
        assert [image.id for image in one.images] == [5]
        assert set(one.objects) == {5}
        assert [image["id"] for image in one.content["images"]] == [5]
        assert [row["image_id"] for row in one.content["annotations"]] == [5]
        assert one.class_names == ("cat", "dog")

    @pytest.mark.parametrize("count", [None, 2, 3])
    def test_all(self, tmp_path: Path, count: int | None) -> None:
        found = read_annotations(write(tmp_path))
        assert found.first(count) is found


class TestScore:
    def test_ground_truth_fed_back_is_perfect(
        self, custom_root: Path, perfect_results: Callable[[Annotations], list[dict[str, Any]]]
    ) -> None:
        found = read_annotations(custom_root / "annotations" / "instances_val.json")
        metrics = score(perfect_results(found), found)
        assert metrics.AP == pytest.approx(1.0)
        assert metrics.per_class == pytest.approx({"nut": 1.0, "washer": 1.0, "screw": 1.0})

    @pytest.mark.parametrize("numbering", ["from 0", "absent", "partly absent"])
    def test_ids_of_annotations_do_not_matter(
        self,
        tmp_path: Path,
        perfect_results: Callable[[Annotations], list[dict[str, Any]]],
        numbering: str,
    ) -> None:
        # pycocotools takes a match with annotation 0 for no match.
        def renumber(content: dict[str, Any]) -> None:
            for position, row in enumerate(content["annotations"]):
                del row["id"]
                if numbering == "from 0":
                    row["id"] = position
            if numbering == "partly absent":
                content["annotations"][0]["id"] = 2

        found = read_annotations(write(tmp_path, renumber))
        assert score(perfect_results(found), found).AP == pytest.approx(1.0)


class TestErrors:
    def test_no_file(self, tmp_path: Path) -> None:
        assert "does not exist" in error_of(tmp_path / "nothing.json")

    @pytest.mark.parametrize("content", [b"{'images': []", b"\xff\xfe\x00", b""])
    def test_not_json(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "instances.json"
        path.write_bytes(content)
        assert "not valid JSON" in error_of(path)

    def test_not_an_object(self, tmp_path: Path) -> None:
        path = tmp_path / "instances.json"
        path.write_text("[]")
        assert "expected COCO format" in error_of(path)

    @pytest.mark.parametrize("key", ["images", "annotations", "categories"])
    @pytest.mark.parametrize("value", [None, {}])
    def test_a_list_is_missing(self, tmp_path: Path, key: str, value: object) -> None:
        assert f"'{key}'" in error_of(write(tmp_path, lambda content: content.update({key: value})))

    @pytest.mark.parametrize("key", ["images", "categories"])
    def test_a_list_is_empty(self, tmp_path: Path, key: str) -> None:
        assert key in error_of(write(tmp_path, lambda content: content.update({key: []})))

    @pytest.mark.parametrize("field", ["id", "file_name", "width", "height"])
    def test_an_image_lacks_a_field(self, tmp_path: Path, field: str) -> None:
        message = error_of(write(tmp_path, without("images", 0, field)))
        assert field in message
        assert "8" in message if field == "file_name" else "b.jpg" in message

    @pytest.mark.parametrize("field", ["id", "name"])
    def test_a_category_lacks_a_field(self, tmp_path: Path, field: str) -> None:
        message = error_of(write(tmp_path, without("categories", 0, field)))
        assert "category" in message and field in message

    @pytest.mark.parametrize("field", ["image_id", "category_id", "bbox"])
    def test_an_annotation_lacks_a_field(self, tmp_path: Path, field: str) -> None:
        message = error_of(write(tmp_path, without("annotations", 1, field)))
        assert "annotation 2" in message and field in message

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (update("images", 0, width=0), ["b.jpg", "0x48"]),
            (update("images", 0, id=5), ["images", "same id"]),
            (update("categories", 0, id=2), ["categories", "same id"]),
            (update("annotations", 0, id=22), ["annotations", "22"]),
            (update("annotations", 0, category_id=4), ["annotation 21", "category_id 4"]),
            (update("annotations", 0, image_id=4), ["annotation 21", "image_id 4"]),
            (update("annotations", 0, bbox=[1, 2, 3]), ["annotation 1", "bbox"]),
            (update("annotations", 0, bbox=[1, 2, 3, "wide"]), ["annotation 1", "bbox"]),
            (update("annotations", 0, bbox=None), ["annotation 1", "bbox"]),
            (update("annotations", 0, bbox=[5, 5, -4, 9]), ["annotation 21", "[5, 5, -4, 9]"]),
            (update("annotations", 0, bbox=[5, 5, 4, -9]), ["annotation 21", "[5, 5, 4, -9]"]),
            (update("annotations", 0, bbox=[-3, 5, 9, 9]), ["annotation 21", "b.jpg", "64x48"]),
            (update("annotations", 0, bbox=[5, -3, 9, 9]), ["annotation 21", "b.jpg", "64x48"]),
            (update("annotations", 0, bbox=[5, 5, 62, 9]), ["annotation 21", "b.jpg", "64x48"]),
            (update("annotations", 0, bbox=[5, 5, 9, 46]), ["annotation 21", "b.jpg", "64x48"]),
        ],
    )
    def test_a_value_is_wrong(
        self, tmp_path: Path, change: Callable[[dict[str, Any]], object], words: list[str]
    ) -> None:
        message = error_of(write(tmp_path, change))
        for word in words:
            assert word in message

    @pytest.mark.parametrize("position", range(4))
    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_a_side_is_no_finite_number(self, tmp_path: Path, position: int, value: float) -> None:
        box = [4.0, 5.0, 20.0, 10.0]
        box[position] = value
        message = error_of(write(tmp_path, update("annotations", 0, bbox=box)))
        assert "annotation" in message and "bbox" in message

    @pytest.mark.parametrize(
        ("part", "field", "value"),
        [
            ("images", "id", [1]),
            ("images", "file_name", None),
            ("annotations", "image_id", [8]),
            ("annotations", "category_id", {"id": 9}),
            ("annotations", "bbox", "1234"),
            ("annotations", "area", "large"),
        ],
    )
    def test_a_field_is_of_another_kind(
        self, tmp_path: Path, part: str, field: str, value: object
    ) -> None:
        assert field in error_of(write(tmp_path, update(part, 0, **{field: value})))
