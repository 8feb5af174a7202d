"""Detectors: backbones, pyramid, heads, and how detections leave them."""

from bckd.models.backbones import build_backbone
from bckd.models.dense import DenseDetector
from bckd.models.detector import Detector, DetectorConfig
from bckd.models.postprocess import PostProcess, postprocess

__all__ = [
    "DenseDetector",
    "Detector",
    "DetectorConfig",
    "PostProcess",
    "build_backbone",
    "postprocess",
]
