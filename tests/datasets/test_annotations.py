"""Reading a COCO instances file: what is filled in, and the sentence for each thing wrong."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from bckd.datasets.annotations import Annotations, read_annotations
from bckd.evaluation.average_precision import score
from bckd.system.errors import InputError

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
        ("box", "learnt"),
        [
            ([10, 10, 0.9, 30], False),
            ([10, 10, 30, 0.9], False),
            ([10, 10, 1, 1], True),
            ([63.5, 10, 2, 10], True),
        ],
    )
    def test_a_box_too_small_to_learn_is_there_to_be_found(
        self, tmp_path: Path, box: list[float], learnt: bool
    ) -> None:
        """As the official code: below a pixel."""
        before = read_annotations(write(tmp_path))
        found = read_annotations(write(tmp_path, update("annotations", 0, bbox=box)))
        assert len(found.content["annotations"]) == len(before.content["annotations"])
        counts = [len(x.objects_of(8).labels) for x in (before, found)]
        assert counts[0] - counts[1] == (0 if learnt else 1) == found.too_small
        assert found.first(1).too_small == 0  # the first image is the other one

    def test_a_byte_order_mark_is_passed_over(self, tmp_path: Path) -> None:
        path = write(tmp_path)
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
        assert read_annotations(path).class_names == ("cat", "dog")

    def test_a_file_without_annotations_is_a_challenge_s(self, tmp_path: Path) -> None:
        found = read_annotations(write(tmp_path, lambda content: content.pop("annotations")))
        assert not found.labelled and found.content["annotations"] == []
        assert read_annotations(write(tmp_path)).labelled

    def test_ids_of_images_may_be_text(self, tmp_path: Path) -> None:
        def as_text(content: dict[str, Any]) -> None:
            for row in content["images"]:
                row["id"] = f"n{row['id']}"
            for row in content["annotations"]:
                row["image_id"] = f"n{row['image_id']}"

        found = read_annotations(write(tmp_path, as_text))
        assert [image.id for image in found.images] == ["n5", "n8"]
        assert not told(found)
        assert len(found.objects_of("n8").labels) == 2


def told(found: Annotations) -> str:
    """What is told of a file, a line a kind."""
    stream = io.StringIO()
    with contextlib.redirect_stdout(stream):
        found.findings.tell()
    return stream.getvalue()


class TestOddities:
    """What is made something of, and told with its number, ids and places."""

    @pytest.mark.parametrize(
        ("change", "sentence"),
        [
            (
                update("annotations", 0, id=22),
                "ids of annotations that are absent or repeated are counted anew (2): "
                "id 22 (entry 1), id 22 (entry 2)",
            ),
            (
                update("annotations", 0, id=None),
                "are absent or repeated are counted anew (1): entry 1",
            ),
            (
                update("annotations", 0, image_id="8"),
                "ids that are text in one list and numbers in another are taken for the same (1): "
                'id 21 (entry 1) has image_id "8" for 8',
            ),
            (
                update("annotations", 0, category_id="9"),
                'taken for the same (1): id 21 (entry 1) has category_id "9" for 9',
            ),
            (
                update("annotations", 0, bbox=[]),
                "boxes without width or height are left out of training and evaluation (1): "
                "id 21 (entry 1) has []",
            ),
            (update("annotations", 0, bbox=[10, 10, 0, 5]), "id 21 (entry 1) has [10, 10, 0, 5]"),
            (update("annotations", 0, bbox=[10, 10, 5, 0]), "id 21 (entry 1) has [10, 10, 5, 0]"),
            (
                update(
                    "annotations", 0, bbox=[64, 10, 2, 10]
                ),  # beside the image, which ends there
                "boxes that lie wholly outside their image are left out of training and "
                "evaluation (1): id 21 (entry 1) has [64, 10, 2, 10] on b.jpg",
            ),
            (
                update("annotations", 0, bbox=[-3, 5, 9, 9]),
                "boxes that reach beyond their image are clipped to it, the farthest first (1): "
                "id 21 (entry 1) by 3 pixels on b.jpg",
            ),
            (
                update("images", 0, file_name=None, coco_url="http://x.org/val2017/b.jpg"),
                "images without file_name are taken by the end of their coco_url (1): "
                "id 8 (entry 1)",
            ),
            (
                update("categories", 0, name="cat"),
                "categories of one name are told apart by their ids (2): "
                "'cat' with id 9 is called 'cat (id 9)', 'cat' with id 2 is called 'cat (id 2)'",
            ),
            (
                update("categories", 0, name=" Cat"),
                "categories whose names differ by case, spaces or hyphens alone (1): "
                "' Cat' (id 9) and 'cat' (id 2)",
            ),
            (
                lambda content: content["annotations"].append(
                    {**content["annotations"][0], "id": 99}
                ),
                "boxes that are there twice, of which a detector can find only one (1): "
                "id 99 (entry 4) as id 21 (entry 1) on b.jpg",
            ),
            (
                lambda content: content["annotations"].append(
                    {**content["annotations"][0], "id": 99, "category_id": 2}
                ),
                "boxes that are there with another class too (1): "
                "id 99 (entry 4) as id 21 (entry 1) on b.jpg",
            ),
        ],
    )
    def test_is_told(
        self, tmp_path: Path, change: Callable[[dict[str, Any]], object], sentence: str
    ) -> None:
        path = write(tmp_path, change)
        (line,) = told(read_annotations(path)).splitlines()
        assert line.startswith(f"{path}: ") and line.endswith(sentence)

    def test_nothing_is_told_of_a_file_as_it_should_be(self, tmp_path: Path) -> None:
        assert told(read_annotations(write(tmp_path))) == ""

    def test_of_many_the_first_three_are_told(self, tmp_path: Path) -> None:
        def many(content: dict[str, Any]) -> None:
            row = {"image_id": 8, "category_id": 2, "bbox": [1, 1, 0, 0]}
            content["annotations"] += [{**row, "id": 100 + n} for n in range(7)]

        line = told(read_annotations(write(tmp_path, many)))
        assert "(7): id 100 (entry 4)" in line and "id 102 (entry 6)" in line
        assert line.endswith("and 4 more\n") and "103" not in line

    @pytest.mark.parametrize("area", [float("nan"), -5, 0, 1e9, "large"])
    def test_an_area_that_the_box_cannot_have(
        self,
        tmp_path: Path,
        area: object,
        perfect_results: Callable[[Annotations], list[dict[str, Any]]],
    ) -> None:
        found = read_annotations(write(tmp_path, update("annotations", 0, area=area)))
        assert found.content["annotations"][0]["area"] == 200
        assert "width times height (1): id 21 (entry 1) has" in told(found)
        assert len(found.objects_of(8).labels) == 2
        metrics = score(perfect_results(found), found)
        assert metrics.APs == metrics.AP == pytest.approx(1.0)

    def test_a_clipped_box_is_judged_as_it_is_learnt(
        self, tmp_path: Path, perfect_results: Callable[[Annotations], list[dict[str, Any]]]
    ) -> None:
        boxes = update("annotations", 0, bbox=[-20, 5, 40, 10], area=400)
        found = read_annotations(write(tmp_path, boxes))
        row = found.content["annotations"][0]
        assert row["bbox"] == [0, 5, 20, 10] and row["area"] == 200
        assert found.objects_of(8).boxes[0].tolist() == [0, 5, 20, 15]
        assert score(perfect_results(found), found).AP == pytest.approx(1.0)

    def test_a_rounded_coordinate_changes_no_judgement(self, tmp_path: Path) -> None:
        """COCO's own boxes have two digits, and its AP is taken of them as they are."""
        found = read_annotations(write(tmp_path, update("annotations", 0, bbox=[44, 5, 20.01, 9])))
        assert found.content["annotations"][0]["bbox"] == [44, 5, 20.01, 9]
        assert found.objects_of(8).boxes[0].tolist() == [44, 5, 64, 14]
        assert told(found) == ""

    def test_what_has_no_area_is_not_missed(
        self, tmp_path: Path, perfect_results: Callable[[Annotations], list[dict[str, Any]]]
    ) -> None:
        results = perfect_results(read_annotations(write(tmp_path)))
        results = [row for row in results if row["category_id"] == 2]
        path = write(tmp_path, update("annotations", 0, bbox=[5, 5, 0, 0]))
        assert score(results, read_annotations(path)).AP == pytest.approx(1.0)

    def test_sizes_are_read_from_the_files(self, tmp_path: Path) -> None:
        Image.new("RGB", (64, 48)).save(tmp_path / "b.jpg")
        for change in (without("images", 0, "width"), update("images", 0, width=0, height=None)):
            found = read_annotations(write(tmp_path, change), tmp_path)
            assert (found.images[1].width, found.images[1].height) == (64, 48)
            assert found.content["images"][1]["width"] == 64
            assert "(1): id 8 (entry 1) b.jpg 64x48" in told(found)

    def test_backslashes_are_separators_unless_they_are_a_name(self, tmp_path: Path) -> None:
        (tmp_path / "sub").mkdir()
        Image.new("RGB", (64, 48)).save(tmp_path / "sub" / "b.jpg")
        path = write(tmp_path, update("images", 0, file_name="sub\\b.jpg"))
        found = read_annotations(path, tmp_path)
        assert found.images[1].file_name == "sub/b.jpg"
        assert 'read as slashes (1): id 8 (entry 1) "sub' in told(found)
        if os.name != "nt":
            (tmp_path / "sub\\b.jpg").touch()
            assert read_annotations(path, tmp_path).images[1].file_name == "sub\\b.jpg"


