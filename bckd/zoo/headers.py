"""The header of a file that holds a detector: what it is, beside its weights.

Each entry is JSON text there. `format` says of which kind the detector is, and its version.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from bckd.image_size import ImageSize
from bckd.models.dense import DenseDetector
from bckd.models.detector import Detector, DetectorConfig
from bckd.system.errors import InputError
from bckd.system.files import finite_or_none, parse_json
from bckd.system.values import Fraction, Names, from_plain, to_plain
from bckd.zoo.torchvision_detectors import TorchvisionConfig, TorchvisionDetector


@dataclass(frozen=True)
class ModuleHeader:
    """What the header of a module of the user's own says."""

    class_names: Names
    size: ImageSize
    record: dict[str, Any]


@dataclass(frozen=True)
class DetectorHeader(ModuleHeader):
    """What the header of one of our own detectors says."""

    model: DetectorConfig


@dataclass(frozen=True)
class TorchvisionHeader(ModuleHeader):
    """What the header of one of torchvision's detectors says."""

    model: TorchvisionConfig


Header = DetectorHeader | TorchvisionHeader | ModuleHeader

FORMATS: dict[str, type[Header]] = {
    "bckd-detector-1": DetectorHeader,
    "bckd-torchvision-1": TorchvisionHeader,
    "bckd-module-1": ModuleHeader,
}
_FORMAT_OF = {kind: name for name, kind in FORMATS.items()}


@dataclass(frozen=True)
class _Recorded:
    """What is read of a record, which may say more."""

    AP: Fraction | None = None


def header_of(detector: DenseDetector, size: ImageSize, record: dict[str, Any]) -> dict[str, str]:
    """What a file says of the detector whose weights it holds."""
    entries = {"class_names": detector.class_names, "size": to_plain(size), "record": record}
    if not isinstance(detector, Detector | TorchvisionDetector):
        return _texts(ModuleHeader, entries)
    kind = DetectorHeader if isinstance(detector, Detector) else TorchvisionHeader
    return _texts(kind, {"model": to_plain(detector.config), **entries})


def _texts(kind: type[Header], entries: dict[str, Any]) -> dict[str, str]:
    texts = {name: json.dumps(value) for name, value in entries.items()}
    return {"format": _FORMAT_OF[kind], **texts}


def is_ours(header: dict[str, str]) -> bool:
    """Whether bckd wrote a safetensors file with this header, in whatever version."""
    return header.get("format", "").startswith("bckd-")


def parse_header(path: Path, header: dict[str, str]) -> Header:
    """What the header of a file says.

    Raises:
        InputError: it is that of another kind of file, or of a later version; or an entry is
            missing or of another kind.
    """
    _check_version(path, header)
    kind = FORMATS.get(header.get("format", ""))
    if kind is None:
        raise InputError(f"{path} holds no detector of bckd (its header has {sorted(header)})")
    entries = [entry.name for entry in fields(kind) if entry.name in header]
    plain = {name: parse_json(header[name], f"{path}: {name} in its header") for name in entries}
    saved = from_plain(kind, plain, str(path))
    precision = finite_or_none({"AP": saved.record.get("AP")})
    from_plain(_Recorded, precision, f"{path}: record")
    return saved


def _check_version(path: Path, header: dict[str, str]) -> None:
    """Refuse what a later version of the package wrote: its fields may mean something else."""
    written = header.get("format", "")
    kind, _, version = written.rpartition("-")
    ours = next((x for x in FORMATS if x.rpartition("-")[0] == kind), None)
    if ours and version.isdecimal() and int(version) > int(ours.rpartition("-")[2]):
        raise InputError(f"{path} is of a later version of bckd ({written}); expected {ours}")
