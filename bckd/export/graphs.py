"""A detector and its post-processing as a graph: an ONNX file, or a torch.export program."""

from __future__ import annotations

import copy
import io
import json
from typing import TYPE_CHECKING

import torch
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule

from bckd.export.exportable import INPUTS, OUTPUTS, DetectionGraph
from bckd.export.metadata import metadata_of
from bckd.export.pixels import from_pixels
from bckd.export.verification import quiet
from bckd.models.detector import Detector
from bckd.system.errors import InputError
from bckd.system.extras import extra
from bckd.zoo.checkpoints import Checkpoint

if TYPE_CHECKING:  # not needed but for writing ONNX
    import onnx

METADATA_FILE = "metadata.json"  # in an exported program


def trace(checkpoint: Checkpoint) -> ExportedProgram:
    """The detector and its post-processing as a graph for any number of images of any size.

    Of a module that takes the number of images for a constant (as `len(images)` does), the graph
    is for one image.

    Raises:
        InputError: the detector is on Swin-T.
    """
    detector = checkpoint.detector
    if isinstance(detector, Detector) and detector.config.backbone == "swin_t":
        # Its windows are padded and shifted by the image's size: tracing it takes over 5 minutes.
        raise InputError(
            f"{detector.config.head} on swin_t has no graph for all sizes of images, which ONNX "
            "and a program need"
        )
    model = DetectionGraph(copy.deepcopy(detector).cpu().eval())
    program = _traced(model, images=2)
    if not takes_any_number(program):
        program = _traced(model, images=1)
    for graph in program.graph_module.modules():
        for node in graph.graph.nodes if isinstance(graph, GraphModule) else ():
            node.meta.pop("stack_trace", None)  # paths of this machine
    return program


def takes_any_number(program: ExportedProgram) -> bool:
    """Whether the number of images is free."""
    inputs = [node for node in program.graph.nodes if node.name == INPUTS[0]]
    return not isinstance(inputs[0].meta["val"].shape[0], int)


def _traced(model: DetectionGraph, images: int) -> ExportedProgram:
    """The graph for so many images: for any number, if there are several."""
    # Several cells on every level, since torch.export treats a side of 1 as fixed.
    step = max(32, *model.detector.strides)
    pixels = torch.zeros(images, 3, 3 * step, 4 * step)
    sizes = torch.tensor([[3 * step, 4 * step]] * images)
    number = {0: Dim.AUTO} if images > 1 else {}
    shapes = {"images": {**number, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}, "sizes": number}
    with quiet(), torch.no_grad():
        return torch.export.export(model, (pixels, sizes), dynamic_shapes=shapes)


def program_bytes(program: ExportedProgram, checkpoint: Checkpoint) -> bytes:
    """The graph as a file that `torch.export.load` reads."""
    program.example_inputs = None  # or images of zeros are saved with it
    buffer, metadata = io.BytesIO(), json.dumps(metadata_of(checkpoint))
    with quiet():
        torch.export.save(program, buffer, extra_files={METADATA_FILE: metadata})
    return buffer.getvalue()


def onnx_bytes(program: ExportedProgram, checkpoint: Checkpoint, preprocess: bool = False) -> bytes:
    """The graph as an ONNX file; the packages of the extra `export` have to be there.

    Args:
        preprocess: the file takes pixels as they come; see `bckd.export.pixels`.
    """
    import onnx

    with quiet():
        exported = torch.onnx.export(
            program, dynamo=True, verbose=False, input_names=INPUTS, output_names=OUTPUTS
        )
    assert exported is not None  # with dynamo
    model = exported.model_proto
    _clean(model.graph, takes_any_number(program))
    if preprocess:
        from_pixels(model.graph, checkpoint.size, checkpoint.detector.normalisation)
    onnx.helper.set_model_props(model, metadata_of(checkpoint, preprocess))
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _clean(graph: onnx.GraphProto, any_number: bool) -> None:
    """Name the free sides; leave out where in the source each node comes from."""
    named = (graph.node, graph.initializer, graph.input, graph.output)
    for entry in (entry for entries in named for entry in entries):
        entry.ClearField("metadata_props")
        entry.ClearField("doc_string")
    graph.ClearField("value_info")
    images, sizes = (entry.type.tensor_type.shape.dim for entry in graph.input)
    images[2].dim_param, images[3].dim_param = "height", "width"
    *detected, counts = (entry.type.tensor_type.shape.dim for entry in graph.output)
    for output in detected:
        output[0].dim_param = "detections"
    if any_number:
        for entry in (images, sizes, counts):
            entry[0].dim_param = "batch"


def require_onnx() -> None:
    """Refuse to write ONNX where a package is not installed.

    Raises:
        InputError: naming the package and the extra that brings it.
    """
    with extra("export", "writing ONNX"):
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