class TestClasses:
    def test_labels_follow_a_detector_by_name(self, tmp_path: Path) -> None:
        found = read_annotations(write(tmp_path)).with_classes(("dog", "bird", "cat"), "it")
        assert found.category_ids == (9, None, 2)
        assert found.objects_of(8).labels.tolist() == [0, 2]
        assert found.objects_of(5).labels.tolist() == [2]

    def test_the_same_classes_are_the_same_file(self, tmp_path: Path) -> None:
        found = read_annotations(write(tmp_path))
        assert found.with_classes(("cat", "dog"), "it") is found

    def test_a_class_with_boxes_needs_a_place(self, tmp_path: Path) -> None:
        found = read_annotations(write(tmp_path))
        with pytest.raises(InputError, match=r"has boxes of 'dog' \(id 9\), which it has not"):
            found.with_classes(("cat",), "it")

    def test_a_class_without_boxes_needs_none(
        self, tmp_path: Path, perfect_results: Callable[[Annotations], list[dict[str, Any]]]
    ) -> None:
        root = {"id": 0, "name": "root"}
        path = write(tmp_path, lambda content: content["categories"].insert(0, root))
        found = read_annotations(path)
        assert found.occurring_classes == {"cat", "dog"}
        matched = found.with_classes(("dog", "cat"), "it")
        metrics = score(perfect_results(matched), matched)
        assert metrics.per_class == pytest.approx({"dog": 1.0, "cat": 1.0})


