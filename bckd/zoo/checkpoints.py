"""Detectors on disk.

A safetensors file holds tensors and a JSON header, so that loading one runs no code.
The header carries the detector's configuration, class names and preprocessing.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from bckd.datasets.coco_classes import COCO_CLASSES
from bckd.image_size import ImageSize
from bckd.models.adopted import Adopted, adopt
from bckd.models.dense import DenseDetector
from bckd.models.detector import Detector, DetectorConfig
from bckd.recipes import Recipe
from bckd.system.errors import InputError
from bckd.system.files import finite_or_none, parse_json
from bckd.system.telling import first_of, tell
from bckd.system.values import Fraction, Names, checked, from_plain, to_plain
from bckd.weights.published import PRETRAINED, fetch
from bckd.weights.tensor_files import fill, read_header, read_tensors, save_tensors
from bckd.weights.torchvision_models import TorchvisionName
from bckd.zoo import nanodet, torchvision_detectors
from bckd.zoo.official import (
    LoadReport,
    OfficialFile,
    config_of_official,
    load_official,
    read_official,
)
from bckd.zoo.torchvision_detectors import TorchvisionConfig, TorchvisionDetector
from bckd.zoo.unfinished import (
    MODEL,
    STUDENT,
    check_whole,
    classes_of,
    is_state,
    recipe_of,
    weights_of_run,
)

FORMAT = "bckd-detector-1"
TORCHVISION_FORMAT = "bckd-torchvision-1"  # of a detector of torchvision's, by its name
OWN_FORMAT = "bckd-module-1"  # of a module of the user's own
FORMATS = (FORMAT, TORCHVISION_FORMAT, OWN_FORMAT)


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

    def __repr__(self) -> str:
        kind, classes = type(self.detector).__name__, first_of([*self.detector.class_names])
        return f"{type(self).__name__}({kind} of {classes}; {self.size}; {self.record})"


def save_detector(
    path: Path, detector: DenseDetector, size: ImageSize, record: dict[str, Any]
) -> None:
    """Save a detector's weights with all that is needed to use it; atomically.

    Of a module of one's own the weights have its own names, and it is needed to load them.
    """
    network = detector.network if isinstance(detector, Adopted) else detector
    header = {"format": OWN_FORMAT}
    if isinstance(detector, Detector | TorchvisionDetector):
        header["format"] = FORMAT if isinstance(detector, Detector) else TORCHVISION_FORMAT
        header["model"] = json.dumps(to_plain(detector.config))
    header |= {
        "class_names": json.dumps(detector.class_names),
        "size": json.dumps(to_plain(size)),
        "record": json.dumps(record),
    }
    save_tensors(path, network.state_dict(), header)


def load_detector(source: Path | str, class_names: tuple[str, ...] | None = None) -> Checkpoint:
    """Load a detector: our own file, the folder of a run, published weights by name or file.

    What had to be chosen (a state of an unfinished run, a prefix, an order of classes) is told.

    Args:
        source: a name of `pretrained.PRETRAINED`, which is fetched where it is not there yet; or
            `student.safetensors`, or the resume state of a run; a folder that holds one of
            these or snapshots, of which the newest is taken; or a .pth file of the official
            code, of mmdetection or of NanoDet-m.
        class_names: for files that do not carry theirs.

    Raises:
        InputError: the file is absent, of another kind, or its weights do not fit or are not
            finite, or the download failed.
    """
    path = Path(source)
    if str(source) in PRETRAINED and not path.exists():
        return _load_published(str(source), class_names)
    if path.is_dir():
        run, path = path, weights_of_run(path)
        if path.name != STUDENT:
            tell(f"{run} holds no {STUDENT}: its newest state, {path.relative_to(run)}, is used")
    if path.suffix == ".pth":
        return _load_file(path, class_names)
    tensors, header = read_tensors(path)
    if is_state(header):
        return _load_state(path, tensors, header, class_names)
    saved = _header(path, header)
    load = partial(load_strictly, tensors=tensors, path=path)
    if isinstance(saved.model, TorchvisionConfig):
        detector: DenseDetector = _filled(_from_torchvision(saved.model), load)
    else:
        config = replace(saved.model, pretrained=False)
        detector = _built(path, config, saved.class_names, load)
    return Checkpoint(detector, saved.size, finite_or_none(saved.record))


def load_module(source: Path | str, module: nn.Module) -> Checkpoint:
    """Load what a run saved of a module of one's own back into such a module, in eval mode.

    Args:
        source: the folder of the run, or its `student.safetensors`.
        module: of the same parameters; it is filled.

    Raises:
        InputError: the file is of another kind, or its weights do not fit.
    """
    path = Path(source)
    path = weights_of_run(path) if path.is_dir() else path
    tensors, header = read_tensors(path)
    _check_version(path, header)
    if header.get("format") != OWN_FORMAT:
        raise InputError(f"{path} holds no weights of a module of one's own (format {OWN_FORMAT})")
    names = [name for name in ("class_names", "size", "record") if name in header]
    plain = {name: parse_json(header[name], f"{path}: {name} in its header") for name in names}
    saved = from_plain(_OwnHeader, plain, str(path))
    fill(module, tensors, str(path), "holds weights of another module")
    detector = adopt(module, saved.class_names, DetectorConfig().resolved(), "module")
    return Checkpoint(detector.eval(), saved.size, finite_or_none(saved.record))


def recorded_size(source: Path | str) -> ImageSize:
    """How a detector's training images were brought to size; COCO's recipe if it is official.

    Raises:
        InputError: the file is absent or of another kind.
    """
    path = Path(source)
    if str(source) in PRETRAINED and not path.exists():
        return nanodet.SIZE if PRETRAINED[str(source)].kind == "nanodet" else ImageSize()
    path = weights_of_run(path) if path.is_dir() else path
    if path.suffix == ".pth":
        return _size_of(path, read_official(path))
    header = read_header(path)
    if is_state(header):
        return recipe_of(path, header).data.size
    return _header(path, header).size


@dataclass(frozen=True)
class _Header:
    """What the header of our own file says, each entry as JSON text there."""

    model: DetectorConfig
    class_names: Names
    size: ImageSize
    record: dict[str, Any]


@dataclass(frozen=True)
class _TorchvisionHeader:
    """What the header of one of torchvision's detectors says."""

    model: TorchvisionConfig
    class_names: Names
    size: ImageSize
    record: dict[str, Any]


