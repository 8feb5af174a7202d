"""A detector as files that other programs read: ONNX, torch.export, the official key layout.

An ONNX file and an exported program hold the network and its post-processing. Both take

    images (1, 3, H, W)  float32, normalised and padded as the file's metadata say
    sizes (1, 2)         int64, height and width of the image without padding

and give the detections of the image, best first: boxes (D, 4), scores (D,) and labels (D,), as
`DenseDetector.detect` does. There is one image, since D differs between images; H and W are
free. An exported program (not the ONNX file) refuses a side of at most the coarsest stride,
where a level has one row or column of cells: such an image must be padded further. It runs on the
CPU, where its constants lie and stay at `.to`; torch.export.passes.move_to_device_pass moves all.
It calls operators of torchvision, which therefore has to be imported before it is loaded.

The metadata are `metadata_props` of an ONNX file and the extra file `metadata.json` of an
exported program; see `metadata_of`.
"""

from __future__ import annotations

import copy
import importlib.util
import io
import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule

from bckd.export.exportable import INPUTS, OUTPUTS, OneImage
from bckd.export.options import ExportOptions
from bckd.export.verification import (
    Detect,
    Verification,
    compare,
    onnx_detect,
    program_detect,
    quiet,
)
from bckd.image_size import ImageSize
from bckd.models.dense import DenseDetector
from bckd.models.detector import Detector
from bckd.system.errors import InputError
from bckd.system.extras import extra
from bckd.system.files import check_writable, write_atomically
from bckd.system.values import checked, to_plain
from bckd.zoo.checkpoints import Checkpoint, load_detector
from bckd.zoo.official import (
    config_of_official,
    has_layout,
    load_official,
    official_state_dict,
)
from bckd.zoo.wrapped import SETTINGS, read_official

if TYPE_CHECKING:  # not needed but for writing ONNX
    import onnx

METADATA_FILE = "metadata.json"  # in an exported program
ENDINGS = {"onnx": ".onnx", "program": ".pt2", "official": ".pth"}
# Two boxes may overlap by the NMS threshold, or two scores be equal, up to rounding: then another
# runtime rightly finds another detection. A larger share means a wrong file.
MISSED_SHARE = 0.05
# What the official layout leaves to the reader's configuration, and inference does not need.
_TRAINING_ONLY = ("pretrained", "weights", "width", "frozen_stages", "norm_eval")


def run_export(source: Path | str, options: ExportOptions) -> dict[str, Verification]:
    """Write the files asked for, compare what they detect with PyTorch, print a line for each.

    Args:
        source: a detector, as `load_detector` takes it.

    Returns:
        What was found, by option: nothing for official weights, which are compared exactly, and
        for ONNX only where onnxruntime is installed.

    Raises:
        InputError: no file is asked for, or one has another ending than readers know it by; the
            detector has no such form; or a file does not detect what PyTorch does.
    """
    paths = _paths(source, checked(options))
    if "onnx" in paths:
        _require_onnx()
    checkpoint = load_detector(source)
    if "official" in paths:  # first: it is quick, and what it refuses needs no tracing
        path = paths["official"]
        print(f"{path}: {export_official(checkpoint, path)}")
    verified: dict[str, Verification] = {}
    if "onnx" not in paths and "program" not in paths:
        return verified
    program = _trace(checkpoint)
    if "onnx" in paths:
        path, content = paths["onnx"], _onnx_bytes(program, checkpoint)
        if importlib.util.find_spec("onnxruntime") is None:
            write_atomically(path, lambda part: part.write_bytes(content))
            print(
                f"{path}: not compared with PyTorch: onnxruntime is not installed "
                "(pip install 'bckd[export]')"
            )
        else:
            verified["onnx"] = _write_checked(checkpoint, content, onnx_detect, path)
    if "program" in paths:
        path, content = paths["program"], _program_bytes(program, checkpoint)
        verified["program"] = _write_checked(checkpoint, content, program_detect, path)
    return verified


