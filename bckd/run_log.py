"""The log of a run: JSON lines for programs, TensorBoard for eyes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from bckd.files import finite_or_none, write_text

LOG = "log.jsonl"  # the file name in the folder of a run


class RunLog:
    """Appends one record per call to `log.jsonl` and to TensorBoard.

    Args:
        out: folder of the run.
        first_step: lines of this step and later are dropped first: they come from
            a run that was killed after its last resume state.
    """

    def __init__(self, out: Path, first_step: int) -> None:
        self.path = out / LOG
        kept = [line for line in read_log(out) if line["step"] < first_step]
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in kept))
        self.board = SummaryWriter(str(out / "tensorboard"), purge_step=first_step)

    def write(self, step: int, values: dict[str, Any]) -> None:
        """Record values (numbers, or dicts of numbers) of a step."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(finite_or_none({"step": step, **values})) + "\n")
        for name, value in _flat(values).items():
            self.board.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what TensorBoard still holds."""
        self.board.close()


class NoLog:
    """The log of a process that leaves the writing to another one."""

    def write(self, step: int, values: dict[str, Any]) -> None:
        """Record nothing."""

    def close(self) -> None:
        """There is nothing to write."""


def read_log(out: Path) -> list[dict[str, Any]]:
    """The records of a run so far."""
    return read_lines(out / LOG)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a JSON-lines file, none if it is absent; a line cut by a kill is left out."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, float]:
    flat: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            flat[prefix + name] = value
    return flat
