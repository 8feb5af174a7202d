"""A .pth file as a detector: NanoDet-m, or one in the layout of the official code."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from bckd.datasets.coco_classes import COCO_CLASSES
from bckd.image_size import ImageSize
from bckd.models.dense import DenseDetector
from bckd.models.detector import Detector, DetectorConfig
from bckd.system.errors import InputError
from bckd.system.files import parse_json
from bckd.system.telling import first_of, tell, tell_some
from bckd.system.values import checked, from_plain
from bckd.zoo import nanodet
from bckd.zoo.filling import built
from bckd.zoo.mmdet_config import configured
from bckd.zoo.official import (
    LoadReport,
    config_of_official,
    load_official,
)
from bckd.zoo.wrapped import OfficialFile, read_official


@dataclass(frozen=True)
class _Settings:
    """What our own export says in the "meta" of an official file."""

    model: DetectorConfig
    size: ImageSize


def load_pth(
    path: Path, class_names: tuple[str, ...] | None
) -> tuple[DenseDetector, ImageSize, LoadReport]:
    """The detector in eval mode, the size of its training images and what became of its weights.

    Args:
        class_names: where the file does not name its own; COCO's by default.

    Raises:
        InputError: the file is absent or of another kind, or its weights do not fit.
    """
    file = read_official(path)
    for note in file.notes:
        tell(f"{path}: {note}")
    try:
        if nanodet.is_nanodet(file.state_dict):
            small = nanodet.NanoDet().eval()
            report = nanodet.load_nanodet(small, file.state_dict)
            detector: DenseDetector = small
        else:
            detector, report = _load_layout(path, file, class_names)
    except InputError as error:
        raise error if str(path) in str(error) else InputError(f"{path}: {error}") from error
    return detector, _size(path, file), report


def size_of_pth(path: Path) -> ImageSize:
    """The size of the detector's training images; COCO's recipe where the file does not say it.

    Raises:
        InputError: the file is absent or of another kind.
    """
    return _size(path, read_official(path))


def _size(path: Path, file: OfficialFile) -> ImageSize:
    if nanodet.is_nanodet(file.state_dict):
        return nanodet.SIZE
    settings = _settings(path, file)
    if settings is not None:
        return settings.size
    told = None
    if file.config is not None:
        told = configured(config_of_official(file.state_dict)[0], file.config)[1]
    return told or ImageSize()


def _load_layout(
    path: Path, file: OfficialFile, class_names: tuple[str, ...] | None
) -> tuple[Detector, LoadReport]:
    """A detector in the official layout, by the settings that our own export wrote beside it."""
    config, classes = config_of_official(file.state_dict)
    settings = _settings(path, file)
    if settings is not None:
        config = replace(settings.model, pretrained=False)
    elif file.config is not None:
        config = _as_configured(path, config, file.config)
    config = checked(config)
    names = file.class_names or _names_of(path, classes, class_names)
    if len(names) != classes:
        raise InputError(f"its weights are of {classes} classes, its meta names {len(names)}")
    reports: list[LoadReport] = []
    detector = built(
        path, config, names, lambda empty: reports.append(load_official(empty, file.state_dict))
    )
    return detector, reports[-1]


def _as_configured(path: Path, config: DetectorConfig, text: str) -> DetectorConfig:
    """What the weights tell, with what mmdetection's configuration adds, which is told."""
    found, _ = configured(config, text)
    ours, theirs = vars(config), vars(found)
    tell_some(
        f"{path}: {{}} settings are its configuration's", [n for n in ours if ours[n] != theirs[n]]
    )
    return found


def _settings(path: Path, file: OfficialFile) -> _Settings | None:
    if file.settings is None:
        return None
    name = f"{path}: the settings in its meta"
    return from_plain(_Settings, parse_json(file.settings, name), name)


def _names_of(path: Path, classes: int, given: tuple[str, ...] | None) -> tuple[str, ...]:
    """Names for the classes of a file that has none: those given, or COCO's 80."""
    if given is not None and len(given) == classes:
        names = given
    elif classes == len(COCO_CLASSES):
        names = COCO_CLASSES
    elif given is not None:
        raise InputError(f"{path} has {classes} classes, the data set has {len(given)}")
    else:
        names = tuple(f"class {k}" for k in range(classes))
    tell(f"{path} does not name its classes; they are taken in this order: {first_of([*names])}")
    return names
