"""Files that are whole or absent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bckd.system.errors import InputError
from bckd.system.files import (
    LOCK,
    check_writable,
    finite_or_none,
    one_writer,
    parse_json,
    read_json,
    write_atomically,
    write_json,
    write_text,
)


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

    with pytest.raises(InputError, match="note.txt can't be written: disk full"):
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


def test_a_link_is_followed_and_stays(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    link, target = tmp_path / "link.txt", tmp_path / "far" / "target.txt"
    link.symlink_to(target)  # which is not there yet
    for text in ("first", "second"):
        write_text(link, text)
        assert link.is_symlink() and target.read_text() == text
    assert [file.name for file in target.parent.iterdir()] == ["target.txt"]


@pytest.mark.parametrize("kind", ["fifo", "folder", "circle", "device"])
def test_what_is_no_file_is_not_replaced(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "out.json"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "circle":
        path.symlink_to(path)
    else:
        path = Path(os.devnull)
    before = path.lstat().st_mode
    for attempt in (lambda: write_text(path, "text"), lambda: check_writable(path)):
        with pytest.raises(InputError, match=path.name):
            attempt()
    assert path.lstat().st_mode == before


def test_a_temporary_name_is_the_writers_own(tmp_path: Path) -> None:
    """No other process holds or guesses it, and no link that lies there is followed."""
    seen = []

    def write(part: Path) -> None:
        seen.append(part)
        part.write_text("x")

    for _ in range(2):
        write_atomically(tmp_path / "note.txt", write)
    assert len(set(seen)) == 2 and not any(part.exists() for part in seen)


def test_files_have_the_rights_that_the_user_gives_by_default(tmp_path: Path) -> None:
    plain = tmp_path / "plain.txt"
    plain.write_text("x")
    write_text(tmp_path / "ours.txt", "x")
    assert (tmp_path / "ours.txt").stat().st_mode == plain.stat().st_mode


def test_content_is_on_the_disk_before_the_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = []
    fsync, rename = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (events.append("fsync"), fsync(handle)))
    monkeypatch.setattr(os, "replace", lambda *names: (events.append("rename"), rename(*names)))
    write_text(tmp_path / "note.txt", "x")
    assert events == ["fsync", "rename", "fsync"]


def test_a_folder_that_is_no_folder_is_told_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file" / "out.json", tmp_path / ("x" * 300)):
        with pytest.raises(InputError, match="can't be written: "):
            check_writable(path)
    check_writable(tmp_path / "new" / "folder" / "out.json")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_a_folder_has_one_writer(tmp_path: Path) -> None:
    """The second, another process, gets a sentence; after the first it may write."""
    folder = tmp_path / "run"
    second = (
        "import sys; from pathlib import Path; from bckd.system.files import one_writer\n"
        "with one_writer(Path(sys.argv[1])): print('held')"
    )

    def attempt() -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-c", second, str(folder)], capture_output=True, text=True
        )

    with one_writer(folder):
        refused = attempt()
    assert refused.returncode == 1
    assert f"InputError: {folder} is in use" in refused.stderr
    assert attempt().stdout == "held\n"


def test_a_folder_that_nothing_was_written_to_is_gone(tmp_path: Path) -> None:
    with one_writer(tmp_path / "new" / "run"):
        pass
    assert list(tmp_path.iterdir()) == []
    with one_writer(tmp_path / "new" / "run"):
        write_text(tmp_path / "new" / "run" / "note.txt", "x")
    with one_writer(tmp_path / "new"):
        pass
    assert [x.name for x in (tmp_path / "new" / "run").iterdir()] == ["note.txt"]


def test_a_folder_that_can_not_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name, why in (
        ("file", "file is a file"),
        ("file/run", "file is a file"),
        ("link", "link is a link to .*nowhere, which does not exist"),
        ("x" * 300, "name too long"),
    ):
        with pytest.raises(InputError, match=f"(?i){name} can't be written: .*{why}"):
            with one_writer(tmp_path / name):
                raise AssertionError("it was entered")


def test_the_parts_of_another_writer_below_are_left(tmp_path: Path) -> None:
    part = tmp_path / "run" / ".bckd-00ff.part"
    with one_writer(tmp_path / "run"):
        part.touch()
        with one_writer(tmp_path):
            assert part.exists()
    with one_writer(tmp_path):
        assert not part.exists()


def test_the_old_content_can_keep_a_name(tmp_path: Path) -> None:
    for text in ("first", "second", "third"):
        write_atomically(
            tmp_path / "new", lambda part, text=text: part.write_text(text), tmp_path / "old"
        )
    assert {x.name: x.read_text() for x in tmp_path.iterdir()} == {"new": "third", "old": "second"}


def test_a_writer_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    (tmp_path / "snapshots").mkdir()
    for name in (".bckd-00ff.part", "snapshots/.bckd-00fe.part", "mine.part", ".other-00ff.part"):
        (tmp_path / name).write_text("half")
    with one_writer(tmp_path):
        left = sorted(file.name for file in tmp_path.rglob("*") if file.is_file())
    assert left == [LOCK, ".other-00ff.part", "mine.part"]


def test_json_of_windows_is_read(tmp_path: Path) -> None:
    path = tmp_path / "content.json"
    path.write_bytes('{"a": "ß"}'.encode("utf-8-sig"))
    assert read_json(path) == {"a": "ß"}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('{"a": "螺母"}'.encode("gbk"), r"is not text in UTF-8 \(byte 7 is 0xc2\)"),
        ('{"a": 1}'.encode("utf-16"), r"is not text in UTF-8 \(byte 0 is 0xff\)"),
        (b"[" * 10**6, "is nested too deeply to be read"),
        (b"1" * 5000, "is not valid JSON: "),
        (b"{", "is not valid JSON: "),
        (b"", "is not valid JSON: "),
    ],
)
def test_json_that_cant_be_read_is_told(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "content.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"content.json {sentence}"):
        read_json(path)
    with pytest.raises(InputError, match=f"^a header {sentence}"):
        parse_json(content, "a header")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "it is a Git LFS "),
        (b"\n<!DOCTYPE html><title>Sign in</title>", "it is a web page"),
        (b"", "it is empty"),
    ],
)
def test_what_stands_in_place_of_json_is_told(tmp_path: Path, content: bytes, kind: str) -> None:
    path = tmp_path / "content.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"content.json is not valid JSON: {kind}"):
        read_json(path)


def test_a_file_that_is_absent_or_a_folder_is_told(tmp_path: Path) -> None:
    for path, why in ((tmp_path / "absent.json", "No such file"), (tmp_path, "directory")):
        with pytest.raises(InputError, match=f"can't be read: .*{why}"):
            read_json(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_json_is_read_from_a_file_alone(tmp_path: Path) -> None:
    """What waits for a writer, or never ends, is not waited for."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(InputError, match=f"{path} is no regular file; expected JSON"):
            read_json(path)


def test_what_is_read_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "read.json")
    check_writable(tmp_path / "other.json", tmp_path / "read.json")
    for name in ("read.json", "link", "folder/../read.json"):
        with pytest.raises(InputError, match="used for something else here"):
            check_writable(tmp_path / name, tmp_path / "other.json", tmp_path / "read.json")
