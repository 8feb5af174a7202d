"""The command `bckd export`."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

from bckd.commands.help import Short
from bckd.commands.options import EvaluatedAtSize
from bckd.commands.parsing import existing, parse, run_first
from bckd.export.options import ExportOptions
from bckd.recipes import DataConfig
from bckd.system.errors import InputError
from bckd.system.exit_codes import DONE, PARTLY
from bckd.system.values import checked


@dataclass(frozen=True)
class ExportCommand(ExportOptions):
    """Write a detector, with its post-processing, for other programs."""

    verify: bool = False
    """also print the AP of the ONNX file and the program on the run's validation images, or on
    those of --data, beside PyTorch's; exit code 1 if they differ by more than 0.1 (in percent)"""
    data: EvaluatedAtSize = field(default_factory=EvaluatedAtSize)


SHORT = Short(
    ("--onnx", "--program", "--official", "--preprocess", "--verify", "--data.root"),
    ("export runs/my-student --onnx student.onnx --preprocess --verify",),
)


def run(arguments: list[str]) -> int:
    """Write the files asked for; exit code 1 if one was not written, or has another AP."""
    source, rest = run_first("export", arguments)
    data = DataConfig()
    if "--verify" in rest:
        from bckd.training.recorded import recorded_data  # late: no help and no typo needs it

        data = recorded_data(existing(source))
    default = ExportCommand(data=EvaluatedAtSize.of(data))
    options = checked(parse(ExportCommand, rest, f"export {source}", SHORT, default=default))
    faults = _export(existing(source), options)
    for sentence in faults.values():
        print(f"bckd: error: {sentence}", file=sys.stderr)
    return PARTLY if faults else DONE


def _export(path: Path, options: ExportCommand) -> dict[Path, str]:
    """What could not be written, or is not as PyTorch."""
    from bckd.export.exporting import NotWrittenError, run_export
    from bckd.training.evaluating_exported import compare_scores, verification_data

    graphs = [file for file in (options.onnx, options.program) if file is not None]
    if options.verify and not graphs:
        raise InputError("--verify is for ONNX files and programs; expected --onnx or --program")
    known = verification_data(path, options.data.config()) if options.verify else None
    faults: dict[Path, str] = {}
    try:
        run_export(path, options)
    except NotWrittenError as error:
        faults = error.why
    if known is not None:
        written = [file for file in graphs if file not in faults]
        faults = faults | compare_scores(*known, written, options.preprocess)
    return faults