class TestFirst:
    def test_the_first_images_by_id_and_their_boxes(self, tmp_path: Path) -> None:
        one = read_annotations(write(tmp_path)).first(1)
        assert [image.id for image in one.images] == [5]
        assert one.objects_of(5).boxes.tolist() == [[1, 2, 31.5, 42]]
        with pytest.raises(KeyError):
            one.objects_of(8)
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

    @pytest.mark.parametrize("part", ["images", "categories"])
    @pytest.mark.parametrize("ids", [(2**63, 2**62), (-1, 2**63 + 7), (10**25, 3), (-4, 0)])
    def test_ids_may_be_any_whole_numbers(
        self,
        tmp_path: Path,
        perfect_results: Callable[[Annotations], list[dict[str, Any]]],
        part: str,
        ids: tuple[int, int],
    ) -> None:
        """Numpy would make floats of some of these, in which neighbours are the same."""

        def number(content: dict[str, Any]) -> None:
            new = {row["id"]: identity for row, identity in zip(content[part], ids, strict=True)}
            name = {"images": "image_id", "categories": "category_id"}[part]
            for row in content[part]:
                row["id"] = new[row["id"]]
            for row in content["annotations"]:
                row[name] = new[row[name]]

        found = read_annotations(write(tmp_path, number))
        metrics = score(perfect_results(found), found)
        assert metrics.per_class == pytest.approx({"cat": 1.0, "dog": 1.0})

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

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"{'images': []", "not valid JSON: Expecting property name"),
            (b'{"images": ', "char 11); its text ends there"),
            (b"", "not valid JSON: it is empty"),
            (b"<html>an error", "not valid JSON: it is a web page"),
            (b"// by hand\n{}", "'// by hand\\n{}' stands there"),
            (b'{"images": [1,]}', "']}' stands there"),
            ("{}".encode("utf-16"), "not text in UTF-8"),
            (b"[" * 1_000_000, "nested too deeply"),
            (b'{"images": ' + b"9" * 5000 + b"}", "not valid JSON"),
        ],
    )
    def test_not_json(self, tmp_path: Path, content: bytes, words: str) -> None:
        path = tmp_path / "instances.json"
        path.write_bytes(content)
        assert words in error_of(path)

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

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (without("images", 0, "id"), "images without 'id' (1): entry 1;"),
            (without("images", 0, "file_name"), "images without a file_name (1): id 8 (entry 1);"),
            (update("images", 0, file_name=7), "id 8 (entry 1) has 7;"),
            (update("images", 0, file_name="\ud800"), "images without a file_name (1)"),
            (without("images", 0, "height"), "width or height of at least 1 (1): id 8 (entry 1)"),
            (update("images", 0, width=0), "width or height of at least 1 (1): id 8 (entry 1)"),
            (update("images", 0, id=[1]), "images whose id is neither a whole number nor text (1)"),
            (update("images", 0, id="8"), "images with an id that is text, where others have num"),
            (
                update("images", 1, id=8),
                "images with an id that an earlier one has (1): id 8 (entr",
            ),
            (lambda content: content["images"].append(3), "entries of 'images' that are no obj"),
            (without("categories", 0, "id"), "categories without 'id' (1): entry 1;"),
            (without("categories", 0, "name"), "categories without 'name' (1): id 9 (entry 1);"),
            (update("categories", 0, name=3), "no line of text (1): id 9 (entry 1) has 3;"),
            (
                update("categories", 0, name="\ud800"),
                "categories whose name is no line of text (1)",
            ),
            (
                update("categories", 0, name="\u3000 "),
                "categories whose name is no line of text (1)",
            ),
            (update("categories", 0, name="a\nb"), 'id 9 (entry 1) has "a\\nb"; expected one that'),
            (update("categories", 0, id=2), "categories with an id that an earlier one has (1)"),
            (without("annotations", 1, "image_id"), "annotations without 'image_id' (1): id 22 (e"),
            (
                without("annotations", 1, "category_id"),
                "without 'category_id' (1): id 22 (entry 2)",
            ),
            (without("annotations", 1, "bbox"), "annotations without 'bbox' (1): id 22 (entry 2);"),
            (
                update("annotations", 0, bbox=None),
                "annotations without 'bbox' (1): id 21 (entry 1)",
            ),
            (
                update("annotations", 0, image_id=4),
                "a value of 'image_id' that is no id in 'images' (1): id 21 (entry 1) has 4;",
            ),
            (update("annotations", 0, image_id="x"), 'id 21 (entry 1) has "x"; expected one th'),
            (update("annotations", 0, image_id=[8]), "id 21 (entry 1) has [8]"),
            (update("annotations", 0, category_id=4), "'category_id' that is no id in 'categori"),
            (update("annotations", 0, category_id={"id": 9}), 'id 21 (entry 1) has {"id": 9}'),
            (update("annotations", 0, bbox=[1, 2, 3]), "not four finite numbers (1): id 21 (entry"),
            (update("annotations", 0, bbox=[1, 2, 3, "wide"]), 'has [1, 2, 3, "wide"]'),
            (update("annotations", 0, bbox="1234"), 'id 21 (entry 1) has "1234"'),
            (update("annotations", 0, bbox=[5, 5, -4, 9]), "a side below 0 (1): id 21 (entry 1)"),
            (update("annotations", 0, bbox=[5, 5, 4, -9]), "has [5, 5, 4, -9]; expected [x, y, w"),
            (update("annotations", 0, iscrowd="no"), 'neither 0 nor 1 (1): id 21 (entry 1) has "n'),
        ],
    )
    def test_a_fault_is_told_by_id_and_place(
        self, tmp_path: Path, change: Callable[[dict[str, Any]], object], words: str
    ) -> None:
        assert words in error_of(write(tmp_path, change))

    @pytest.mark.parametrize("position", range(4))
    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_a_side_is_no_finite_number(self, tmp_path: Path, position: int, value: float) -> None:
        box = [4.0, 5.0, 20.0, 10.0]
        box[position] = value
        message = error_of(write(tmp_path, update("annotations", 0, bbox=box)))
        assert "whose bbox is not four finite numbers (1): id 21 (entry 1)" in message

    def test_the_kind_that_there_is_most_of_is_told(self, tmp_path: Path) -> None:
        def spoil(content: dict[str, Any]) -> None:
            first, *others = content["annotations"]
            del first["bbox"]
            for row in others:
                row["category_id"] = 1

        message = error_of(write(tmp_path, spoil))
        assert "no id in 'categories' (2): id 22 (entry 2) has 1, id 23 (entry 3) has 1" in message
        assert message.endswith("(and 1 other fault; `bckd data check` lists them all)")


