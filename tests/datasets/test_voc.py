"""Pascal VOC data sets in the layouts that occur, made COCO's."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bckd.datasets.annotations import Annotations
from bckd.datasets.formats.converting import convert

Found = dict[str, Annotations]
CAT, DOG = ("cat", 1, 1, 40, 20), ("house dog", 11, 6, 20, 10)
CAT_BOX, DOG_BOX = ("cat", [0, 0, 40, 20]), ("house dog", [10, 5, 10, 5])


def xml(
    *objects: tuple[Any, ...],
    file: str = "x.jpg",
    sides: tuple[int, int] = (40, 20),
    more: str = "",
) -> str:
    """An XML file; an object is name, xmin, ymin, xmax, ymax."""
    text = "".join(
        f"<object><name> {name} </name>{more}<bndbox><ymin>{y1}</ymin><xmin>{x1}</xmin>"
        f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>\n"
        for name, x1, y1, x2, y2 in objects
    )
    size = f"<size><width>{sides[0]}</width><height>{sides[1]}</height><depth>3</depth></size>"
    return f"<annotation><filename>{file}</filename>{size}{text}</annotation>"


VOC = {
    "VOCdevkit/VOC2007/Annotations/1.xml": xml(CAT),
    "VOCdevkit/VOC2007/Annotations/2.xml": xml(DOG),
    "VOCdevkit/VOC2007/Annotations/3.xml": xml(DOG),
    "VOCdevkit/VOC2007/JPEGImages/1.jpg": None,
    "VOCdevkit/VOC2007/JPEGImages/2.jpg": None,
    "VOCdevkit/VOC2007/JPEGImages/3.jpg": None,
    "VOCdevkit/VOC2007/SegmentationClass/1.png": b"a mask",
    "VOCdevkit/VOC2007/ImageSets/Main/train.txt": "1\n",
    "VOCdevkit/VOC2007/ImageSets/Main/val.txt": "2\r\n",
    "VOCdevkit/VOC2007/ImageSets/Main/trainval.txt": "1\n2\n",
    "VOCdevkit/VOC2007/ImageSets/Main/cat_train.txt": "1  1\n",
}
TWO_PARTS = {
    "VOC's own": VOC,
    "Roboflow": {
        "train/1.xml": xml(CAT),
        "train/1.jpg": None,
        "valid/2.xml": xml(DOG),
        "valid/2.jpg": None,
    },
    "folders of parts in folders of kinds": {
        "annotations/train/1.xml": xml(CAT),
        "images/train/1.png": None,
        "annotations/val/1.xml": xml(DOG),
        "images/val/1.png": None,
        "annotations/trimaps/1.png": b"a mask",
    },
    "named by <filename>": {
        "train/b.xml": xml(CAT, file="C:\\photos\\1.JPG"),
        "train/1.JPG": None,
        "valid/a.xml": xml(DOG, file="2.jpg"),
        "valid/2.jpg": None,
    },
}


class TestLayouts:
    @pytest.mark.parametrize("name", TWO_PARTS)
    def test_two_parts(
        self, name: str, converted: Callable[..., Found], boxes: Callable[..., Any]
    ) -> None:
        parts = converted(TWO_PARTS[name])
        assert list(parts) == ["train", "val"]
        assert [*boxes(parts["train"]).values()] == [[CAT_BOX]]
        assert [*boxes(parts["val"]).values()] == [[DOG_BOX]]
        assert parts["train"].class_names == ("cat", "house dog")

    def test_train_and_val_together_are_divided(self, converted: Callable[..., Found]) -> None:
        files = {key: value for key, value in VOC.items() if "/train.txt" not in key}
        files = {key: value for key, value in files.items() if "/val.txt" not in key}
        parts = converted(files)
        assert {part: len(found.images) for part, found in parts.items()} == {"train": 1, "val": 1}

    def test_two_years_keep_names_apart(
        self, converted: Callable[..., Found], boxes: Callable[..., Any]
    ) -> None:
        other = {key.replace("VOC2007", "VOC2012"): value for key, value in VOC.items()}
        train = converted(VOC | other)["train"]
        assert boxes(train) == {
            "VOC2007/JPEGImages/1.jpg": [CAT_BOX],
            "VOC2012/JPEGImages/1.jpg": [CAT_BOX],
        }

    def test_what_is_left_out_is_told(
        self, converted: Callable[..., Found], capsys: pytest.CaptureFixture[str]
    ) -> None:
        converted(VOC | {"VOCdevkit/VOC2007/JPEGImages/9.jpg": None})
        told = capsys.readouterr().out
        assert (
            "no list of ImageSets names are left out (1): VOCdevkit/VOC2007/Annotations/3" in told
        )
        assert "images without an XML file are left out (1): VOCdevkit/VOC2007/JPEGImages/9" in told

    @pytest.mark.parametrize(
        ("path", "right", "wrong"),
        [
            ("set/1.xml", "set/1.jpg", "images/1.jpg"),
            ("xml/of/valid/1.xml", "images/valid/1.jpg", "images/train/1.jpg"),
            ("annotations/xmls/1.xml", "images/1.jpg", "annotations/trimaps/1.png"),
            ("one/labels/1.xml", "one/images/1.jpg", "another/images/1.jpg"),
        ],
    )
    def test_the_nearest_image_of_the_name_is_meant(
        self,
        path: str,
        right: str,
        wrong: str,
        make: Callable[..., Path],
        picture: Callable[..., None],
        tmp_path: Path,
    ) -> None:
        source = make(tmp_path / "source", {path: xml(DOG, sides=(0, 0)), right: None})
        picture(source / wrong, (99, 99))
        parts = convert(source, tmp_path / "out", progress=False).parts
        (image,) = next(iter(parts.values())).images
        assert (image.width, image.height) == (40, 20)


class TestObjects:
    def test_parts_of_an_object_are_none(
        self, converted: Callable[..., Found], boxes: Callable[..., Any]
    ) -> None:
        head = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
        parts = converted({"a.xml": xml(DOG, more=head), "a.jpg": None})
        assert boxes(parts["train"]) == {"a.jpg": [DOG_BOX]}

    def test_difficult_ones_are_crowd_regions(
        self, converted: Callable[..., Found], capsys: pytest.CaptureFixture[str]
    ) -> None:
        files = {"a.xml": xml(CAT, more="<difficult>1</difficult>"), "a.jpg": None}
        train = converted(files)["train"]
        assert train.objects.crowd.tolist() == [True]
        assert "become crowd regions: neither learnt nor judged (1): a.xml object 1 'cat'" in (
            capsys.readouterr().out
        )

    @pytest.mark.parametrize(
        ("objects", "bbox"),
        [
            ([DOG], [10, 5, 10, 5]),
            ([DOG, ("cat", 0, 3, 40, 20)], [11, 6, 9, 4]),
            ([("house dog", 11.5, 6, 20, 10)], [11.5, 6, 8.5, 4]),
            ([("house dog", 11.5, 6, 20, 10), CAT, CAT], [10.5, 5, 9.5, 5]),
        ],
        ids=["from one", "a zero", "fractions", "few fractions"],
    )
    def test_the_first_pixel(
        self,
        objects: list[Any],
        bbox: list[float],
        converted: Callable[..., Found],
        boxes: Callable[..., Any],
    ) -> None:
        train = converted({"a.xml": xml(*objects), "a.jpg": None})["train"]
        assert boxes(train)["a.jpg"][0] == ("house dog", bbox)

    def test_sides_of_zero_or_the_other_way_round(
        self, converted: Callable[..., Found], capsys: pytest.CaptureFixture[str]
    ) -> None:
        files = {
            "a.xml": xml(DOG, sides=(0, 0)),
            "a.jpg": None,
            "b.xml": xml(DOG, sides=(20, 40)),
            "b.jpg": None,
        }
        train = converted(files, val_share=0)["train"]
        assert {(image.width, image.height) for image in train.images} == {(40, 20)}
        assert "are those of the image (1): b.xml says 20x40" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            (xml(("cat", 10, 1, 5, 5)), "a.xml object 1 'cat' has xmin 10, ymin 1, xmax 5, ymax 5"),
            (xml(("cat", "", 1, 5, 5)), "objects without a box (1): a.xml object 1 'cat'"),
            (xml(("", 1, 1, 5, 5)), "objects without a name (1): a.xml object 1"),
            (xml(CAT, sides=(400, 200)), "a.xml says 400x200, a.jpg is 40x20"),
            ("<annotation><object>", "files that are no XML (1): a.xml (no element found: line 1"),
        ],
    )
    def test_faults(self, text: str, words: str, refusal: Callable[..., str]) -> None:
        assert words in refusal({"a.xml": text, "a.jpg": None})

    def test_no_image(self, refusal: Callable[..., str]) -> None:
        message = refusal({"a.xml": xml(CAT, file="b.jpg"), "c.jpg": None})
        assert "XML files without an image (1): a.xml with <filename> 'b.jpg'" in message

    def test_a_name_in_a_list_that_is_not_there(self, refusal: Callable[..., str]) -> None:
        name = "VOCdevkit/VOC2007/ImageSets/Main/train.txt"
        assert f"without an XML file (1): {name} line 2 7;" in refusal(VOC | {name: "1\n7\n"})


@pytest.mark.parametrize("seed", range(5))
def test_boxes_are_those_of_the_source(
    seed: int,
    make: Callable[..., Path],
    picture: Callable[..., None],
    boxes: Callable[..., Any],
    tmp_path: Path,
) -> None:
    rng = random.Random(seed)
    names = rng.sample(["aeroplane", "tv monitor", "Ärger", "x&amp;y", "z"], rng.randint(1, 5))
    source, truth = tmp_path / "source", {}
    for number in range(rng.randint(3, 8)):
        sides = width, height = rng.randint(8, 200), rng.randint(8, 200)
        path = source / "photos" / f"{number:03d}.png"
        picture(path, sides)
        objects, rows = [], []
        for _ in range(rng.randint(0, 4)):
            x1, x2 = sorted(rng.choices(range(1, width + 1), k=2))
            y1, y2 = sorted(rng.choices(range(1, height + 1), k=2))
            name = rng.choice(names)
            objects.append((name, x1, y1, x2, y2))
            box = [x1 - 1, y1 - 1, x2 - x1 + 1, y2 - y1 + 1]
            rows.append((name.replace("&amp;", "&"), box))
        make(source, {f"photos/{number:03d}.xml": xml(*objects, sides=sides)})
        truth[path.name] = rows
    if not any(truth.values()):
        make(source, {"photos/000.xml": xml(("z", 1, 1, 2, 2), sides=(0, 0))})
        truth["000.png"] = [("z", [0, 0, 2, 2])]
    parts = convert(source, tmp_path / "out", progress=False).parts
    found = {name: rows for part in parts.values() for name, rows in boxes(part).items()}
    assert found.keys() == truth.keys()
    for name, rows in truth.items():
        assert [label for label, _ in found[name]] == [label for label, _ in rows]
        ours, theirs = (np.array([bbox for _, bbox in x]) for x in (found[name], rows))
        np.testing.assert_allclose(ours, theirs, atol=1e-3)
