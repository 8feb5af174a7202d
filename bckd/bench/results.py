"""What a bench finds: its lines, with machine and settings, in a file and back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bckd.bench.timing import Spread
from bckd.system.errors import InputError
from bckd.system.files import read_json, write_json
from bckd.system.values import from_plain, to_plain


@dataclass(frozen=True)
class Line:
    """One thing that was timed.

    Attributes:
        part: of the bench.
        name: what it is, within its part.
        seconds: how long it took.
        images: that it took so long for; None: it is not about images.
        flop: floating-point operations of its convolutions and matrix products, a multiplication
            and an addition being two; None: not counted.
        memory: most bytes in use: of a GPU since the part began, of a CPU's process since ever; of
            annotations, what a process of their own grew by. None: not looked at.
    """

    part: str
    name: str
    seconds: Spread
    images: int | None = None
    flop: int | None = None
    memory: int | None = None


@dataclass(frozen=True)
class LeftOut:
    """What a part did not measure, and why, in words."""

    part: str
    why: str


@dataclass(frozen=True)
class Machine:
    """What it was measured on.

    Attributes:
        device: the GPU's or the processor's name.
        threads: of PyTorch on the CPU.
        cores: of the CPU, for this process.
        peak: operations a second of a large matrix product in the networks' type.
        date: when, in ISO 8601 with the time zone.
    """

    device: str
    threads: int
    cores: int
    system: str
    python: str
    torch: str
    torchvision: str
    cuda: str | None
    bckd: str
    peak: float
    date: str


@dataclass(frozen=True)
class Settings:
    """What was measured: the options with all that they leave open filled in."""

    preset: str
    teacher: str
    device: str
    batch_size: int
    height: int
    width: int
    precision: str
    compile: bool
    repeat: int
    workers: int
    photographs: str


@dataclass(frozen=True)
class Results:
    """All that a bench found."""

    machine: Machine
    settings: Settings
    lines: tuple[Line, ...] = ()
    left_out: tuple[LeftOut, ...] = ()

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        write_json(path, to_plain(self))


def read_results(path: Path) -> Results:
    """What an earlier bench wrote.

    Raises:
        InputError: the file is absent, or of another kind.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no results of bckd bench")
    return from_plain(Results, content, str(path))
