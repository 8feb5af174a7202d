"""The detectors that a report is on, and the images that all of them are run over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bckd.datasets.coco import CocoDataset
from bckd.models.dense import DenseDetector
from bckd.recipes import DataConfig, Recipe
from bckd.system.errors import InputError
from bckd.teachers.matching import with_classes_of
from bckd.training.evaluating import checkpoint_and_data
from bckd.training.recorded import recorded_data, recorded_recipe, run_folder
from bckd.zoo.checkpoints import Checkpoint


@dataclass(frozen=True)
class Subject:
    """One of them.

    Attributes:
        name: in the report.
        checkpoint: with the detector as it was saved.
        detector: with the classes that it shares with the data.
        dataset: the images, as this detector takes them.
        recipe: of its run; None where it lies in none.
        folder: of its run, likewise.
        workers: processes that load images.
    """

    name: str
    source: Path
    checkpoint: Checkpoint
    detector: DenseDetector
    dataset: CocoDataset
    recipe: Recipe | None
    folder: Path | None
    workers: int


def data_of(
    sources: Sequence[Path], changed: Callable[[DataConfig], DataConfig] = lambda data: data
) -> list[DataConfig]:
    """What each detector is run over: the data of the runs, each at its own size of images.

    Weights that lie in no run take the data of the first that does.

    Args:
        changed: what else is said of the data, applied to each.

    Raises:
        InputError: these are not the same images for all.
    """
    recipes = [recorded_recipe(source) for source in sources]
    runs = [recipe.data for recipe in recipes if recipe is not None]
    found = []
    for source, recipe in zip(sources, recipes, strict=True):
        own = recorded_data(source) if recipe is None else recipe.data
        base = replace(runs[0], size=own.size) if recipe is None and runs else own
        found.append(changed(base))
    for source, data in zip(sources, found, strict=True):
        for field in ("root", "val_images", "val_annotations", "first_val"):
            ours, theirs = getattr(found[0], field), getattr(data, field)
            if ours != theirs:
                option = f"--data.{field.replace('_', '-')}"
                raise InputError(
                    f"{sources[0]} was evaluated on other images than {source} ({field} {ours} "
                    f"and {theirs}); expected one data set for all: say which ({option})"
                )
    return found


def names_of(sources: Sequence[Path]) -> list[str]:
    """A short name of each: that of its folder or file; in full where two have the same.

    Raises:
        InputError: one is there twice.
    """
    twice = [source for source, count in Counter(sources).items() if count > 1]
    if twice:
        raise InputError(f"{twice[0]} is named twice; expected each detector once")
    short = [
        source.resolve().parent.name
        if source.stem == "student" and source.is_file()
        else source.resolve().name.removesuffix(".safetensors").removesuffix(".pth")
        for source in sources
    ]
    seen = Counter(short)
    return [
        name if seen[name] == 1 else source.as_posix()
        for name, source in zip(short, sources, strict=True)
    ]


def load_subjects(
    sources: Sequence[Path], data: Sequence[DataConfig], device: str
) -> list[Subject]:
    """Load all of them.

    Raises:
        InputError: weights or data are absent or something else, or do not fit one another.
    """
    subjects = []
    for name, source, own in zip(names_of(sources), sources, data, strict=True):
        checkpoint, dataset = checkpoint_and_data(source, own, device)
        detector, dataset = with_classes_of(checkpoint.detector, source, dataset)
        recipe, folder = recorded_recipe(source), run_folder(source)
        told = (name, source, checkpoint, detector, dataset, recipe, folder, own.workers)
        subjects.append(Subject(*told))
    return subjects
