"""Detectors on disk.

A safetensors file holds tensors and a JSON header, so that loading one runs no code.
The header carries the detector's configuration, class names and preprocessing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from bckd.datasets.coco import ImageSize
from bckd.datasets.coco_classes import COCO_CLASSES
from bckd.errors import InputError
from bckd.files import write_atomically
from bckd.models import nanodet, torchvision_detectors
from bckd.models.dense import DenseDetector
from bckd.models.detector import Detector, DetectorConfig
from bckd.models.official import config_of_official, load_official, read_official
from bckd.models.torchvision_detectors import TorchvisionDetector
from bckd.pretrained import PRETRAINED, fetch
from bckd.values import from_plain, to_plain

FORMAT = "bckd-detector-1"
STUDENT = "student.safetensors"  # the file name in the folder of a run


@dataclass(frozen=True)
class Checkpoint:
    """A detector as it was saved.

    Attributes:
        detector: in eval mode; its normalisation is what its images must go through.
        size: how its training images were brought to size.
        record: what was said of it when it was saved (seed, steps, AP, ...).
    """

    detector: DenseDetector
    size: ImageSize
    record: dict[str, Any] = field(default_factory=dict)


def save_detector(path: Path, detector: Detector, size: ImageSize, record: dict[str, Any]) -> None:
    """Save a detector's weights with all that is needed to use it; atomically."""
    header = {
        "format": FORMAT,
        "model": json.dumps(to_plain(detector.config)),
        "class_names": json.dumps(detector.class_names),
        "size": json.dumps(to_plain(size)),
        "record": json.dumps(record),
    }
    save_tensors(path, detector.state_dict(), header)


def load_detector(source: Path | str, class_names: tuple[str, ...] | None = None) -> Checkpoint:
    """Load a detector: our own file, the folder of a run, published weights by name or file.

    Args:
        source: a name of `pretrained.PRETRAINED`, which is fetched where it is not there yet;
            or `student.safetensors`, a folder that holds one, or a .pth file of
            the official code, of mmdetection 2.x or of NanoDet-m.
        class_names: for official files that do not carry theirs.

    Raises:
        InputError: the file is absent, of another kind, or its weights do not fit, or the
            download failed.
    """
    path = Path(source)
    if str(source) in PRETRAINED and not path.exists():
        return _load_published(str(source), class_names)
    path = path / STUDENT if path.is_dir() else path
    if path.suffix == ".pth":
        return _load_file(path, class_names)
    tensors, header = _read_detector(path)
    config = from_plain(DetectorConfig, json.loads(header["model"]), str(path))
    detector = Detector(replace(config, pretrained=False), tuple(json.loads(header["class_names"])))
    load_strictly(detector, tensors, path)
    size = from_plain(ImageSize, json.loads(header["size"]), str(path))
    return Checkpoint(detector.eval(), size, json.loads(header["record"]))


def recorded_size(source: Path | str) -> ImageSize:
    """How a detector's training images were brought to size; COCO's recipe if it is official.

    Raises:
        InputError: the file is absent or of another kind.
    """
    path = Path(source)
    if str(source) in PRETRAINED and not path.exists():
        return nanodet.SIZE if PRETRAINED[str(source)].kind == "nanodet" else ImageSize()
    path = path / STUDENT if path.is_dir() else path
    if path.suffix == ".pth":
        return nanodet.SIZE if nanodet.is_nanodet(read_official(path)[0]) else ImageSize()
    _, header = _read_detector(path)
    return from_plain(ImageSize, json.loads(header["size"]), str(path))


def _read_detector(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    tensors, header = read_tensors(path)
    if header.get("format") != FORMAT:
        raise InputError(f"{path} holds no detector of bckd (its header says {header})")
    return tensors, header


def load_strictly(detector: Detector, tensors: dict[str, Tensor], path: Path) -> None:
    """Load weights whose names and shapes all fit.

    Raises:
        InputError: naming the file and the first entries that do not fit.
    """
    own = detector.state_dict()
    wrong = sorted(set(own) ^ set(tensors))
    wrong += [name for name in own if name in tensors and own[name].shape != tensors[name].shape]
    if wrong:
        raise InputError(
            f"{path} holds weights of another model: {len(wrong)} entries do not fit, such as "
            f"{', '.join(wrong[:3])}"
        )
    detector.load_state_dict(tensors)


def _load_published(name: str, class_names: tuple[str, ...] | None) -> Checkpoint:
    entry = PRETRAINED[name]
    if entry.kind == "torchvision":
        detector = TorchvisionDetector(name, "COCO_V1").eval()
        checkpoint = Checkpoint(detector, torchvision_detectors.SIZE)
    else:
        checkpoint = _load_file(fetch(name), class_names)
    record = {**checkpoint.record, "source": name}
    return replace(checkpoint, record=record if entry.AP is None else {**record, "AP": entry.AP})


def _load_file(path: Path, class_names: tuple[str, ...] | None) -> Checkpoint:
    """A .pth file: NanoDet-m, or one of the official detectors."""
    state_dict, recorded_names = read_official(path)
    if nanodet.is_nanodet(state_dict):
        detector = nanodet.NanoDet()
        report = nanodet.load_nanodet(detector, state_dict)
        size = nanodet.SIZE
    else:
        config, classes = config_of_official(state_dict)
        names = recorded_names or _names_of(path, classes, class_names)
        detector = Detector(config, names)
        report = load_official(detector, state_dict)
        size = ImageSize()
    return Checkpoint(detector.eval(), size, {"source": path.name, "report": str(report)})


def _names_of(path: Path, classes: int, given: tuple[str, ...] | None) -> tuple[str, ...]:
    """Names for the classes of a file that has none: those given, or COCO's 80."""
    if given is not None and len(given) == classes:
        return given
    if classes == len(COCO_CLASSES):
        return COCO_CLASSES
    if given is not None:
        raise InputError(f"{path} has {classes} classes, the data set has {len(given)}")
    return tuple(f"class {k}" for k in range(classes))


def save_tensors(
    path: Path,
    tensors: dict[str, Tensor],
    header: dict[str, str],
    previous: Path | None = None,
) -> None:
    """Write a safetensors file with a header; atomically. Equal contents are equal bytes.

    Args:
        previous: a name beside it that the file of before takes.
    """
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    content = memoryview(save(plain, metadata=header))
    start = 8 + int.from_bytes(content[:8], "little")
    listing = json.loads(bytes(content[8:start]))
    listing["__metadata__"] = header  # safetensors has its entries in no fixed order
    text = json.dumps(listing, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors are aligned so

    def write(part: Path) -> None:
        with part.open("wb") as file:
            file.writelines((len(text).to_bytes(8, "little"), text, content[start:]))

    write_atomically(path, write, previous)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and header of a safetensors file.

    Raises:
        InputError: the file is absent or of another kind.
    """
    if not path.is_file():
        raise InputError(f"weights file {path} does not exist")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            return {name: file.get_tensor(name) for name in file.keys()}, header
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is no safetensors file: {error}") from error
