"""The one place where files are written, and where JSON is read.

A file is whole or absent, whatever happens: it is written beside under a name of its own,
brought to the disk, then renamed. A folder that a command writes to has one writer at a time.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import file_digest
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock, Timeout

from bckd.system.errors import InputError, reason

_PART = ".bckd-{}.part"  # the mark of a file that is being written
LOCK = ".bckd.lock"
_BEGINNING = 512  # bytes by which a file of another kind is told
_SHOWN = 20  # characters of a text that is no JSON


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say in a sentence why something can't be written (no space, no right).

    Raises:
        InputError: it can't.
    """
    try:
        yield
    except OSError as error:
        raise InputError(f"{path} can't be written: {reason(error)}") from error


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Say in a sentence why something can't be read.

    Raises:
        InputError: it can't.
    """
    try:
        yield
    except OSError as error:
        raise InputError(f"{path} can't be read: {reason(error)}") from error


def write_atomically(
    path: Path, write: Callable[[Path], object], previous: Path | None = None
) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it to `path`.

    Whoever reads `path` sees the old content or the new, never a part, after a power cut too. A
    link is followed. What `write` raises leaves the old content.

    Args:
        previous: a name beside it that the old content takes.

    Raises:
        InputError: the place can't be written to (no space, no right), or is no file.
    """
    target = _target(path)
    temporary = target.with_name(_PART.format(uuid4().hex))
    try:
        with writing(path):
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary.open("xb").close()  # a file of our own: nothing that lies there is followed
            write(temporary)
            _to_disk(temporary)
            if previous is not None and target.exists():
                os.replace(target, previous)
            os.replace(temporary, target)
            _to_disk(target.parent)
    finally:
        with suppress(OSError):  # renamed, or never made
            temporary.unlink()


def _target(path: Path) -> Path:
    """Where the file lies, links followed; neither a folder nor a device."""
    try:
        target = path.resolve()
        if target.exists() and not target.is_file():
            kind = "a folder" if target.is_dir() else "a device"
            raise InputError(f"{path} is {kind}; expected a file, or a name that is free")
    except (OSError, RuntimeError) as error:  # a circle of links
        raise InputError(f"{path} can't be written: {error}") from error
    return target


def _to_disk(path: Path) -> None:
    """Have the system bring a file, or the names in a folder, to the disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no folder, and keeps its names in a journal
    handle = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check_writable(path: Path, *others: Path) -> None:
    """Refuse early what `write_atomically` would refuse after the work.

    Args:
        others: files that must not be replaced: what is read, or written as well.

    Raises:
        InputError: as there, or it is one of the others.
    """
    target = _target(path)
    if any(os.path.realpath(other) == str(target) for other in others):
        raise InputError(f"{path} is used for something else here; name another file to write")
    folder = next(parent for parent in target.parents if parent.exists())
    with writing(path):
        trial = folder / _PART.format(uuid4().hex)
        trial.open("xb").close()
        trial.unlink()


@contextmanager
def one_writer(folder: Path) -> Iterator[None]:
    """Hold a folder for this process alone, as long as the block takes.

    The folder is made, and removed again where nothing was written. What an earlier writer that
    was killed left half-written in it is removed, or in a folder below that no other one holds.

    Raises:
        InputError: another process holds it, or it can't be written to.
    """
    with _made(folder, folder), _held(folder / LOCK, folder):
        below = (x for x in folder.iterdir() if x.is_dir() and not x.is_symlink())
        for place in (folder, *(x for x in below if not (x / LOCK).exists())):
            for part in place.glob(_PART.format("*")):
                part.unlink(missing_ok=True)
        yield


@contextmanager
def one_maker(path: Path) -> Iterator[None]:
    """Hold the name of a file, or of a folder that is to come as a whole, as `one_writer` does.

    Raises:
        InputError: as there.
    """
    with _made(path.parent, path), _held(path.with_name(f".{path.name}{LOCK}"), path):
        yield


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder beside `path` to be filled, which takes that name once the block has ended.

    Whatever happens before, nothing is at `path` but what was there: nothing, or an empty folder.
    Whoever calls holds the name (`one_maker`).

    Args:
        path: no link, nor the whole disk.
    """
    part = path.with_name(f".bckd-{path.name}.part")  # a name of our own
    shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
    part.mkdir()
    try:
        yield part
        if path.exists():
            path.rmdir()  # it is empty
        os.replace(part, path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def _made(folder: Path, what: Path) -> Iterator[None]:
    """Make a folder for something; what was made is removed again if it stays empty."""
    missing = [path for path in (folder, *folder.parents) if not os.path.exists(path)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{what} can't be written: {_no_folder(folder, error)}") from error
    try:
        yield
    finally:
        with suppress(OSError):  # it is not empty
            for path in missing:
                path.rmdir()


def _no_folder(folder: Path, error: OSError) -> str:
    """Why a folder can't be made."""
    for path in (folder, *folder.parents):
        if os.path.islink(path) and not os.path.exists(path):
            return f"{path} is a link to {os.readlink(path)}, which does not exist"
        if os.path.isfile(path):
            return f"{path} is a file"
    return reason(error)


@contextmanager
def _held(lock_file: Path, what: Path) -> Iterator[None]:
    """Hold a lock, which a system lets go when its holder dies."""
    lock = FileLock(lock_file)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise InputError(
            f"{what} is in use: another process writes to it; wait for its end or name another"
        ) from None
    except OSError as error:
        raise InputError(f"{what} can't be written: {reason(error)}") from error
    try:
        yield
    finally:
        with suppress(OSError):  # Windows keeps a file that is open
            lock_file.unlink()  # while it is held: whoever waits for it tries again
        lock.release()


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))