def _write_checked(
    checkpoint: Checkpoint, content: bytes, reader: Callable[[Path], Detect], path: Path
) -> Verification:
    """Write an exported file if it detects what PyTorch does; else what was there stays."""
    found: list[Verification] = []

    def write(part: Path) -> None:
        part.write_bytes(content)
        found.append(compare(checkpoint, reader(part)))
        if found[0].missed > MISSED_SHARE * found[0].detections:
            raise InputError(f"{path} would not detect what PyTorch does: {found[0]}")

    write_atomically(path, write)
    print(f"{path}: {found[0]}")
    return found[0]


def _paths(source: Path | str, options: ExportOptions) -> dict[str, Path]:
    given = {name: getattr(options, name) for name in ENDINGS}
    paths = {name: path for name, path in given.items() if path is not None}
    if not paths:
        raise InputError("nothing to write: expected --onnx, --program or --official")
    for name, path in paths.items():
        if path.suffix != ENDINGS[name]:
            raise InputError(f"--{name} is {path}; expected a name that ends in {ENDINGS[name]}")
        check_writable(path, Path(source))
    return paths


def export_onnx(checkpoint: Checkpoint, path: Path) -> None:
    """Write the detector and its post-processing as one ONNX file.

    Raises:
        InputError: onnx or onnxscript is not installed, or the detector is on Swin-T.
    """
    _require_onnx()
    content = _onnx_bytes(_trace(checkpoint), checkpoint)
    write_atomically(path, lambda part: part.write_bytes(content))


def export_program(checkpoint: Checkpoint, path: Path) -> None:
    """Write the detector and its post-processing as a program that `torch.export.load` reads.

    Raises:
        InputError: the detector is on Swin-T.
    """
    content = _program_bytes(_trace(checkpoint), checkpoint)
    write_atomically(path, lambda part: part.write_bytes(content))


def export_official(checkpoint: Checkpoint, path: Path) -> str:
    """Write weights and class names as mmdetection 2.x saves them, for `torch.load`.

    The layout has no place for groups, image size or activation: other readers' configuration
    must say them, `load_detector` finds them beside the class names. What was there stays if
    the weights do not come back as they were.

    Returns:
        What came back, and what a reader must be told.

    Raises:
        InputError: the layout knows no such detector.
    """
    detector = _official_detector(checkpoint)
    tensors = {name: x.detach().cpu() for name, x in official_state_dict(detector).items()}
    settings = {"model": to_plain(detector.config), "size": to_plain(checkpoint.size)}
    meta = {"CLASSES": detector.class_names, SETTINGS: json.dumps(settings)}
    buffer, reports = io.BytesIO(), []
    torch.save({"state_dict": tensors, "meta": meta}, buffer)

    def write(part: Path) -> None:
        part.write_bytes(buffer.getvalue())
        reports.append(_official_report(checkpoint, part))

    write_atomically(path, write)
    return reports[0]


def _official_detector(checkpoint: Checkpoint) -> Detector:
    detector = checkpoint.detector
    if isinstance(detector, Detector) and has_layout(detector):
        return detector
    raise InputError(
        f"{_what(detector)} has no official key layout; expected GFL, RetinaNet, FCOS or ATSS "
        "on a ResNet or on MobileNetV2"
    )


def _what(detector: DenseDetector) -> str:
    if isinstance(detector, Detector):
        return f"{detector.config.head} on {detector.config.backbone}"
    return type(detector).__name__


def _official_report(checkpoint: Checkpoint, path: Path) -> str:
    """That the weights come back exactly, and what `load_detector` would take for granted."""
    detector = _official_detector(checkpoint)
    state_dict = read_official(path).state_dict
    copied = copy.deepcopy(detector)
    report = load_official(copied, state_dict)
    for name, value in copied.state_dict().items():
        if not torch.equal(value, detector.state_dict()[name]):
            raise InputError(f"a file in the official layout would not hold {name} as it was")
    assumed, _ = config_of_official(state_dict)
    unsaid = [
        field.name
        for field in fields(assumed)
        if field.name not in _TRAINING_ONLY
        and getattr(assumed, field.name) != getattr(detector.config, field.name)
    ]
    if checkpoint.size != ImageSize():
        unsaid.append("image size")
    note = f"; a reader must be told: {', '.join(unsaid)}" if unsaid else ""
    return f"{len(report.loaded)} entries, read back exactly{note}"


