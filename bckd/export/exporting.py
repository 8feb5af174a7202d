"""A detector as files that other programs read: ONNX, torch.export, the official key layout.

An ONNX file and an exported program hold the network and its post-processing. Both take

    images (N, 3, H, W)  float32, normalised and padded as the file's metadata say
    sizes (N, 2)         int64, height and width of each image without padding

and give what is found, as `DenseDetector.detect` does, image by image and the best first:

    boxes (D, 4), scores (D,), labels (D,)  of all images
    counts (N,)                             how many are each image's

N, H and W are free. For one image, boxes, scores and labels are its own and counts need not be
read. With `preprocess` an ONNX file takes `pixels` (N, H, W, 3) uint8 RGB in place of the two, and
boxes are in these pixels; see `bckd.export.pixels`.

An exported program (not the ONNX file) refuses a side of at most the coarsest stride, where a
level has one row or column of cells: such an image must be padded further. It runs on the CPU,
where its constants lie and stay at `.to`; torch.export.passes.move_to_device_pass moves all. It
calls operators of torchvision, which therefore has to be imported before it is loaded.

The metadata are `metadata_props` of an ONNX file and the extra file `metadata.json` of an
exported program; see `bckd.export.metadata`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from torch.export import ExportedProgram

from bckd.export.graphs import onnx_bytes, program_bytes, require_onnx, trace
from bckd.export.official import export_official
from bckd.export.options import ExportOptions
from bckd.export.verification import (
    Verification,
    compare,
    compare_pixels,
    onnx_detect,
    pixels_detect,
    program_detect,
)
from bckd.system.errors import InputError
from bckd.system.files import check_writable, write_atomically
from bckd.system.values import checked
from bckd.zoo.checkpoints import Checkpoint, load_detector
from bckd.zoo.unfinished import weights_of_run

ENDINGS = {"official": ".pth", "onnx": ".onnx", "program": ".pt2"}  # the quickest first
# Two boxes may overlap by the NMS threshold, or two scores be equal, up to rounding: then another
# runtime rightly finds another detection. A larger share means a wrong file.
MISSED_SHARE = 0.05


class NotWrittenError(InputError):
    """Some of several files could not be written; the others were.

    Attributes:
        why: a sentence about each of them, by its path.
    """

    def __init__(self, why: dict[Path, str]) -> None:
        super().__init__("; ".join(why.values()))
        self.why = why


def run_export(source: Path | str, options: ExportOptions) -> dict[str, Verification]:
    """Write what can be of the files asked for, each compared with PyTorch, and print a line each.

    Args:
        source: a detector, as `load_detector` takes it.

    Returns:
        What was found, by option: nothing for official weights, which are compared exactly, and
        for ONNX only where onnxruntime is installed.

    Raises:
        InputError: no file is asked for, one has another ending than readers know it by, or there
            is no such detector; nothing was written.
        NotWrittenError: after the others were written: the detector has no such form, a package is
            not installed, or a file would not detect what PyTorch does.
    """
    paths = _paths(source, checked(options))
    forms = _Forms(load_detector(source), options.preprocess)
    verified: dict[str, Verification] = {}
    why: dict[Path, str] = {}
    for name, path in paths.items():
        try:
            found = getattr(forms, name)(path)
        except InputError as error:
            why[path] = f"{path} is not written: {error}"
            continue
        if found is not None:
            verified[name] = found
    if why:
        raise NotWrittenError(why)
    return verified


class _Forms:
    """What a detector can be written as, a method for each option of that name.

    Each prints a line; those of graphs return how the file compares with PyTorch.
    """

    def __init__(self, checkpoint: Checkpoint, preprocess: bool) -> None:
        self.checkpoint, self.preprocess = checkpoint, preprocess

    @cached_property
    def graph(self) -> ExportedProgram:
        return trace(self.checkpoint)

    def official(self, path: Path) -> None:
        print(f"{path}: {export_official(self.checkpoint, path)}")

    def onnx(self, path: Path) -> Verification | None:
        """Write an ONNX file; None where no onnxruntime can try it."""
        require_onnx()
        content = onnx_bytes(self.graph, self.checkpoint, self.preprocess)
        if importlib.util.find_spec("onnxruntime") is None:
            write_atomically(path, lambda part: part.write_bytes(content))
            print(
                f"{path}: not compared with PyTorch: onnxruntime is not installed "
                "(pip install 'bckd[export]')"
            )
            return None
        if self.preprocess:
            return _write_checked(
                content, lambda part: compare_pixels(self.checkpoint, pixels_detect(part)), path
            )
        return _write_checked(
            content, lambda part: compare(self.checkpoint, onnx_detect(part)), path
        )

    def program(self, path: Path) -> Verification:
        return _write_checked(
            program_bytes(self.graph, self.checkpoint),
            lambda part: compare(self.checkpoint, program_detect(part)),
            path,
        )


def _write_checked(
    content: bytes, check: Callable[[Path], Verification], path: Path
) -> Verification:
    """Write an exported file if it detects what PyTorch does; else what was there stays."""
    found: list[Verification] = []

    def write(part: Path) -> None:
        part.write_bytes(content)
        found.append(check(part))
        if found[0].missed > MISSED_SHARE * found[0].detections:
            raise InputError(f"it would not detect what PyTorch does: {found[0]}")

    write_atomically(path, write)
    print(f"{path}: {found[0]}")
    return found[0]


def _paths(source: Path | str, options: ExportOptions) -> dict[str, Path]:
    given = {name: getattr(options, name) for name in ENDINGS}
    paths = {name: path for name, path in given.items() if path is not None}
    if not paths:
        raise InputError("nothing to write: expected --onnx, --program or --official")
    if options.preprocess and "onnx" not in paths:
        raise InputError("--preprocess is for an ONNX file; expected --onnx too")
    read = Path(source)
    for name, path in paths.items():
        if path.suffix != ENDINGS[name]:
            raise InputError(f"--{name} is {path}; expected a name that ends in {ENDINGS[name]}")
        check_writable(path, weights_of_run(read) if read.is_dir() else read)
    return paths


def export_onnx(checkpoint: Checkpoint, path: Path, preprocess: bool = False) -> None:
    """Write the detector and its post-processing as one ONNX file.

    Args:
        preprocess: the file takes pixels as they come; see `bckd.export.pixels`.

    Raises:
        InputError: onnx or onnxscript is not installed, or the detector is on Swin-T.
    """
    require_onnx()
    content = onnx_bytes(trace(checkpoint), checkpoint, preprocess)
    write_atomically(path, lambda part: part.write_bytes(content))


def export_program(checkpoint: Checkpoint, path: Path) -> None:
    """Write the detector and its post-processing as a program that `torch.export.load` reads.

    Raises:
        InputError: the detector is on Swin-T.
    """
    content = program_bytes(trace(checkpoint), checkpoint)
    write_atomically(path, lambda part: part.write_bytes(content))
