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

from bckd.evaluation.average_precision import Metrics
from bckd.models.dense import DenseDetector
from bckd.recipes import Recipe
from bckd.reports.model_card import write_card
from bckd.system.device import pick_device
from bckd.system.distributed import (
    from_first,
    own_device,
    processes_joined,
)
from bckd.system.files import one_writer, write_json
from bckd.system.interruption import (
    ending,
)
from bckd.system.launcher import is_first
from bckd.system.memory import keep_freed_memory
from bckd.system.precision import autocast_type
from bckd.system.telling import each_once
from bckd.system.values import to_plain
from bckd.teachers.targets import Teaching
from bckd.training.averaging import AveragedStudent, averaged
from bckd.training.live_report import LiveReport
from bckd.training.loading import batches_of, held_ready
from bckd.training.loss_window import LossWindow
from bckd.training.origin import origin_of
from bckd.training.preparing import Given, Prepared, prepare
from bckd.training.recipe_check import check_recipe
from bckd.training.recorded import RECIPE
from bckd.training.restoring import restore, tell_other_processes
from bckd.training.resume_state import ResumeState
from bckd.training.resuming import make_newest
from bckd.training.run import Run
from bckd.training.run_log import NoLog, RunLog
from bckd.training.schedule import build_optimizer
from bckd.training.steering import Steering, steering_of
from bckd.training.student import with_normalisation_of
from bckd.zoo.made import Made
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
    if device.type == "cpu":
        keep_freed_memory()
    with processes_joined(device), each_once(), ExitStack() as held:
        from_first(lambda: held.enter_context(one_writer(recipe.out)))
        given = Given(teaching, student, teacher)
        return _train(recipe, device, resume, progress and is_first(), given)


def _train(
    recipe: Recipe, device: torch.device, resume: bool, progress: bool, given: Given
) -> RunResult:
    found = prepare(recipe, device, resume, progress, given)
    tools = _tools(found, device)
    window, seconds = LossWindow(), 0.0
    if (state := found.state) is not None:
        _go_on(state, found, tools)
        window.take(state.window, device)
        seconds = state.seconds
    first = 0 if state is None else state.step
    if is_first():
        write_json(found.recipe.out / RECIPE, to_plain(found.recipe))
    log = RunLog(found.recipe.out, first) if is_first() else NoLog()
    with (
        closing(log),
        _report(found, log, tools) as report,
        ending(found.recipe.out) as told,
        closing(batches_of(found.recipe, found.training, first, device.type == "cuda")) as loaded,
    ):
        run = Run(
            recipe=found.recipe,
            contents=found.contents,
            student=found.student,
            terms=found.terms,
            teaching=found.teaching,
            validation=found.validation,
            **vars(tools),
            log=log,
            window=window,
            told=told,
            progress=progress,
            seconds=seconds,
            report=report,
            origin=_origin(found) if is_first() else None,
            reserved=held_ready(found.recipe, found.training, first),
        )
        steps = run.train(loaded, first)
        metrics = _finish(run, steps)
    return RunResult(run.judged.eval(), metrics, run.seconds, found.recipe.out)


@dataclass(frozen=True)
class _Tools:
    """What a step changes beside the student, and what a resume state keeps of it."""

    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    averaged: AveragedStudent | None
    steering: Steering | None


def _tools(found: Prepared, device: torch.device) -> _Tools:
    learning = nn.ModuleList([found.student, found.terms])
    halves = autocast_type(found.recipe.precision, device, found.student) is torch.float16
    steering = steering_of(found.recipe)
    return _Tools(
        build_optimizer(learning, found.recipe.optimisation),
        torch.amp.GradScaler(device.type, enabled=halves),
        averaged(found.student, found.recipe),
        None if steering is None else steering.to(device),
    )


def _go_on(state: ResumeState, found: Prepared, tools: _Tools) -> None:
    """Everything as the state has it."""
    student = found.student
    tell_other_processes(state, found.recipe, student)
    averaging = None if tools.averaged is None else tools.averaged.detector
    others = (tools.optimizer, tools.scaler, averaging, tools.steering)
    restore(state, student, found.terms, *others)
    if is_first():
        make_newest(state)


def _finish(run: Run, steps: int) -> Metrics:
    """Evaluate the student and write what a run leaves behind."""
    metrics = run.evaluate_last(steps)
    if is_first():
        run.keep_if_best(metrics, steps)
    run.log.write(steps, {"metrics": asdict(metrics)})
    if is_first():
        out = run.recipe.out
        run.save_student(out / STUDENT, metrics, steps)
        summary = {"seed": run.recipe.seed, "steps": steps, "seconds": run.seconds}
        write_json(out / "results.json", {**asdict(metrics), **summary})
        if (made := run.made(metrics, steps)) is not None:
            write_card(out, made, run.seconds)
    if run.report is not None:
        run.report.evaluated(steps)
    return metrics


def _origin(found: Prepared) -> Made:
    data = (found.training, found.validation)
    return origin_of(found.recipe, found.contents, *data, found.student)


def _report(
    found: Prepared, log: RunLog | NoLog, tools: _Tools
) -> AbstractContextManager[LiveReport | None]:
    """The page of the run, which one process writes."""
    if isinstance(log, NoLog):
        return nullcontext()
    student = found.student if tools.averaged is None else tools.averaged.detector
    teacher = None if found.teacher is None else found.teacher.detector
    return LiveReport(found.recipe, log, student, teacher, found.validation)
