"""The teacher of a recipe, as its student takes it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from bckd.datasets.coco import CocoDataset
from bckd.models.adopted import adopt
from bckd.models.dense import DenseDetector
from bckd.models.folding import folded, keeping_type
from bckd.recipes import Recipe
from bckd.system.device import pick_device
from bckd.system.errors import InputError
from bckd.system.precision import autocast_type
from bckd.system.telling import tell
from bckd.teachers.matching import matched
from bckd.teachers.targets import TeacherTargets, Teaching, feature_bytes, live_teaching
from bckd.training.compiling import compiled
from bckd.training.recipe_check import distils
from bckd.training.terms import needs_of_terms
from bckd.zoo.checkpoints import Checkpoint, load_detector

MOST_FEATURE_BYTES = 2**30  # of the teacher's maps of all images, to be kept in main memory


def load_teacher(
    recipe: Recipe,
    class_names: tuple[str, ...],
    device: torch.device,
    dispensable: frozenset[str] = frozenset(),
    strides: tuple[int, ...] | None = None,
    own: nn.Module | None = None,
) -> Checkpoint | None:
    """The recipe's teacher as its student takes it: frozen, in eval mode, checked.

    Args:
        dispensable: classes that the teacher may lack, as the data have no box of them.
        strides: the student's; None: those of the recipe's model.
        own: the module that teaches in place of `recipe.teacher`.

    Raises:
        InputError: a class or a stride of the student has no counterpart, nothing is distilled,
            or there are two teachers.
    """
    if recipe.teacher is None and own is None:
        return None
    if recipe.teacher is not None and own is not None:
        raise InputError(f"teacher is {recipe.teacher}; expected none beside a module that teaches")
    who = "" if recipe.teacher is None else f" {recipe.teacher}"
    if not distils(recipe):
        raise InputError(f"teacher{who} is given, but every distillation weight is 0")
    if recipe.teacher is None:
        assert own is not None
        adopted = adopt(
            own,
            class_names,
            recipe.model,
            "teacher",
            autocast_type(recipe.precision, pick_device(recipe.device), own),
        )
        checkpoint = Checkpoint(adopted, recipe.data.size)
    else:
        checkpoint = load_detector(recipe.teacher, class_names)
    if "report" in checkpoint.record:
        tell(f"teacher{who}: {checkpoint.record['report']}")
    model, renamed = recipe.model, renamed_classes(recipe.teacher_classes)
    student = (class_names, strides or model.strides, model.normalisation)
    teacher = matched(checkpoint.detector, f"teacher{who}", *student, renamed, dispensable)
    return replace(checkpoint, detector=teacher.requires_grad_(False).eval().to(device))


def make_teaching(
    recipe: Recipe,
    training: CocoDataset,
    device: torch.device,
    progress: bool = True,
    features: bool | None = None,
) -> Teaching | None:
    """The recipe's teacher as a function of a batch; None without a teacher.

    Its answers are computed once where the data are small and of one size, and images are at most
    flipped; with the pyramid's maps, if a term needs these, where they are small too.

    Args:
        features: with these maps or without; None: as the recipe's terms need.
    """
    names = training.annotations.class_names
    teacher = load_teacher(recipe, names, device, training.annotations.idle_classes)
    features = needs_features(recipe) if features is None else features
    return teaching_of(teacher, recipe, training, progress, features)


def needs_features(recipe: Recipe) -> bool:
    """Whether a distillation term of some weight needs the maps of both pyramids."""
    return any("features" in needed for _, needed in needs_of_terms(recipe, recipe.weights))


def teaching_of(
    teacher: Checkpoint | None,
    recipe: Recipe,
    training: CocoDataset,
    progress: bool,
    features: bool,
) -> Teaching | None:
    """A loaded teacher as a function of a batch, as `make_teaching` says; None without one."""
    if teacher is None:
        return None
    detector = teacher.detector.to(memory_format=torch.channels_last)
    data = recipe.data
    same = training.one_size and not (data.two_canvases or data.multi_scale)
    kept = data.cache and same and not training.augmentations
    if kept and (not features or feature_bytes(detector, training) <= MOST_FEATURE_BYTES):
        return TeacherTargets(detector, training, progress=progress, features=features)
    return ready_teacher(detector, recipe)


def ready_teacher(teacher: DenseDetector, recipe: Recipe) -> Teaching:
    """The teacher made ready to answer every batch, and nothing else, as fast as it can."""
    device = next(teacher.parameters()).device
    autocast = autocast_type(recipe.teacher_precision or recipe.precision, device, teacher)
    side = 2 * max(teacher.strides)
    images = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0)).to(device)
    network = keeping_type(folded(teacher, images), autocast)
    return live_teaching(compiled(network, recipe), autocast)


def renamed_classes(pairs: tuple[str, ...]) -> dict[str, str]:
    """The teacher's name of a class by ours, from texts such as "lorry=truck".

    Raises:
        InputError: a text is none, or a class is there twice.
    """
    renamed: dict[str, str] = {}
    for pair in pairs:
        ours, _, theirs = pair.partition("=")
        if not ours or not theirs:
            raise InputError(f"teacher_classes has {pair!r}; expected ours=theirs")
        if ours in renamed:
            raise InputError(f"teacher_classes has {ours!r} twice")
        renamed[ours] = theirs
    return renamed
