"""Detectors on disk.

A safetensors file holds tensors and a JSON header, so that loading one runs no code. Where else a
detector comes from (published weights, the official code's files, a run that has not ended) is
decided in one place, `_source_of`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

from torch import nn

from bckd.image_size import ImageSize
from bckd.models.adopted import Adopted, adopt
from bckd.models.dense import DenseDetector
from bckd.models.detector import DetectorConfig
from bckd.recipes import Recipe
from bckd.system.errors import InputError
from bckd.system.files import finite_or_none
from bckd.system.telling import first_of, tell
from bckd.weights.published import PRETRAINED, fetch, no_detector
from bckd.weights.tensor_files import (
    fill,
    is_safetensors,
    read_header,
    read_tensors,
    save_tensors,
)
from bckd.weights.torchvision_models import TorchvisionName
from bckd.zoo import nanodet, torchvision_detectors
from bckd.zoo.filling import built, filled, load_strictly
from bckd.zoo.headers import (
    DetectorHeader,
    TorchvisionHeader,
    header_of,
    is_ours,
    parse_header,
)
from bckd.zoo.made import Made, entry_of, made_in
from bckd.zoo.pth_files import load_pth, size_of_pth
from bckd.zoo.torchvision_detectors import TorchvisionDetector
from bckd.zoo.unfinished import (
    AVERAGED,
    MODEL,
    STUDENT,
    check_whole,
    classes_of,
    is_state,
    recipe_of,
    weights_of_run,
)


@dataclass(frozen=True)
class Checkpoint:
    """A detector as it was saved.

    Attributes:
        detector: in eval mode; its normalisation is what its images must go through.
        size: how its training images were brought to size.
        record: what was said of it when it was saved (seed, steps, AP, ...).
        made: how it was made; None where its file does not say it. `print` it.
    """

    detector: DenseDetector
    size: ImageSize
    record: dict[str, Any] = field(default_factory=dict)
    made: Made | None = None

    def __repr__(self) -> str:
        kind, classes = type(self.detector).__name__, first_of([*self.detector.class_names])
        return f"{type(self).__name__}({kind} of {classes}; {self.size}; {self.record})"


def save_detector(
    path: Path,
    detector: DenseDetector,
    size: ImageSize,
    record: dict[str, Any],
    made: Made | None = None,
) -> None:
    """Save a detector's weights with all that is needed to use it; atomically.

    Of a module of one's own the weights have its own names, and it is needed to load them.
    """
    network = detector.network if isinstance(detector, Adopted) else detector
    header = header_of(detector, size, record) | entry_of(made)
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
    run, found = Path(source), _source_of(source)
    if run.is_dir() and found.path.name != STUDENT:
        chosen = found.path.relative_to(run)
        tell(f"{run} holds no {STUDENT}: its newest state, {chosen}, is used")
    return found.load(class_names)


def recorded_size(source: Path | str) -> ImageSize:
    """How a detector's training images were brought to size; COCO's recipe if it is official.

    Raises:
        InputError: the file is absent or of another kind.
    """
    return _source_of(source).size()


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
    saved = parse_header(path, header)
    if isinstance(saved, DetectorHeader | TorchvisionHeader):
        raise InputError(f"{path} holds a detector, no weights of a module of one's own")
    fill(module, tensors, str(path), "holds weights of another module")
    detector = adopt(module, saved.class_names, DetectorConfig().resolved(), "module")
    made = made_in(path, header)
    return Checkpoint(detector.eval(), saved.size, finite_or_none(saved.record), made)


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


class _Source(Protocol):
    """Where a detector comes from."""

    @property
    def path(self) -> Path: ...

    def size(self) -> ImageSize:
        """How its training images were brought to size; weights are not loaded for it."""

    def load(self, class_names: tuple[str, ...] | None) -> Checkpoint: ...


def _source_of(source: Path | str) -> _Source:
    path = Path(source)
    if str(source) in PRETRAINED and not path.exists():
        return _Published(str(source))
    if not path.exists():
        raise InputError(no_detector(source))
    path = weights_of_run(path) if path.is_dir() else path
    if not is_safetensors(path):
        return _PthFile(path)
    header = read_header(path)
    if is_state(header):
        return _State(path)
    return _SavedDetector(path) if is_ours(header) else _PthFile(path)


@dataclass(frozen=True)
class _SavedDetector:
    """Our own file."""

    path: Path

    def size(self) -> ImageSize:
        return parse_header(self.path, read_header(self.path)).size

    def load(self, class_names: tuple[str, ...] | None) -> Checkpoint:
        """The detector; of these classes where the weights do not name their own."""
        tensors, header = read_tensors(self.path)
        saved = parse_header(self.path, header)
        load = partial(load_strictly, tensors=tensors, path=self.path)
        if isinstance(saved, DetectorHeader):
            config = replace(saved.model, pretrained=False)
            detector: DenseDetector = built(self.path, config, saved.class_names, load)
        elif isinstance(saved, TorchvisionHeader):
            name, weights, names = saved.model.name, saved.model.weights, saved.model.class_names
            detector = filled(TorchvisionDetector(name, weights, names, fetch=False), load)
        else:
            raise InputError(
                f"{self.path} holds weights of a module of your own; load them into it "
                f"(bckd.zoo.checkpoints.load_module, or safetensors)"
            )
        made = made_in(self.path, header)
        return Checkpoint(detector, saved.size, finite_or_none(saved.record), made)


@dataclass(frozen=True)
class _State:
    """The student of a run that has not ended, as its resume state has it."""

    path: Path

    def size(self) -> ImageSize:
        return recipe_of(self.path, read_header(self.path)).data.size

    def load(self, class_names: tuple[str, ...] | None) -> Checkpoint:
        """The detector; of these classes where the weights do not name their own."""
        tensors, header = read_tensors(self.path)
        check_whole(self.path, tensors, header)
        recipe = recipe_of(self.path, header)
        names = classes_of(self.path, header, recipe) or class_names
        if names is None:
            raise InputError(
                f"{self.path} does not name its classes, and the data that it was trained on, in "
                f"{recipe.data.root}, are not there to name them"
            )
        kept = AVERAGED if any(x.startswith(AVERAGED) for x in tensors) else MODEL
        own = {x.removeprefix(kept): value for x, value in tensors.items() if x.startswith(kept)}
        load = partial(load_strictly, tensors=own, path=self.path)
        if recipe.student is None:
            config = replace(recipe.model, pretrained=False)
            detector: DenseDetector = built(self.path, config, names, load)
        else:
            detector = filled(torchvision_student(recipe, names, fetch=False), load)
        return Checkpoint(detector, recipe.data.size, {"steps": int(header["step"])})


@dataclass(frozen=True)
class _PthFile:
    """A file of the official code, of mmdetection or of NanoDet-m."""

    path: Path

    def size(self) -> ImageSize:
        return size_of_pth(self.path)

    def load(self, class_names: tuple[str, ...] | None) -> Checkpoint:
        """The detector; of these classes where the weights do not name their own."""
        detector, size, report = load_pth(self.path, class_names)
        return Checkpoint(detector, size, {"source": self.path.name, "report": str(report)})


@dataclass(frozen=True)
class _Published:
    """Published weights, by a name of `PRETRAINED`."""

    name: str

    @property
    def path(self) -> Path:
        return Path(self.name)

    def size(self) -> ImageSize:
        return nanodet.SIZE if PRETRAINED[self.name].kind == "nanodet" else ImageSize()

    def load(self, class_names: tuple[str, ...] | None) -> Checkpoint:
        """The detector; of these classes where the weights do not name their own."""
        entry = PRETRAINED[self.name]
        if entry.kind == "torchvision":
            name = cast("TorchvisionName", self.name)
            detector = TorchvisionDetector(name, "COCO_V1").eval()
            found = Checkpoint(detector, torchvision_detectors.SIZE)
        else:
            found = _PthFile(fetch(self.name)).load(class_names)
        score = {} if entry.AP is None else {"AP": entry.AP}
        return replace(found, record={**found.record, "source": self.name, **score})
