"""Where notebooks work, and that they delete nothing but their own."""

from __future__ import annotations

from pathlib import Path

import pytest

import bckd
from bckd.course.folders import MARK, fresh, work_in
from bckd.system.errors import InputError

ROOT = Path(bckd.__file__).resolve().parents[1]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "a b é" / "repository"
    (root / "notebooks" / "solutions").mkdir(parents=True)
    (root / "notebooks" / "00_quickstart.ipynb").touch()
    return root


@pytest.mark.parametrize("opened", [".", "notebooks", "notebooks/solutions"])
def test_a_notebook_finds_the_repository_that_it_was_opened_in(
    repository: Path, opened: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository / opened)
    for folder in ("notebooks", "notebooks/solutions", "notebooks"):  # and again
        work_in(folder)
        assert Path.cwd() == repository / folder


def test_elsewhere_it_is_the_packages_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    work_in("notebooks")
    assert Path.cwd() == ROOT / "notebooks"


def test_without_a_repository_it_says_where_to_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bckd, "__file__", str(tmp_path / "site-packages" / "bckd" / "__init__.py"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=f"no folder above {tmp_path} .* `make lab`"):
        work_in("notebooks")
    assert Path.cwd() == tmp_path


def test_a_notebook_empties_its_own_folder(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "notebook"
    for _ in range(2):
        assert fresh(folder) == folder
        assert [file.name for file in folder.iterdir()] == [MARK]
        (folder / "student.safetensors").touch()


def test_a_notebook_deletes_nothing_of_the_users(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").touch()
    link = tmp_path / "link"
    link.symlink_to(fresh(tmp_path / "own"))
    (tmp_path / "own" / "kept").touch()
    (tmp_path / "file").touch()
    for path in (mine, link, tmp_path / "file"):
        with pytest.raises(InputError, match="was not made by a notebook"):
            fresh(path)
    assert (mine / "notes.txt").exists() and (tmp_path / "own" / "kept").exists()
