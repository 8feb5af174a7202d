"""From a data set in another format to one of COCO's: whole or not at all, and what is said."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bckd.commands import data
from bckd.commands.data_convert import ConvertOptions
from bckd.datasets.annotations import Annotations
from bckd.datasets.coco import CocoDataset
from bckd.datasets.formats.converting import convert
from bckd.datasets.formats.labelled import LabelledImage
from bckd.datasets.formats.splitting import PARTS, draw, part_called
from bckd.image_size import ImageSize
from bckd.recipes.presets import PRESETS
from bckd.system.errors import InputError

CAT = "0 0.5 0.5 0.25 0.5\n"
YOLO: dict[str, str | bytes | None] = {
    "data.yaml": "names: [cat, dog]\n",
    "train/a.jpg": None,
    "train/a.txt": CAT * 2,
    "train/b.jpg": None,
    "val/c.jpg": None,
    "val/c.txt": CAT,
    "test/d.jpg": None,
}
XML = "<annotation><object><name>cat</name></object></annotation>"

Make = Callable[..., Path]


def images(count: int, name: str = "{}.jpg") -> list[LabelledImage]:
    return [LabelledImage(Path(name.format(n)), 8, 8, None, ()) for n in range(count)]


class TestWhole:
    def test_it_is_what_the_preset_takes(self, make: Make, tmp_path: Path) -> None:
        source = make(tmp_path / "source", YOLO)
        before = {path: path.stat().st_mtime_ns for path in source.rglob("*")}
        out = tmp_path / "out"
        found = convert(source, out, progress=False)
        config = PRESETS["custom"].recipe.data
        for part, folder, listing in (
            ("train", config.train_images, config.train_annotations),
            ("val", config.val_images, config.val_annotations),
        ):
            assert found.parts[part].path == out / listing
            assert len(CocoDataset(out / folder, found.parts[part], ImageSize(32, 32)))
        assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]
        assert {path: path.stat().st_mtime_ns for path in source.rglob("*")} == before

    def test_the_default_folder_is_the_presets(self) -> None:
        assert ConvertOptions().out == PRESETS["custom"].recipe.data.root

    @pytest.mark.parametrize("linked", [True, False])
    def test_images_are_links_or_copies(
        self, linked: bool, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*arguments: object) -> None:
            raise OSError("no links here")

        if not linked:
            monkeypatch.setattr(os, "link", refuse)
        source = make(tmp_path / "source", YOLO)
        convert(source, tmp_path / "out", progress=False)
        ours, theirs = tmp_path / "out/train/a.jpg", source / "train/a.jpg"
        assert ours.read_bytes() == theirs.read_bytes()
        assert ours.samefile(theirs) == linked

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows asks for a right to make links")
    def test_links_of_the_source_lead_to_files(self, make: Make, tmp_path: Path) -> None:
        source = make(tmp_path / "source", YOLO)
        (source / "train/a.jpg").rename(tmp_path / "elsewhere.jpg")
        (source / "train/a.jpg").symlink_to(tmp_path / "elsewhere.jpg")
        (source / "train/circle").symlink_to(source, target_is_directory=True)
        convert(source, tmp_path / "out", progress=False)
        assert (tmp_path / "out/train/a.jpg").is_file()
        assert not (tmp_path / "out/train/a.jpg").is_symlink()

    def test_nothing_is_overwritten(self, make: Make, tmp_path: Path) -> None:
        source = make(tmp_path / "source", YOLO)
        make(tmp_path / "out", {"mine.txt": "mine"})
        with pytest.raises(InputError, match="out is there already, and stays as it is"):
            convert(source, tmp_path / "out", progress=False)
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
        (tmp_path / "out/mine.txt").unlink()
        convert(source, tmp_path / "out", progress=False)

    def test_a_write_that_fails_leaves_nothing(
        self, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*arguments: object) -> None:
            raise OSError(28, "No space left on device")

        source = make(tmp_path / "source", YOLO)
        monkeypatch.setattr(os, "link", full)
        monkeypatch.setattr("shutil.copyfile", full)
        with pytest.raises(InputError, match="out can't be written: No space left on device"):
            convert(source, tmp_path / "out", progress=False)
        assert [path.name for path in tmp_path.iterdir()] == ["source"]

    def test_a_name_that_does_not_show(self, refusal: Callable[..., str]) -> None:
        message = refusal({"data.yaml": 'names: ["a\\tb"]\n', "a.jpg": None, "a.txt": CAT})
        assert "out/annotations/instances_train.json: categories whose name is no line" in (
            message.replace(os.sep, "/")
        )


class TestFormat:
    def test_two_formats_at_once(
        self, converted: Callable[..., dict[str, Annotations]], refusal: Callable[..., str]
    ) -> None:
        files = {**YOLO, "train/a.xml": XML}
        assert "holds data of yolo and of voc; expected --format" in refusal(files)
        assert list(converted({}, format="yolo")) == [*PARTS]

    @pytest.mark.parametrize(
        ("files", "words"),
        [
            ({"instances.json": "{}"}, "COCO's own JSON needs no conversion"),
            ({"a.xml": "<annotation></annotation>", "a.jpg": None}, "has no object to convert"),
        ],
    )
    def test_nothing_to_convert(
        self, files: dict[str, str | None], words: str, refusal: Callable[..., str]
    ) -> None:
        assert words in refusal(files)

    def test_a_file(self, make: Make, tmp_path: Path) -> None:
        archive = make(tmp_path, {"set.zip": b"PK"}) / "set.zip"
        with pytest.raises(InputError, match="set.zip is a file; expected the folder"):
            convert(archive, tmp_path / "out")
        with pytest.raises(InputError, match="nothing does not exist"):
            convert(tmp_path / "nothing", tmp_path / "out")


class TestSplit:
    @pytest.mark.parametrize(("count", "share", "drawn"), [(2, 0.01, 1), (10, 0.2, 2), (9, 0.5, 4)])
    def test_a_share_is_drawn(self, count: int, share: float, drawn: int) -> None:
        every = images(count)
        val, train = draw(every, share)
        assert len(val) == drawn
        assert sorted([*val, *train], key=lambda x: x.path) == every
        assert draw(every[::-1], share) == (val[::-1], train[::-1])

    def test_it_is_the_same_on_any_machine(self) -> None:
        assert [x.path.name for x in draw(images(10), 0.3)[0]] == [
            "1.jpg",
            "5.jpg",
            "6.jpg",
        ]

    def test_most_stay_where_they_are_when_images_are_added(self) -> None:
        before, after = ({x.path for x in draw(images(n), 0.2)[0]} for n in (100, 110))
        assert len(before & after) >= 15

    def test_copies_of_an_image_stay_together(self) -> None:
        every = [x for n in range(10) for x in images(3, f"{n}_jpg.rf.{{}}.jpg")]
        val, train = ({x.path.name.partition(".rf.")[0] for x in part} for part in draw(every, 0.2))
        assert val and not val & train

    def test_a_set_without_val_is_divided(
        self,
        converted: Callable[..., dict[str, Annotations]],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        parts = converted({name: x for name, x in YOLO.items() if not name.startswith("val/")})
        assert {part: len(found.images) for part, found in parts.items()} == {
            "train": 1,
            "val": 1,
            "test": 1,
        }
        assert "a part val is made of 1 of 2 training images" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("name", "part"),
        [("valid", "val"), ("Train2017", "train"), ("images_test", "test"), ("trainer", None)],
    )
    def test_names_of_parts(self, name: str, part: str | None) -> None:
        assert part_called(name) == part


class TestCommand:
    def test_what_it_says(
        self, make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        source, out = make(tmp_path / "source", YOLO), tmp_path / "my data"
        data.run(["convert", str(source), "--out", str(out)])
        lines = capsys.readouterr().out.splitlines()
        said = lines[lines.index(f"YOLO labels from {source}:") :]
        assert said[1:5] == [
            "  train 2 images, 2 boxes (1 of the images without)",
            "  val   1 image, 1 box",
            "  test  1 image without labels",
            "  2 classes: cat, dog",
        ]
        assert said[6] == f"  bckd data check '{out}'"
        assert said[7].startswith("  bckd eval runs/custom ") and "instances_test.json" in said[7]

    def test_it_needs_a_source(self) -> None:
        with pytest.raises(InputError, match="needs the folder of a data set"):
            data.run(["convert", "--out", "x"])
