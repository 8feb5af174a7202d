"""The command `bckd export`: a detector as files that other programs read."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

from bckd.commands.parsing import existing, parse
from bckd.export.options import ExportOptions
from bckd.recipes import DataConfig
from bckd.system.errors import InputError
from bckd.system.values import checked


@dataclass(frozen=True)
class ExportCommand(ExportOptions):
    """Write a detector, with its post-processing, for other programs."""

    verify: bool = False
    """also print the AP of the ONNX file and the program on the run's validation images, or on
    those of --data, beside PyTorch's; exit code 1 if they differ by more than 0.1 (in percent)"""
    data: DataConfig = field(default_factory=DataConfig)


def run(arguments: list[str]) -> None:
    """Write the files asked for; exit code 1 if one was not written, or has another AP."""
    if not arguments or arguments[0].startswith("-"):
        if arguments and arguments[0] not in ("-h", "--help"):
            raise InputError(
                "bckd export needs the folder of a run, or weights, before its options"
            )
        print("bckd export RUN [options]\n\nRUN is the folder of a run, or weights.\n")
        arguments = ["RUN", "--help"]
    source, *rest = arguments
    data = DataConfig()
    if "--verify" in rest:
        from bckd.training.recorded import recorded_data  # late: no help and no typo needs it

        data = recorded_data(existing(source))
    default = ExportCommand(data=data)
    options = checked(parse(ExportCommand, rest, f"export {source}", default=default))
    faults = _export(existing(source), options)
    for sentence in faults.values():
        print(f"bckd: error: {sentence}", file=sys.stderr)
    if faults:
        sys.exit(1)


def _export(path: Path, options: ExportCommand) -> dict[Path, str]:
    """What could not be written, or is not as PyTorch."""
    from bckd.export.exporting import NotWrittenError, run_export
    from bckd.training.evaluating_exported import compare_scores, verification_data

    graphs = [file for file in (options.onnx, options.program) if file is not None]
    if options.verify and not graphs:
        raise InputError("--verify is for ONNX files and programs; expected --onnx or --program")
    known = verification_data(path, options.data) if options.verify else None
    faults: dict[Path, str] = {}
    try:
        run_export(path, options)
    except NotWrittenError as error:
        faults = error.why
    if known is not None:
        written = [file for file in graphs if file not in faults]
        faults = faults | compare_scores(*known, written, options.preprocess)
    return faults
