"""Which files an export writes."""

from __future__ import annotations

from dataclasses import dataclass

from bckd.system.values import Place


@dataclass(frozen=True)
class ExportOptions:
    """Write a detector, with its post-processing, for other programs."""

    onnx: Place | None = None
    """an ONNX file (.onnx), for ONNX Runtime and other engines"""
    program: Place | None = None
    """a torch.export program (.pt2), for PyTorch without this package, on the CPU: after `import
    torchvision`, torch.export.load reads it; torch.export.passes.move_to_device_pass (.to
    leaves constants behind) moves it to another device"""
    official: Place | None = None
    """a checkpoint (.pth) in the official code's and mmdetection's key layout: weights alone"""
