"""What a run is made of before its first step: data, student, teacher, terms."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from bckd.datasets.coco import CocoDataset
from bckd.evaluation.average_precision import MAX_DETECTIONS
from bckd.models.dense import DenseDetector
from bckd.models.detector import Detector
from bckd.recipes import Recipe
from bckd.system.distributed import first_process_first
from bckd.teachers.check import check_teacher
from bckd.teachers.targets import Teaching, teaching_in_parts
from bckd.training.build_terms import build_own_terms, needs_head
from bckd.training.checks import check_groups, own_share
from bckd.training.data import (
    check_same_classes,
    training_annotations,
    training_data,
    validation_data,
)
from bckd.training.epochs import in_steps
from bckd.training.learnt_boxes import tell_unlearnt
from bckd.training.own_terms import OwnTerms
from bckd.training.resume_state import ResumeState
from bckd.training.resuming import agreed_state
from bckd.training.run_contents import contents_of
from bckd.training.schedule import tell_warm_up
from bckd.training.settling import settled
from bckd.training.start_told import tell_advice, tell_start
from bckd.training.student import build_student
from bckd.training.teacher import load_teacher, needs_features, teaching_of
from bckd.zoo.checkpoints import Checkpoint


@dataclass(frozen=True)
class Given:
    """What a caller has in place of what a recipe names; see `bckd.training.trainer.train`."""

    teaching: Teaching | None = None
    student: nn.Module | None = None
    teacher: nn.Module | None = None


@dataclass(frozen=True)
class Prepared:
    """What a run is made of.

    Attributes:
        recipe: settled, its length in steps.
        contents: see `contents_of`.
        validation: None where nothing is evaluated.
        state: where an earlier run stopped; None: the run begins.
        teacher: None without one, or where all that it says is given.
        terms: the recipe's own, and those with adapters.
        teaching: what the teacher says, in parts as steps are taken.
    """

    recipe: Recipe
    contents: dict[str, str]
    training: CocoDataset
    validation: CocoDataset
    state: ResumeState | None
    student: DenseDetector
    teacher: Checkpoint | None
    terms: OwnTerms
    teaching: Teaching | None


def prepare(
    recipe: Recipe, device: torch.device, resume: bool, progress: bool, given: Given
) -> Prepared:
    """Read the data, build or load the networks, and check that all of it fits together.

    Args:
        progress: tell what is trained on what, and what would help.

    Raises:
        InputError: something does not fit.
    """
    own_images = own_share(recipe)
    recipe, training, validation = _data(recipe, resume, given)
    contents = contents_of(recipe, given.teacher)
    state = agreed_state(recipe, resume, contents)
    anew = state is None
    student = _student(recipe, training, anew, given).to(device)
    student = student.to(memory_format=torch.channels_last)
    check_groups(recipe, student, own_images // recipe.accumulate, training)
    teacher = _teacher(recipe, training, student, device, given)
    terms = build_own_terms(recipe, student, teacher, given.teaching, training).to(device)
    if given.teaching is not None:
        teacher = None  # what it says is known: only its head was asked for
    if progress:
        shown = None if teacher is None else teacher.detector
        tell_start(recipe, training, validation, student, shown)
        if anew:
            tell_advice(recipe, training, validation, student, given.student is not None)
    if teacher is not None and anew:
        check_teacher(recipe, teacher, student, validation)
    teaching = given.teaching
    if teaching is None:
        teaching = teaching_of(teacher, recipe, training, progress, needs_features(recipe))
    if teaching is not None:
        teaching = teaching_in_parts(teaching, recipe.accumulate)
    if anew:
        tell_warm_up(recipe)
    data = (training, validation)
    return Prepared(recipe, contents, *data, state, student, teacher, terms, teaching)


def _data(recipe: Recipe, resume: bool, given: Given) -> tuple[Recipe, CocoDataset, CocoDataset]:
    """The recipe as the data settle it, and these."""
    normalisation = recipe.model.normalisation
    taught = recipe.teacher is not None or given.teacher is not None
    annotations = training_annotations(recipe.data, taught)
    recipe = settled(recipe, annotations, resume, taught)
    training = training_data(recipe.data, recipe.seed, normalisation, annotations)
    recipe = in_steps(recipe, training)
    kept = min(recipe.model.postprocess.max_detections, MAX_DETECTIONS)
    validation = validation_data(recipe.data, normalisation, kept)
    return recipe, training, check_same_classes(training, validation)


def _student(recipe: Recipe, training: CocoDataset, anew: bool, given: Given) -> DenseDetector:
    found = training.annotations
    student = first_process_first(
        lambda: build_student(recipe, found.class_names, anew, found.idle_classes, given.student)
    )
    if isinstance(student, Detector):
        tell_unlearnt(recipe.model, training)
    return student


def _teacher(
    recipe: Recipe,
    training: CocoDataset,
    student: DenseDetector,
    device: torch.device,
    given: Given,
) -> Checkpoint | None:
    """Not loaded where what it says is given, and no term asks for its head."""
    if given.teaching is not None and not needs_head(recipe):
        return None
    found = training.annotations
    data = (found.class_names, device, found.idle_classes)
    return first_process_first(lambda: load_teacher(recipe, *data, student.strides, given.teacher))