@dataclass(frozen=True)
class _OwnHeader:
    """What the header of a module of the user's own says."""

    class_names: Names
    size: ImageSize
    record: dict[str, Any]


@dataclass(frozen=True)
class _Settings:
    """What our own export says in the "meta" of an official file."""

    model: DetectorConfig
    size: ImageSize


@dataclass(frozen=True)
class _Recorded:
    """What is read of a record, which may say more."""

    AP: Fraction | None = None


def _check_version(path: Path, header: dict[str, str]) -> None:
    """Refuse what a later version of the package wrote: its fields may mean something else."""
    written = header.get("format", "")
    kind, _, version = written.rpartition("-")
    ours = next((x for x in FORMATS if x.rpartition("-")[0] == kind), None)
    if ours and version.isdecimal() and int(version) > int(ours.rpartition("-")[2]):
        raise InputError(f"{path} is of a later version of bckd ({written}); expected {ours}")


def _header(path: Path, header: dict[str, str]) -> _Header | _TorchvisionHeader:
    _check_version(path, header)
    if header.get("format") == OWN_FORMAT:
        raise InputError(
            f"{path} holds weights of a module of your own; load them into it "
            f"(bckd.zoo.checkpoints.load_module, or safetensors)"
        )
    kind = {FORMAT: _Header, TORCHVISION_FORMAT: _TorchvisionHeader}.get(header.get("format", ""))
    if kind is None:
        raise InputError(f"{path} holds no detector of bckd (its header has {sorted(header)})")
    entries = [entry.name for entry in fields(kind) if entry.name in header]
    plain = {name: parse_json(header[name], f"{path}: {name} in its header") for name in entries}
    saved: _Header | _TorchvisionHeader = from_plain(kind, plain, str(path))
    precision = finite_or_none({"AP": saved.record.get("AP")})
    from_plain(_Recorded, precision, f"{path}: record")
    return saved


def _built(
    path: Path,
    config: DetectorConfig,
    class_names: tuple[str, ...],
    load: Callable[[Detector], None],
) -> Detector:
    """The detector with its weights, in eval mode.

    They are tried on one without memory first: what a file says of its size is not believed.

    Raises:
        InputError: there is no such detector, or the weights do not fit.
    """
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that nothing is copied
            load(Detector(config, class_names))
    except (ValueError, RuntimeError) as error:  # such as groups that divide no channels
        said = str(error)
        raise InputError(said if str(path) in said else f"{path}: {said}") from error
    detector = Detector(config, class_names)
    load(detector)
    return detector.eval()


