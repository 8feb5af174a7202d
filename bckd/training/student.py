"""The student of a recipe: its own detector, one of torchvision's, or a module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path

import torch
from torch import nn

from bckd.models.adopted import adopt, check_family
from bckd.models.dense import DenseDetector
from bckd.models.detector import Detector, DetectorConfig
from bckd.normalisation import IMAGENET
from bckd.recipes import Recipe
from bckd.recipes.loss_weights import LossWeights
from bckd.system.device import pick_device
from bckd.system.errors import InputError
from bckd.system.precision import autocast_type
from bckd.system.telling import first_of
from bckd.system.values import to_plain
from bckd.teachers.matching import columns_by_name, tell_extra
from bckd.training.teacher import renamed_classes
from bckd.zoo.checkpoints import load_detector, torchvision_student
from bckd.zoo.torchvision_detectors import TorchvisionModel

# What a neck and a head mean by their weights.
HEAD_FIELDS = ("head", "channels", "strides", "head_convs", "head_groups", "anchor_scale")


def build_student(
    recipe: Recipe,
    class_names: tuple[str, ...],
    anew: bool = True,
    dispensable: frozenset[str] = frozenset(),
    own: nn.Module | None = None,
) -> DenseDetector:
    """The recipe's detector; its initial weights are `recipe.start`'s, or the seed's alone.

    With `recipe.inherit` those of its neck and head are the teacher's.

    Args:
        anew: False where a resume state will replace the weights, so that none are downloaded.
        dispensable: classes that the start may lack, as the data have no box to learn of them;
            their weights are the seed's.
        own: the module that learns in place of the recipe's detector.

    Raises:
        InputError: `recipe.start` holds another model or other classes; or neck and head of the
            teacher are of other shapes; or the module has other classes, or gives no dense output,
            or does not go with the recipe.
    """
    if own is not None or recipe.student is not None:
        return _own_student(recipe, own, class_names, anew)
    if anew and recipe.start is not None:
        return _started(recipe, recipe.start, class_names, dispensable)
    model = recipe.model if anew else replace(recipe.model, pretrained=False)
    detector = _seeded(model, class_names, recipe.seed)
    detector.config = recipe.model.resolved()
    if anew and recipe.inherit:
        _inherit(detector, recipe, dispensable)
    return detector


def _seeded(model: DetectorConfig, class_names: tuple[str, ...], seed: int) -> Detector:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Detector(model, class_names)


def _own_student(
    recipe: Recipe, own: nn.Module | None, class_names: tuple[str, ...], anew: bool
) -> DenseDetector:
    """A student that is no `Detector`: a module, or the one that `recipe.student` names."""
    if recipe.start is not None:
        raise InputError(
            f"start is {recipe.start}; expected none, as the student is no model of the recipe's "
            f"and goes on from the weights that it has"
        )
    if own is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            detector: DenseDetector = torchvision_student(recipe, class_names, fetch=anew)
    elif recipe.student is None:
        detector = _adopted(recipe, own, class_names)
    else:
        raise InputError(f"student is {recipe.student}; expected none beside a module that learns")
    if isinstance(detector, TorchvisionModel) and recipe.images_per_group is not None:
        raise InputError(
            f"images_per_group is {recipe.images_per_group}; expected None for torchvision's "
            f"detectors, whose anchors depend on the size of the padded image"
        )
    return detector


def _adopted(recipe: Recipe, own: nn.Module, class_names: tuple[str, ...]) -> DenseDetector:
    detector = adopt(
        own,
        class_names,
        recipe.model,
        "student",
        autocast_type(recipe.precision, pick_device(recipe.device), own),
    )
    check_family(detector, recipe.model)
    if detector.class_names != class_names:
        raise InputError(
            f"the student has the classes {first_of([*detector.class_names])}; expected those of "
            f"the data, in their order: {first_of([*class_names])}"
        )
    known = vars(LossWeights())
    for name, term in getattr(getattr(detector, "supervision", None), "terms", {}).items():
        if known.get(name, term.weight) != term.weight:
            raise InputError(
                f"the student's own losses give {name} the weight {term.weight}, a family of "
                f"detectors gives it {known[name]}; expected another name, or that weight, which "
                f"the recipe's weights then change"
            )
    return detector


def with_normalisation_of(recipe: Recipe, own: nn.Module | None) -> Recipe:
    """The recipe with the normalisation that a student of its own asks for, if any."""
    ours = IMAGENET if recipe.student else recipe.model.normalisation
    normalisation = getattr(own, "normalisation", ours)
    return replace(recipe, model=replace(recipe.model, normalisation=normalisation))


def _started(
    recipe: Recipe, start: Path, class_names: tuple[str, ...], dispensable: frozenset[str]
) -> Detector:
    """The student as `start` left it, its parameters learning again."""
    detector = load_detector(start, class_names).detector
    if not isinstance(detector, Detector):
        raise InputError(f"start {start} is no detector that a recipe builds; use it as a teacher")
    new = _seeded(detector.config, class_names, recipe.seed)
    detector = _renamed(detector, new, f"start {start}", dispensable)
    model = recipe.model.resolved()
    own = replace(detector.config, pretrained=model.pretrained, postprocess=model.postprocess)
    theirs, ours = to_plain(own), to_plain(model)
    differing = next((name for name in ours if theirs[name] != ours[name]), None)
    if differing is not None:
        raise InputError(
            f"start {start} has model.{differing} {theirs[differing]}, the student "
            f"{ours[differing]}; they must be equal"
        )
    detector.config, detector.settings = model, model.postprocess
    return detector


def _inherit(student: Detector, recipe: Recipe, dispensable: frozenset[str]) -> None:
    """Give a student the neck and the head of its teacher."""
    who = f"teacher {recipe.teacher}"
    assert recipe.teacher is not None
    teacher = load_detector(recipe.teacher, student.class_names).detector
    if not isinstance(teacher, Detector):
        raise InputError(f"{who} is no detector that a recipe builds; expected --no-inherit")
    new = _seeded(teacher.config, student.class_names, recipe.seed)
    renamed = renamed_classes(recipe.teacher_classes)
    weights = _renamed(teacher, new, who, dispensable, renamed).state_dict()
    parts = {name: x for name, x in weights.items() if name.startswith(("neck.", "head."))}
    own, configs = student.state_dict(), (teacher.config, student.config)
    settings = ((f"model.{x}", *(getattr(y, x) for y in configs)) for x in HEAD_FIELDS)
    shapes = ((name, tuple(x.shape), tuple(own[name].shape)) for name, x in parts.items())
    pairs = chain(settings, shapes)  # shapes last: of other settings there may be other names
    differing = next((pair for pair in pairs if pair[1] != pair[2]), None)
    if differing is not None:
        name, theirs, ours = differing
        raise InputError(
            f"{who} has {name} {theirs}, the student {ours}; they must be equal for the student to "
            f"inherit neck and head"
        )
    student.load_state_dict(own | parts)


def _renamed(
    detector: Detector,
    new: Detector,
    who: str,
    dispensable: frozenset[str],
    renamed: Mapping[str, str] | None = None,
) -> Detector:
    """The detector with the classes of a new one, which keeps its weights of those it lacks.

    Args:
        renamed: the detector's name of a class, by the new one's, where these differ.
    """
    if detector.class_names == new.class_names:
        return detector
    columns = columns_by_name(detector.class_names, new.class_names, who, dispensable, renamed)
    used = tuple(detector.class_names[column] for column in columns if column is not None)
    tell_extra(detector.class_names, used, who)
    known = {row: column for row, column in enumerate(columns) if column is not None}
    weights, own = detector.state_dict(), new.state_dict()
    for name in ("head.cls.weight", "head.cls.bias"):  # all classes of an anchor, then the next
        theirs = weights[name].unflatten(0, (-1, len(detector.class_names)))
        ours = own[name].unflatten(0, (-1, len(new.class_names)))
        ours[:, list(known)] = theirs[:, list(known.values())]
        weights[name] = ours.flatten(0, 1)
    new.load_state_dict(weights)
    return new.train(detector.training)