def metadata_of(checkpoint: Checkpoint) -> dict[str, str]:
    """What a user needs to feed an exported file; values are JSON but for `usage`.

    Returns:
        class_names: in the order of the labels.
        normalisation: mean and deviation a channel of pixels over 255, and whether the
            channels are blue, green, red.
        image_size: the sides to resize to, the multiple to pad to, and whether the padding is
            on all sides; see `ImageSize`.
        usage: how these go together.
    """
    detector, size = checkpoint.detector, checkpoint.size
    padding = (
        "Put it in the middle of a black image whose sides are the least multiples of pad_multiple "
        "that hold it, then normalise; sizes is [[height, width]] of that image."
        if size.centred
        else "Normalise it, then add zeros on the right and bottom up to multiples of "
        "pad_multiple; sizes is [[height, width]] before the zeros."
    )
    usage = (
        "Resize an image, aspect ratio kept, until its shorter side is short_side or its longer "
        f"side long_side, whichever comes first. {padding} To normalise: RGB pixels over 255, "
        "the channels reversed if bgr, minus mean, over deviation. boxes are x1, y1, x2, y2 in "
        "pixels of images; labels count class_names from 0. An exported program (.pt2) needs sides "
        f"above {max(detector.strides)}, and `import torchvision` before torch.export.load. It "
        "runs on the CPU; torch.export.passes.move_to_device_pass moves it to another device."
    )
    return {
        "class_names": json.dumps(list(detector.class_names), ensure_ascii=False),
        "normalisation": json.dumps(to_plain(detector.normalisation)),
        "image_size": json.dumps(to_plain(size)),
        "usage": usage,
    }


def _trace(checkpoint: Checkpoint) -> ExportedProgram:
    """The detector and its post-processing as a graph for any height and width."""
    detector = checkpoint.detector
    if isinstance(detector, Detector) and detector.config.backbone == "swin_t":
        # Its windows are padded and shifted by the image's size: tracing it takes over 5 minutes.
        raise InputError(
            f"{_what(detector)} cannot be exported to ONNX or a program: its graph depends on the "
            "size of the image"
        )
    model = OneImage(copy.deepcopy(detector).cpu().eval())
    # Several cells on every level, since torch.export treats a side of 1 as fixed.
    step = max(32, *detector.strides)
    images, sizes = torch.zeros(1, 3, 3 * step, 4 * step), torch.tensor([[3 * step, 4 * step]])
    shapes = {"images": {2: Dim.DYNAMIC, 3: Dim.DYNAMIC}, "sizes": None}
    with quiet(), torch.no_grad():
        program = torch.export.export(model, (images, sizes), dynamic_shapes=shapes)
    for graph in program.graph_module.modules():
        for node in graph.graph.nodes if isinstance(graph, GraphModule) else ():
            node.meta.pop("stack_trace", None)  # paths of this machine
    return program


def _program_bytes(program: ExportedProgram, checkpoint: Checkpoint) -> bytes:
    program.example_inputs = None  # or an image of zeros is saved with it
    buffer, metadata = io.BytesIO(), json.dumps(metadata_of(checkpoint))
    with quiet():
        torch.export.save(program, buffer, extra_files={METADATA_FILE: metadata})
    return buffer.getvalue()


def _onnx_bytes(program: ExportedProgram, checkpoint: Checkpoint) -> bytes:
    import onnx

    with quiet():
        exported = torch.onnx.export(
            program, dynamo=True, verbose=False, input_names=INPUTS, output_names=OUTPUTS
        )
    assert exported is not None  # with dynamo
    model = exported.model_proto
    _clean(model.graph)
    onnx.helper.set_model_props(model, metadata_of(checkpoint))
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _clean(graph: onnx.GraphProto) -> None:
    """Name the free sides; leave out where in the source each node comes from."""
    named = (graph.node, graph.initializer, graph.input, graph.output)
    for entry in (entry for entries in named for entry in entries):
        entry.ClearField("metadata_props")
        entry.ClearField("doc_string")
    graph.ClearField("value_info")
    _, _, height, width = graph.input[0].type.tensor_type.shape.dim
    height.dim_param, width.dim_param = "height", "width"
    for output in graph.output:
        output.type.tensor_type.shape.dim[0].dim_param = "detections"


def _require_onnx() -> None:
    with extra("export", "writing ONNX"):
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
