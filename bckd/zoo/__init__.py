"""Detectors that come from a file: ours, the official code's, NanoDet, torchvision's."""
