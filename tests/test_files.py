"""Files that are whole or absent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bckd.files import finite_or_none, write_atomically, write_json, write_text


def test_text_is_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "note.txt"
    for text in ("first\n", "ß and 猫\n"):
        write_text(path, text)
        assert path.read_bytes().decode("utf-8") == text
    assert [file.name for file in path.parent.iterdir()] == ["note.txt"]


@pytest.mark.parametrize("old", [None, "old"])
def test_a_failure_leaves_what_was_there(tmp_path: Path, old: str | None) -> None:
    path = tmp_path / "note.txt"
    if old is not None:
        path.write_text(old)

    def fail(part: Path) -> None:
        part.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, fail)
    assert [file.read_text() for file in tmp_path.iterdir()] == ([] if old is None else [old])


def test_the_path_is_not_touched_while_writing(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    path.write_text("old")
    seen = []

    def write(part: Path) -> None:
        part.write_text("new")
        seen.append((path.read_text(), part.parent == path.parent))

    write_atomically(path, write)
    assert seen == [("old", True)]
    assert path.read_text() == "new"


def test_numbers_that_json_lacks_become_null(tmp_path: Path) -> None:
    content = {"a": float("nan"), "b": [1.5, float("-inf"), {"c": float("inf")}], "d": (1, "x")}
    expected = {"a": None, "b": [1.5, None, {"c": None}], "d": [1, "x"]}
    assert finite_or_none(content) == expected
    write_json(tmp_path / "content.json", content)
    text = (tmp_path / "content.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == expected
