"""Image files by files, folders and patterns, and their names."""

from __future__ import annotations

from pathlib import Path, PureWindowsPath

import pytest

from bckd.datasets.finding_images import find_images, names_below
from bckd.system.errors import InputError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    names = ["a/1.jpg", "a/deep/2.PNG", "b/1.jpg", "b/猫.webp", "b/notes.txt", "b/.hidden/3.jpg"]
    for name in [*names, "b/._1.jpg"]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def found(*named: str) -> list[str]:
    return list(find_images([Path(name) for name in named]))


def test_folders_are_gone_through(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert found("a") == ["1.jpg", "deep/2.PNG"]
    assert found("b") == ["1.jpg", "猫.webp"]
    assert "that do not end as images do are left out (1): notes.txt" in capsys.readouterr().out


def test_names_of_two_folders_differ(folder: Path) -> None:
    assert found("a", "b") == ["a/1.jpg", "a/deep/2.PNG", "b/1.jpg", "b/猫.webp"]
    assert found("a/1.jpg", "b/1.jpg") == ["a/1.jpg", "b/1.jpg"]
    assert found("b/1.jpg") == ["1.jpg"]


def test_each_once_and_in_order(folder: Path) -> None:
    assert found("b/1.jpg", "a/1.jpg", "./b/../b/1.jpg") == ["b/1.jpg", "a/1.jpg"]


def test_patterns_that_no_shell_resolved(folder: Path) -> None:
    assert found("*/1.jpg") == ["a/1.jpg", "b/1.jpg"]
    assert found("a/**/*.PNG") == ["2.PNG"]
    (folder / "[1].jpg").touch()  # a file of that name is itself
    assert found("[1].jpg") == ["[1].jpg"]
    with pytest.raises(InputError, match=r"no file fits c/\*\.jpg"):
        found("c/*.jpg")


def test_a_file_that_is_named_may_end_as_it_likes(folder: Path) -> None:
    assert found("b/notes.txt", "absent.jpg") == ["b/notes.txt", "absent.jpg"]


def test_what_holds_no_image(folder: Path) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match="empty holds no image: of 0 files none"):
        found("empty")
    with pytest.raises(InputError, match="film.MP4 is a video; expected images"):
        found("film.MP4")


def test_drives_of_windows() -> None:
    paths = [PureWindowsPath("C:/x/1.jpg"), PureWindowsPath("D:/x/1.jpg")]
    assert names_below([path.parent for path in paths], paths) == ["C/x/1.jpg", "D/x/1.jpg"]
    assert names_below([paths[0].parent], paths[:1]) == ["1.jpg"]