def finite_or_none(value: Any) -> Any:
    """The value with every number that JSON can't express (nan, inf) replaced by None."""
    if isinstance(value, dict):
        return {key: finite_or_none(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite_or_none(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_json(path: Path, content: Any) -> None:
    """Write an indented JSON file atomically; nan and inf become null."""
    write_text(path, json.dumps(finite_or_none(content), indent=2) + "\n")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hex.

    Raises:
        InputError: it can't be read.
    """
    with reading(path), path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def what_it_is(path: Path) -> str | None:
    """What a file is that is often found in place of another, in words; None: nothing tells.

    Raises:
        InputError: it can't be read.
    """
    with reading(path):
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(_BEGINNING)
    if not start:
        return "it is empty"
    if start.startswith(b"version https://git-lfs"):
        return (
            f"it is a Git LFS pointer, {size} bytes of text that stand for the file; "
            "`git lfs pull` fetches it"
        )
    if re.match(rb"(\xef\xbb\xbf)?\s*<(!doctype|html|head|body|\?xml)", start, re.IGNORECASE):
        return "it is a web page; download the file itself"
    if start.startswith(b"PK") and not zipfile.is_zipfile(path):
        return f"it is cut short, at {size} bytes"
    return None


def read_bytes(path: Path) -> bytes:
    """What a JSON file holds, as it is stored.

    Raises:
        InputError: it is no file, or can't be read.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise InputError(f"{path} is no regular file; expected JSON")  # it may never end
    with reading(path):
        return path.read_bytes()


def read_json(path: Path) -> Any:
    """What a JSON file holds; a byte order mark at its start is passed over.

    Raises:
        InputError: it is no file, can't be read, is not UTF-8, or no JSON.
    """
    content = read_bytes(path)
    try:
        return parse_json(content, str(path))
    except InputError as error:
        if (kind := what_it_is(path)) is None:
            raise
        raise InputError(f"{path} is not valid JSON: {kind}") from error


def parse_json(content: str | bytes, name: str) -> Any:
    """The value that a JSON text says.

    Args:
        content: the text, or its bytes in UTF-8.
        name: where it came from, for the message.

    Raises:
        InputError: it is not UTF-8, or no JSON.
    """
    try:
        text = content if isinstance(content, str) else content.decode("utf-8-sig")
        return json.loads(text)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name} is not text in UTF-8 (byte {error.start} is "
            f"{error.object[error.start]:#04x}); save it in that encoding"
        ) from error
    except RecursionError as error:
        raise InputError(f"{name} is nested too deeply to be read") from error
    except json.JSONDecodeError as error:
        rest = error.doc[error.pos : error.pos + _SHOWN]
        found = f"{rest!r} stands there" if rest.strip() else "its text ends there"
        raise InputError(f"{name} is not valid JSON: {error}; {found}") from error
    except ValueError as error:  # a number of thousands of digits
        raise InputError(f"{name} is not valid JSON: {error}") from error
