"""YOLO data sets in the layouts that occur, made COCO's; and the sentence for each thing wrong."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bckd.datasets.annotations import Annotations
from bckd.datasets.formats.converting import convert
from bckd.system.errors import InputError

NAMES = "names: [cat, dog]\n"
CAT, DOG = "0 0.5 0.5 0.25 0.5\n", "1 0.25 0.25 0.5 0.5\n"
SIDES = (40, 20)


CAT_BOX, DOG_BOX = ("cat", [15, 5, 10, 10]), ("dog", [0, 0, 20, 10])


TWO_PARTS = {
    "images and labels, parts within": {
        "data.yaml": "path: .\ntrain: images/train\nval: images/val\n" + NAMES,
        "images/train/a.jpg": None,
        "labels/train/a.txt": CAT,
        "images/val/b.jpg": None,
        "labels/val/b.txt": DOG,
    },
    "parts, images and labels within, as Roboflow writes it": {
        "data.yaml": "train: ../train/images\nval: ../valid/images\nnc: 2\n" + NAMES,
        "train/images/a.jpg": None,
        "train/labels/a.txt": CAT,
        "valid/images/b.jpg": None,
        "valid/labels/b.txt": DOG,
    },
    "names as a mapping, a path of another machine": {
        "data.yaml": "train: /content/x/images/train\nval: C:\\x\\images\\val\n"
        "names:\n  0: cat\n  1: dog\n",
        "images/train/a.jpg": None,
        "labels/train/a.txt": CAT,
        "images/val/b.jpg": None,
        "labels/val/b.txt": DOG,
    },
    "lists of images": {
        "coco.yaml": "train: train.txt\nval: [val.txt]\n" + NAMES,
        "train.txt": "./images/a.jpg\r\n\r\n",
        "val.txt": "/other/machine/images/b.jpg",
        "images/a.jpg": None,
        "labels/a.txt": CAT,
        "images/b.jpg": None,
        "labels/b.txt": DOG,
    },
    "no description, names in classes.txt": {
        "classes.txt": "cat\ndog\n",
        "Images/train2017/a.jpg": None,
        "Labels/train2017/a.txt": CAT,
        "Images/val2017/b.jpg": None,
        "Labels/val2017/b.txt": DOG,
    },
    "darknet": {
        "obj.data": "classes = 2\ntrain = data/train.txt\nvalid = data/valid.txt\n"
        "names = data/obj.names\nbackup = backup/\n",
        "obj.names": "cat\ndog\n",
        "train.txt": "data/obj_train_data/a.jpg\n",
        "valid.txt": "data/obj_valid_data/b.jpg\n",
        "obj_train_data/a.jpg": None,
        "obj_train_data/a.txt": CAT,
        "obj_valid_data/b.jpg": None,
        "obj_valid_data/b.txt": DOG,
    },
    "a folder in a folder, lists as CVAT writes them": {
        "task 7/data.yaml": "path: .\ntrain: train.txt\nval: val.txt\n" + NAMES,
        "task 7/train.txt": "data/images/train/a.jpg\n",
        "task 7/val.txt": "data/images/val/b.jpg\n",
        "task 7/images/train/a.jpg": None,
        "task 7/labels/train/a.txt": CAT,
        "task 7/images/val/b.jpg": None,
        "task 7/labels/val/b.txt": DOG,
    },
    "labels beside images, names in each folder": {
        "train/_darknet.labels": "cat\ndog",
        "train/a.jpg": None,
        "train/a.txt": CAT,
        "valid/_darknet.labels": "cat\ndog\n",
        "valid/b.jpg": None,
        "valid/b.txt": DOG,
    },
    "train_images and train_labels, a mark and CRLF": {
        "data.yaml": b"\xef\xbb\xbf" + NAMES.encode(),
        "train_images/a.jpg": None,
        "train_labels/a.txt": b"\xef\xbb\xbf\r\n0\t0.5 0.5  0.25 0.5\r\n\r\n",
        "val_images/b.jpg": None,
        "val_labels/b.txt": DOG,
    },
}


class TestLayouts:
    @pytest.mark.parametrize("name", TWO_PARTS)
    def test_two_parts(
        self, name: str, converted: Callable[..., dict[str, Annotations]], boxes: Callable[..., Any]
    ) -> None:
        parts = converted(TWO_PARTS[name])
        assert list(parts) == ["train", "val"]
        assert [*boxes(parts["train"]).values()] == [[CAT_BOX]]
        assert [*boxes(parts["val"]).values()] == [[DOG_BOX]]
        assert parts["val"].class_names == ("cat", "dog")

    def test_the_description_itself_is_a_source(
        self, tmp_path: Path, make: Callable[..., Any], boxes: Callable[..., Any]
    ) -> None:
        make(tmp_path, TWO_PARTS["lists of images"] | {"other.yaml": NAMES})
        with pytest.raises(InputError, match="several files .*coco.yaml, other.yaml"):
            convert(tmp_path, tmp_path / "out", progress=False)
        found = convert(tmp_path / "coco.yaml", tmp_path / "out", progress=False)
        assert boxes(found.parts["train"]) == {"a.jpg": [CAT_BOX]}

    def test_names_stay_text(self, converted: Callable[..., dict[str, Annotations]]) -> None:
        files = {"data.yaml": "names: [no, 1, on, 2.50]\n", "a.png": None, "a.txt": CAT}
        assert converted(files, val_share=0)["train"].class_names == ("no", "1", "on", "2.50")

    def test_a_part_of_several_folders_keeps_names_apart(
        self, converted: Callable[..., dict[str, Annotations]], boxes: Callable[..., Any]
    ) -> None:
        files = {
            "data.yaml": "train: [one/images, two/images]\nval: three\n" + NAMES,
            "one/images/a.jpg": None,
            "one/labels/a.txt": CAT,
            "two/images/a.jpg": None,
            "two/labels/a.txt": DOG,
            "three/c.JPEG": None,
        }
        parts = converted(files)
        assert boxes(parts["train"]) == {
            "one/images/a.jpg": [CAT_BOX],
            "two/images/a.jpg": [DOG_BOX],
        }
        assert boxes(parts["val"]) == {"c.JPEG": []}

    def test_a_test_part_may_have_no_labels(
        self, converted: Callable[..., dict[str, Annotations]]
    ) -> None:
        parts = converted(
            TWO_PARTS["images and labels, parts within"] | {"images/test/c.jpg": None}
        )
        assert list(parts) == ["train", "val"]  # the description names no such part
        assert "test" not in parts

    def test_unlabelled_images_to_test_on(
        self, converted: Callable[..., dict[str, Annotations]]
    ) -> None:
        files = {**TWO_PARTS["no description, names in classes.txt"], "Images/test/c.jpg": None}
        parts = converted(files)
        assert not parts["test"].labelled
        assert [image.file_name for image in parts["test"].images] == ["c.jpg"]

    def test_images_lie_turned_as_they_are_shown(
        self,
        tmp_path: Path,
        make: Callable[..., Any],
        boxes: Callable[..., Any],
        picture: Callable[..., Any],
    ) -> None:
        source = make(tmp_path / "source", {"data.yaml": NAMES, "a.txt": CAT})
        picture(source / "a.jpg", orientation=6)
        train = convert(source, tmp_path / "out", progress=False).parts["train"]
        assert (train.images[0].width, train.images[0].height) == SIDES[::-1]
        assert boxes(train) == {"a.jpg": [("cat", [7.5, 10, 5, 20])]}


class TestLines:
    @pytest.mark.parametrize(
        ("line", "bbox"),
        [
            ("0 0.5 0.5 0.25 0.5 0.93", [15, 5, 10, 10]),
            ("0.0 .1 .2 .3 .2 .2 .8", [4, 4, 8, 12]),
            ("0 .1 .2 .3 .2 .3 .8 .1 .8 .77", [4, 4, 8, 12]),
            ("0 1e-1 5e-1 0.4 0.2", [0, 8, 12, 4]),
        ],
    )
    def test_boxes(
        self,
        line: str,
        bbox: list[float],
        converted: Callable[..., dict[str, Annotations]],
        boxes: Callable[..., Any],
    ) -> None:
        (found,) = boxes(converted({"data.yaml": NAMES, "a.jpg": None, "a.txt": line})["train"])[
            "a.jpg"
        ]
        assert found[1] == pytest.approx(bbox, abs=1e-3)

    def test_keypoints_follow_the_box(
        self, converted: Callable[..., dict[str, Annotations]], boxes: Callable[..., Any]
    ) -> None:
        line = CAT.strip() + " 0.9 0.9 0 0.1 0.1 2"
        files = {"data.yaml": NAMES + "kpt_shape: [2, 3]\n", "a.jpg": None, "a.txt": line}
        assert boxes(converted(files)["train"]) == {"a.jpg": [CAT_BOX]}

    def test_what_is_odd_is_told(
        self, converted: Callable[..., dict[str, Annotations]], capsys: pytest.CaptureFixture[str]
    ) -> None:
        lines = [CAT.strip() + " .5", "1 0 .5 .2 .2", "1 .5 .5 0 .2", "0 .1 .1 .2 .1 .2 .3", ""]
        converted(
            {
                "a.jpg": None,
                "a.txt": "\n".join(lines),
                "b.jpg": None,
                "gone.txt": CAT,
            },
            val_share=0,
        )
        told = capsys.readouterr().out
        assert "confidences at the end of lines are passed over (1): a.txt line 1" in told
        assert "clipped to it (1): a.txt line 2" in told
        assert (
            "without width or height, or outside their image, are left out (1): a.txt line 3"
            in told
        )
        assert "lines with a polygon give its box (1): a.txt line 4" in told
        assert "count as images without objects (1): b.jpg" in told
        assert "label files without an image are left out (1): gone.txt" in told
        assert "called by their index (2): class_0, class_1" in told

    def test_what_is_written_lies_within(
        self, converted: Callable[..., dict[str, Annotations]]
    ) -> None:
        files = {"data.yaml": NAMES, "a.jpg": None, "a.txt": "0 1 0 .5 .5\n1 0 1 .5 .5\n"}
        path = converted(files)["train"].path
        rows = json.loads(path.read_text())["annotations"]
        assert [row["bbox"] for row in rows] == [[30, 0, 10, 5], [0, 15, 10, 5]]

    @pytest.mark.parametrize(
        ("line", "words"),
        [
            ("0 .5 .5 .5", "lines that are neither five numbers nor a class and a polygon (1)"),
            ("0 .5 nan .5 .5", "lines that are neither five numbers"),
            ("cat .5 .5 .5 .5", "whose class is no whole number from 0 on"),
            ("-1 .5 .5 .5 .5", "whose class is no whole number from 0 on"),
            ("2 .5 .5 .5 .5", "data.yaml names 2 classes (cat, dog): expected one from 0 to 1"),
            ("0 20 10 10 8", "no fractions of the image's sides"),
            ("0 .5 .5 -.5 .5", "width or height is below 0"),
        ],
    )
    def test_faults(self, line: str, words: str, refusal: Callable[..., str]) -> None:
        message = refusal({"data.yaml": NAMES, "a.jpg": None, "a.txt": f"{CAT}\n{line}\n"})
        assert words in message
        assert "a.txt line 3" in message

    def test_all_faults_are_told_at_once(
        self, refusal: Callable[..., str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        message = refusal(
            {
                "data.yaml": NAMES,
                "a.jpg": None,
                "a.txt": "0 .5 .5 .5\n5 .5 .5 .5 .5\n0 9 9 9 9\n",
                "b.jpg": b"no picture",
                "b.txt": "0 .5\n",
                "c.jpg": None,
                "c.txt": b"\xff\xfe0\0",
            }
        )
        assert message.endswith("has 5 faults, told above; nothing is written")
        told = capsys.readouterr().out
        for place in ("a.txt line 1", "a.txt line 2", "a.txt line 3", "b.jpg", "c.txt"):
            assert place in told


class TestRefused:
    @pytest.mark.parametrize(
        ("files", "words"),
        [
            ({"a.jpg": None, "data.yaml": NAMES}, "none of 1 images, such as a.jpg, has a label"),
            ({"data.yaml": "train: x\n" + NAMES}, "there is no image at 'train' (x)"),
            ({"data.yaml": "names: cat\n", "a.jpg": None}, "'names' is neither a list"),
            ({"classes.txt": "a\n\nb\n", "a.jpg": None, "a.txt": CAT}, "class 1 has no name"),
            (
                {"data.yaml": "train: /x/images\nval: /y/images\n" + NAMES, "images/a.jpg": None},
                "'train' (/x/images) and 'val' (/y/images) are both found at",
            ),
            (
                {"one/classes.txt": "a\nb", "two/classes.txt": "b\na", "a.jpg": None, "a.txt": CAT},
                "name the classes differently",
            ),
            ({"a.jpg": None}, "holds no data set in a known format, in 1 files (1 images)"),
            (
                {"data.yaml": "train: t.txt\n" + NAMES, "t.txt": "a.jpg\nb.jpg\n", "a.jpg": None}
                | {"a.txt": CAT},
                "images that a list names and that are not there (1): t.txt line 2 b.jpg",
            ),
        ],
    )
    def test_sentence(self, files: dict, words: str, refusal: Callable[..., str]) -> None:
        assert words in refusal(files)

    def test_no_yaml(self, tmp_path: Path, make: Callable[..., Any]) -> None:
        path = make(tmp_path, {"data.yaml": "names: [a\n", "a.jpg": None}) / "data.yaml"
        for source in (path, tmp_path):
            with pytest.raises(InputError, match="data.yaml is not valid YAML: .*line 2"):
                convert(source, tmp_path / "out", progress=False)


@pytest.mark.parametrize("seed", range(5))
def test_boxes_are_those_of_the_source(
    seed: int,
    tmp_path: Path,
    make: Callable[..., Any],
    boxes: Callable[..., Any],
    picture: Callable[..., Any],
) -> None:
    """Drawn images, classes and boxes, written with the digits that tools write."""
    rng = random.Random(seed)
    names = [f"class {n}" for n in range(rng.randint(1, 5))]
    source = make(tmp_path / "source", {"data.yaml": f"names: {names}\n"})
    truth = {}
    for part in ("train", "val", "test"):
        for number in range(rng.randint(1, 4)):
            width, height = rng.randint(8, 200), rng.randint(8, 200)
            path = source / "images" / part / f"{part} {number}.png"
            picture(path, (width, height))
            lines, rows = [], []
            for _ in range(rng.randint(0, 5)):
                x, x2 = sorted(rng.sample(range(width * 10 + 1), 2))
                y, y2 = sorted(rng.sample(range(height * 10 + 1), 2))
                x, y, w, h = x / 10, y / 10, (x2 - x) / 10, (y2 - y) / 10
                label = rng.randrange(len(names))
                middle = f"{(x + w / 2) / width:.8f} {(y + h / 2) / height:.8f}"
                lines.append(f"{label} {middle} {w / width:.8f} {h / height:.8f}")
                rows.append((names[label], [x, y, w, h]))
            text = source / "labels" / part / f"{part} {number}.txt"
            text.parent.mkdir(parents=True, exist_ok=True)
            if rows or number == 0:
                text.write_text("\n".join(lines))
            truth[path.name] = rows
    parts = convert(source, tmp_path / "out", progress=False).parts
    found = {name: rows for part in parts.values() for name, rows in boxes(part).items()}
    assert found.keys() == truth.keys()
    for name, rows in truth.items():
        assert [label for label, _ in found[name]] == [label for label, _ in rows]
        ours = np.array([bbox for _, bbox in found[name]])
        theirs = np.array([bbox for _, bbox in rows])
        np.testing.assert_allclose(ours, theirs, atol=1e-3)
    assert all(part.class_names == tuple(names) for part in parts.values())
