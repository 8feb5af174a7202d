"""Training: a recipe becomes a student, with or without a teacher.

Everything random is a function of (seed, step), and the resume state holds the
rest, so that a run killed and resumed ends with the weights of one that was not. Under
torchrun each process takes its share of every batch, and the first one writes the files.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from bckd.datasets.coco import CocoDataset
from bckd.evaluation.average_precision import MAX_DETECTIONS, Metrics
from bckd.models.dense import DenseDetector
from bckd.models.detector import Detector
from bckd.recipes import Recipe
from bckd.reports.model_card import write_card
from bckd.system.device import pick_device
from bckd.system.distributed import (
    first_process_first,
    from_first,
    own_device,
    processes_joined,
)
from bckd.system.files import one_writer, write_json
from bckd.system.interruption import (
    ending,
)
from bckd.system.launcher import is_first
from bckd.system.precision import autocast_type
from bckd.system.telling import each_once
from bckd.system.values import to_plain
from bckd.teachers.check import check_teacher
from bckd.teachers.targets import Teaching, teaching_in_parts
from bckd.training.averaging import averaged
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
from bckd.training.live_report import LiveReport
from bckd.training.loading import batches_of
from bckd.training.loss_window import LossWindow
from bckd.training.origin import origin_of
from bckd.training.recipe_check import check_recipe
from bckd.training.recorded import RECIPE
from bckd.training.restoring import restore, tell_other_processes
from bckd.training.resuming import agreed_state, make_newest
from bckd.training.run import Run
from bckd.training.run_contents import contents_of
from bckd.training.run_log import NoLog, RunLog
from bckd.training.schedule import build_optimizer, tell_warm_up
from bckd.training.settling import settled
from bckd.training.start_told import tell_advice, tell_start
from bckd.training.steering import steering_of
from bckd.training.student import build_student, with_normalisation_of
from bckd.training.teacher import load_teacher, needs_features, teaching_of
from bckd.zoo.checkpoints import Checkpoint
from bckd.zoo.unfinished import STUDENT


@dataclass(frozen=True)
class RunResult:
    """What a run ends with: the student in eval mode, its metrics, the seconds of training."""

    detector: DenseDetector
    metrics: Metrics
    seconds: float
    out: Path

    def __repr__(self) -> str:
        return f"RunResult(AP {self.metrics.AP:.3f} after {self.seconds:.0f} s, in {self.out})"


def train(
    recipe: Recipe,
    resume: bool = False,
    progress: bool = True,
    teaching: Teaching | None = None,
    student: nn.Module | None = None,
    teacher: nn.Module | None = None,
) -> RunResult:
    """Train a student as the recipe says, evaluate and save it under `recipe.out`.

    The folder then holds `student.safetensors` (the student alone), `log.jsonl`,
    `tensorboard/`, `results.json` (metrics), `resume.safetensors` and the state before it,
    `resume.previous.safetensors`, and in `snapshots/` the student at every evaluation on the
    way, the best of which is `best.safetensors` too. `README.md` is the student's model card.
    `report.html` shows how far it is and what the student sees, while it trains too; what the page
    shows beside the log is in `view.json`. One process writes to the folder at a time.

    SIGTERM and Ctrl-C end a run after the step under way, with a state of it, or at once in an
    evaluation, which a resumed run makes up for.

    In a program that torchrun started, all its processes train one student together: each
    takes an equal share of the images of every step. The result is that of one process up to
    rounding: what the official code asks of the images of one GPU goes by
    `recipe.images_per_group`, not by processes (see `bckd.groups`). But for two things: without
    `images_per_group` a BatchNorm that learns takes its statistics over the images of a process,
    and Swin's stochastic depth is random in each process. `log_gradients` logs the gradients on
    the class logits of the first one's images, and the pull of all.

    Args:
        recipe: the whole configuration.
        resume: go on where `recipe.out` stopped; from the start if it holds nothing.
        progress: show a progress bar, and tell at the start what is trained on what, and what
            would help.
        teaching: what the recipe's teacher says, where the caller has it already
            (several students of one teacher); made from `recipe.teacher` otherwise.
        student: a module of one's own in place of the recipe's detector: its forward gives a
            `DenseOutput` of normalised images, in training as in evaluation. It goes on from the
            weights that it has. What it learns from labels is its own `supervision` (an object
            with `assign`, `losses` and `terms`, such as a `Head`), else that of the family
            `recipe.model.head`. Terms of its own weigh what `supervision.terms` says, which is the
            module's to change (`terms["box"] = SupervisedTerm(2.0, "box loss")`); those that a
            family has too go by `recipe.weights`. Its `normalisation` and `settings`, where it
            has any, go before the recipe's.
        teacher: a module of one's own in place of `recipe.teacher`, likewise; its classes are
            those of its `class_names`, or the data's.

    Raises:
        InputError: data, teacher or folder do not fit the recipe, the teacher is of no use,
            another process writes to the folder, or it can't be written to.
        NonFiniteLossError: a loss term is nan or infinite.
        Interrupted: a signal ended the run.
    """
    taught = recipe.teacher is not None or teacher is not None
    recipe = check_recipe(recipe, taught)
    recipe = with_normalisation_of(recipe, student)
    device = pick_device(own_device(recipe.device))
    with processes_joined(device), each_once(), ExitStack() as held:
        from_first(lambda: held.enter_context(one_writer(recipe.out)))
        modules = (student, teacher)
        return _train(recipe, device, resume, progress and is_first(), teaching, *modules)


def _train(
    recipe: Recipe,
    device: torch.device,
    resume: bool,
    progress: bool,
    teaching: Teaching | None,
    own_student: nn.Module | None,
    own_teacher: nn.Module | None,
) -> RunResult:
    own_images = own_share(recipe)
    normalisation = recipe.model.normalisation
    taught = recipe.teacher is not None or own_teacher is not None
    annotations = training_annotations(recipe.data, taught)
    recipe = settled(recipe, annotations, resume, taught)
    training = training_data(recipe.data, recipe.seed, normalisation, annotations)
    recipe = in_steps(recipe, training)
    kept = min(recipe.model.postprocess.max_detections, MAX_DETECTIONS)
    validation = validation_data(recipe.data, normalisation, kept)
    validation = check_same_classes(training, validation)
    names = training.annotations.class_names
    contents = contents_of(recipe, own_teacher)
    state = agreed_state(recipe, resume, contents)
    unlearnt = training.annotations.idle_classes
    anew = state is None
    student = first_process_first(lambda: build_student(recipe, names, anew, unlearnt, own_student))
    if isinstance(student, Detector):
        tell_unlearnt(recipe.model, training)
    student = student.to(device).to(memory_format=torch.channels_last)
    check_groups(recipe, student, own_images // recipe.accumulate, training)
    teacher = None
    if teaching is None or needs_head(recipe):
        teacher = first_process_first(
            lambda: load_teacher(recipe, names, device, unlearnt, student.strides, own_teacher)
        )
    terms = build_own_terms(recipe, student, teacher, teaching, training).to(device)
    if teaching is not None:
        teacher = None  # what it says is known: only its head was asked for
    if progress:
        tell_start(
            recipe, training, validation, student, None if teacher is None else teacher.detector
        )
        if anew:
            tell_advice(recipe, training, validation, student, own_student is not None)
    if teacher is not None and anew:
        check_teacher(recipe, teacher, student, validation)
    if teaching is None:
        teaching = teaching_of(teacher, recipe, training, progress, needs_features(recipe))
    if teaching is not None:
        teaching = teaching_in_parts(teaching, recipe.accumulate)
    if anew:
        tell_warm_up(recipe)
    optimizer = build_optimizer(nn.ModuleList([student, terms]), recipe.optimisation)
    halves = autocast_type(recipe.precision, device, student) is torch.float16
    scaler = torch.amp.GradScaler(device.type, enabled=halves)
    average = averaged(student, recipe)
    steering = steering_of(recipe)
    if steering is not None:
        steering = steering.to(device)
    window, first, seconds = LossWindow(), 0, 0.0
    if state is not None:
        tell_other_processes(state, recipe, student)
        averaging = None if average is None else average.detector
        restore(state, student, terms, optimizer, scaler, averaging, steering)
        window.take(state.window, device)
        first, seconds = state.step, state.seconds
        if is_first():
            make_newest(state)
    if is_first():
        write_json(recipe.out / RECIPE, to_plain(recipe))
    log = RunLog(recipe.out, first) if is_first() else NoLog()
    judged = student if average is None else average.detector
    with (
        closing(log),
        _report(recipe, log, judged, teacher, validation) as report,
        ending(recipe.out) as told,
        closing(batches_of(recipe, training, first, device.type == "cuda")) as loaded,
    ):
        parts = (student, terms, teaching, optimizer, scaler, validation)
        origin = origin_of(recipe, contents, training, validation, student) if is_first() else None
        told_of = (average, report, origin, steering)
        run = Run(recipe, contents, *parts, log, window, told, progress, seconds, *told_of)
        steps = run.train(loaded, first)
        seconds = run.seconds
        metrics = run.evaluate()
        if is_first():
            run.keep_if_best(metrics, steps)
        log.write(steps, {"metrics": asdict(metrics)})
        if is_first():
            run.save_student(recipe.out / STUDENT, metrics, steps)
            summary = {"seed": recipe.seed, "steps": steps, "seconds": seconds}
            write_json(recipe.out / "results.json", {**asdict(metrics), **summary})
            if (made := run.made(metrics, steps)) is not None:
                write_card(recipe.out, made, seconds)
        if report is not None:
            report.evaluated(steps)
    return RunResult(run.judged.eval(), metrics, seconds, recipe.out)


def _report(
    recipe: Recipe,
    log: RunLog | NoLog,
    student: DenseDetector,
    teacher: Checkpoint | None,
    validation: CocoDataset,
) -> AbstractContextManager[LiveReport | None]:
    """The page of the run, which one process writes."""
    if isinstance(log, NoLog):
        return nullcontext()
    shown = None if teacher is None else teacher.detector
    return LiveReport(recipe, log, student, shown, validation)
