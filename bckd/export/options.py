"""Which files an export writes."""

from __future__ import annotations

from dataclasses import dataclass

from bckd.system.values import Place


@dataclass(frozen=True)
class ExportOptions:
    """Write a detector, with its post-processing, for other programs."""

    onnx: Place | None = None
    """an ONNX file (.onnx), for ONNX Runtime and other engines"""
    preprocess: bool = False
    """the ONNX file takes pixels as they come, (N, H, W, 3) uint8 RGB, and gives boxes in them:
    resizing, normalisation and padding are part of it"""
    program: Place | None = None
    """a torch.export program (.pt2), for PyTorch without this package; its metadata say how to
    load it, and how to move it to a GPU"""
    official: Place | None = None
    """a checkpoint (.pth) in the official code's and mmdetection's key layout: weights alone"""
