"""The log of a run: JSON lines for programs, TensorBoard for eyes."""

from __future__ import annotations

import io
import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from bckd.system.errors import InputError
from bckd.system.files import (
    finite_or_none,
    parse_json,
    reading,
    write_atomically,
    write_text,
    writing,
)
from bckd.system.telling import tell_some

LOG = "log.jsonl"  # the file name in the folder of a run


class RunLog:
    """Appends one record per call to `log.jsonl` and to TensorBoard.

    Args:
        out: folder of the run.
        first_step: lines of this step and later are dropped first: they come from
            a run that was killed after its last resume state.

    Raises:
        InputError: a file can't be written to; so do `write` and `close`.
    """

    def __init__(self, out: Path, first_step: int) -> None:
        self.path = out / LOG
        kept = [line for line in read_log(out) if line["step"] < first_step]
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in kept))
        self.board = _Board(out / "tensorboard", first_step)

    def write(self, step: int, values: dict[str, Any]) -> None:
        """Record values (numbers, or dicts of numbers) of a step."""
        append_line(self.path, {"step": step, **values})
        self.board.write(step, _flat(values))

    def write_picture(self, step: int, name: str, picture: Image.Image) -> None:
        """Record a picture for TensorBoard alone."""
        self.board.write_picture(step, name, picture)

    def close(self) -> None:
        """Write what TensorBoard still holds."""
        self.board.close()


class _Board:
    """A file of scalars and pictures for TensorBoard, written at once; its own writer has a thread.

    An error of a thread, such as a full disk, is nobody's to handle.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        # TensorBoard reads files in the order of their names.
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self.path = folder / name
        with writing(self.path):
            folder.mkdir(parents=True, exist_ok=True)
            self.file = RecordWriter(self.path.open("wb"))
        self._add(file_version="brain.Event:2")
        # TensorBoard forgets what earlier files say of this step and later ones.
        self._add(step=first_step, session_log=SessionLog(status=SessionLog.START))

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """Show numbers at a step."""
        values = [Summary.Value(tag=name, simple_value=x) for name, x in scalars.items()]
        self._add(step=step, summary=Summary(value=values))

    def write_picture(self, step: int, name: str, picture: Image.Image) -> None:
        """Show a picture at a step, as JPEG."""
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=80)  # a PNG takes ten times as long
        image = Summary.Image(
            height=picture.height,
            width=picture.width,
            colorspace=3,
            encoded_image_string=buffer.getvalue(),
        )
        self._add(step=step, summary=Summary(value=[Summary.Value(tag=name, image=image)]))

    def _add(self, **content: Any) -> None:
        event = Event(wall_time=time.time(), **content)
        with writing(self.path):
            self.file.write(event.SerializeToString())
            self.file.flush()

    def close(self) -> None:
        with writing(self.path):
            self.file.close()


class NoLog:
    """The log of a process that leaves the writing to another one."""

    def write(self, step: int, values: dict[str, Any]) -> None:
        """Record nothing."""

    def write_picture(self, step: int, name: str, picture: Image.Image) -> None:
        """Record nothing."""

    def close(self) -> None:
        """There is nothing to write."""


def append_line(path: Path, content: dict[str, Any]) -> None:
    """Append a record to a JSON-lines file; nan and inf become null.

    Raises:
        InputError: it can't be written to.
    """
    with writing(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(finite_or_none(content)) + "\n")


def drop_cut_line(path: Path) -> None:
    """Take the last line off a JSON-lines file where a kill cut it, so that the next one is whole.

    Raises:
        InputError: it can't be read or written to.
    """
    if not path.is_file():
        return
    with reading(path):
        content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        write_atomically(path, lambda part: part.write_bytes(whole))


def read_log(out: Path) -> list[dict[str, Any]]:
    """The records of a run so far, as `read_lines` gives them."""
    return read_lines(out / LOG, {"step": int})


def read_lines(path: Path, kinds: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """The records of a JSON-lines file, none if it is absent; a line cut by a kill is left out.

    So is a garbled line, which is told.

    Args:
        kinds: fields that a record has, with their types.
    """
    if not path.is_file():
        return []
    wanted = (kinds or {}).items()
    records, garbled = [], []
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
        if not line.endswith(b"\n"):
            continue
        try:
            record = parse_json(line, str(path))
        except InputError:
            record = None
        if isinstance(record, dict) and all(
            isinstance(record.get(name), kind) for name, kind in wanted
        ):
            records.append(record)
        else:
            garbled.append(f"line {number}")
    tell_some(f"{path}: lines that hold no record are left out ({{}})", garbled)
    return records


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, float]:
    flat: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            flat[prefix + name] = value
    return flat
