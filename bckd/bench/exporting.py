"""Export: a detector as files for other programs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from bckd.bench.results import LeftOut, Line
from bckd.bench.subject import Subject, network_of
from bckd.bench.timing import timed
from bckd.export.exporting import export_onnx, export_program
from bckd.system.errors import InputError
from bckd.zoo.checkpoints import Checkpoint

PART = "export"
_WRITERS = {"torch.export program": export_program, "ONNX": export_onnx}
_HOST = torch.device("cpu")  # which traces, wherever it will run


def time_export(subject: Subject) -> Iterator[Line | LeftOut]:
    """A line of each kind of file that is there to be written, each written once."""
    detector = network_of(subject.recipe.model, subject.class_names).eval()
    checkpoint = Checkpoint(detector, subject.photographs)
    with tempfile.TemporaryDirectory(prefix="bckd-bench-") as place:
        for name, write in _WRITERS.items():
            work = partial(write, checkpoint, Path(place) / "detector")
            try:
                yield Line(PART, name, timed(work, _HOST, repeat=1, warm_up=0))
            except InputError as error:
                yield LeftOut(PART, f"{name} was left out: {error}")