def _from_torchvision(config: TorchvisionConfig) -> TorchvisionDetector:
    return TorchvisionDetector(config.name, config.weights, config.class_names, fetch=False)


def _filled(detector: DenseDetector, load: Callable[[DenseDetector], None]) -> DenseDetector:
    """The detector with its weights, in eval mode."""
    load(detector)
    return detector.eval()


def torchvision_student(
    recipe: Recipe, class_names: tuple[str, ...], fetch: bool = True
) -> TorchvisionDetector:
    """The detector of torchvision's that a recipe names as its student.

    Args:
        fetch: see `TorchvisionDetector`.
    """
    assert recipe.student is not None
    weights = recipe.model.weights if recipe.model.pretrained else None
    return TorchvisionDetector(recipe.student, weights, class_names, fetch)


def load_strictly(detector: DenseDetector, tensors: dict[str, Tensor], path: Path) -> None:
    """Load weights whose names, shapes and kinds all fit.

    Raises:
        InputError: naming the file and the first entries that do not fit, or are not finite.
    """
    fill(detector, tensors, str(path), "holds weights of another model")


def _load_state(
    path: Path,
    tensors: dict[str, Tensor],
    header: dict[str, str],
    class_names: tuple[str, ...] | None,
) -> Checkpoint:
    """The student of a run that has not ended, as its resume state has it."""
    check_whole(path, tensors, header)
    recipe = recipe_of(path, header)
    names = classes_of(path, header, recipe) or class_names
    weights = {name.removeprefix(MODEL): x for name, x in tensors.items() if name.startswith(MODEL)}
    if names is None:
        raise InputError(
            f"{path} does not name its classes, and the data that it was trained on, in "
            f"{recipe.data.root}, are not there to name them"
        )
    load = partial(load_strictly, tensors=weights, path=path)
    if recipe.student is None:
        config = replace(recipe.model, pretrained=False)
        detector: DenseDetector = _built(path, config, names, load)
    else:
        detector = _filled(torchvision_student(recipe, names, fetch=False), load)
    return Checkpoint(detector, recipe.data.size, {"steps": int(header["step"])})


def _load_published(name: str, class_names: tuple[str, ...] | None) -> Checkpoint:
    entry = PRETRAINED[name]
    if entry.kind == "torchvision":
        detector = TorchvisionDetector(cast("TorchvisionName", name), "COCO_V1").eval()
        checkpoint = Checkpoint(detector, torchvision_detectors.SIZE)
    else:
        checkpoint = _load_file(fetch(name), class_names)
    record = {**checkpoint.record, "source": name}
    return replace(checkpoint, record=record if entry.AP is None else {**record, "AP": entry.AP})


def _load_file(path: Path, class_names: tuple[str, ...] | None) -> Checkpoint:
    """A .pth file: NanoDet-m, or one of the official detectors."""
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
    record = {"source": path.name, "report": str(report)}
    return Checkpoint(detector, _size_of(path, file), record)


def _load_layout(
    path: Path, file: OfficialFile, class_names: tuple[str, ...] | None
) -> tuple[Detector, LoadReport]:
    """A detector in the official layout, by the settings that our own export wrote beside it."""
    config, classes = config_of_official(file.state_dict)
    settings = _settings(path, file)
    config = checked(config) if settings is None else replace(settings.model, pretrained=False)
    names = file.class_names or _names_of(path, classes, class_names)
    if len(names) != classes:
        raise InputError(f"its weights are of {classes} classes, its meta names {len(names)}")
    reports: list[LoadReport] = []
    detector = _built(
        path, config, names, lambda built: reports.append(load_official(built, file.state_dict))
    )
    return detector, reports[-1]


def _settings(path: Path, file: OfficialFile) -> _Settings | None:
    if file.settings is None:
        return None
    name = f"{path}: the settings in its meta"
    return from_plain(_Settings, parse_json(file.settings, name), name)


def _size_of(path: Path, file: OfficialFile) -> ImageSize:
    if nanodet.is_nanodet(file.state_dict):
        return nanodet.SIZE
    settings = _settings(path, file)
    return ImageSize() if settings is None else settings.size


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