class TestReadings:
    """Boxes that were written in another way: the guess is said where all boxes fit it."""

    def boxes(self, content: dict[str, Any], change: Callable[..., list[float]]) -> None:
        sizes = {row["id"]: (row["width"], row["height"]) for row in content["images"]}
        for row in content["annotations"]:
            row["bbox"] = change(*row["bbox"], *sizes[row["image_id"]])

    @pytest.mark.parametrize(
        ("change", "guess"),
        [
            (lambda x, y, w, h, *_: [x, y, x + w, y + h], "make sense only as x1, y1, x2, y2 (3)"),
            (
                lambda x, y, w, h, width, height: [x / width, y / height, w / width, h / height],
                "only as fractions of the image's sides (3)",
            ),
            (lambda x, y, w, h, *_: [y, x, h, w], "as y, x, height, width (3)"),
            (lambda x, y, w, h, *_: [y, x, y + h, x + w], "only as y1, x1, y2, x2 (3)"),
            (lambda x, y, w, h, *_: [x, x + w, y, y + h], "only as x1, x2, y1, y2 (3)"),
        ],
    )
    def test_a_guess(self, tmp_path: Path, change: Callable[..., list[float]], guess: str) -> None:
        path = write(tmp_path, lambda content: self.boxes(content, change))
        message = error_of(path)
        assert guess in message and "id 21 (entry 1) has [" in message

    def test_the_middle_of_boxes_is_guessed_and_no_more(self, tmp_path: Path) -> None:
        """Boxes that reach beyond the right and the bottom alone could be as they should."""

        def middles(content: dict[str, Any]) -> None:
            self.boxes(content, lambda x, y, w, h, *_: [x + w / 2, y + h / 2, w, h])

        found = read_annotations(write(tmp_path, middles))
        assert "all would lie inside if x and y were those of the middle" in told(found)
        assert len(found.content["annotations"]) == 3

    @pytest.mark.parametrize("alone", [True, False])
    def test_boxes_in_a_corner_of_their_images(self, tmp_path: Path, alone: bool) -> None:
        """As those in per cent lie, or those of images that were enlarged."""

        def shrink(content: dict[str, Any]) -> None:
            row = content["annotations"][0]
            content["annotations"] = [
                {**row, "id": n, "bbox": [n, 2, 10 + n, 20]} for n in range(1, 11)
            ]
            if not alone:
                content["annotations"][3]["bbox"] = [23, 2, 10, 20]

        lines = told(read_annotations(write(tmp_path, shrink)))
        corner = "all lie in the upper left quarter of their images"
        assert (f"{corner} (are they in pixels of these?) (10): id 1 (entry 1)" in lines) == alone

    def test_images_that_are_listed_as_they_are_stored(self, tmp_path: Path) -> None:
        def swap(content: dict[str, Any]) -> None:
            for row in content["images"]:
                row["width"], row["height"] = row["height"], row["width"]

        message = error_of(write(tmp_path, swap))
        assert "with width and height of the images swapped" in message
        assert "EXIF orientation" in message

    def test_one_box_disproves_a_guess(self, tmp_path: Path) -> None:
        def corners(content: dict[str, Any]) -> None:
            self.boxes(content, lambda x, y, w, h, *_: [x, y, x + w, y + h])
            content["annotations"][1]["bbox"] = [30, 20, 9, 40]

        assert "clipped" in told(read_annotations(write(tmp_path, corners)))

    @pytest.mark.parametrize("corners", [True, False])
    def test_areas_tell_corners_that_fit_as_sides(self, tmp_path: Path, corners: bool) -> None:
        def write_boxes(content: dict[str, Any]) -> None:
            for n, row in enumerate(content["annotations"]):
                x, y, w, h = 2 + n, 3, 10 + n, 8
                row["bbox"] = [x, y, x + w, y + h] if corners else [x, y, w, h]
                row["area"] = w * h

        path = write(tmp_path, write_boxes)
        if corners:
            assert "only as x1, y1, x2, y2, by their areas (3)" in error_of(path)
        else:
            assert told(read_annotations(path)) == ""
