"""Training: a recipe becomes a student, with or without a teacher.

Everything random is a function of (seed, step), and the resume state holds the
rest, so that a run killed and resumed ends with the weights of one that was not. Under
torchrun each process takes its share of every batch, and the first one writes the files.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader
from torchvision.ops import StochasticDepth
from tqdm.auto import tqdm

from bckd.correspondence import compared
from bckd.datasets.batches import TrainingBatches
from bckd.datasets.coco import CocoDataset, collate
from bckd.datasets.processes import start_process
from bckd.device import pick_device
from bckd.distributed import (
    anywhere,
    first_process_first,
    from_first,
    own_device,
    process_count,
    process_index,
    processes_joined,
    share_statistics,
    shared,
)
from bckd.errors import InputError, Interrupted, NonFiniteLossError
from bckd.evaluation.average_precision import MAX_DETECTIONS, Metrics, evaluate
from bckd.evaluation.gradient_shares import gradient_shares
from bckd.files import finite_or_none, one_writer, write_json
from bckd.interruption import Ending, ending, loading, report_in_iterator
from bckd.launcher import is_first
from bckd.models.adopted import Adopted
from bckd.models.backbones.base import COARSEST
from bckd.models.dense import DenseDetector
from bckd.models.detector import Detector
from bckd.precision import autocast_type
from bckd.recipes import Recipe
from bckd.structures import Batch
from bckd.teachers.check import check_teacher
from bckd.teachers.targets import TeacherTargets, Teaching, live_teaching
from bckd.telling import each_once, some, tell
from bckd.training.data import check_same_classes, training_data, validation_data
from bckd.training.learnt_boxes import tell_unlearnt
from bckd.training.loss_window import LossWindow
from bckd.training.needs import check_needs
from bckd.training.own_terms import OwnTerms, named_terms
from bckd.training.recipe_check import check_recipe
from bckd.training.resuming import (
    ResumeState,
    agreed_state,
    contents_of,
    make_newest,
    restore,
    save_state,
)
from bckd.training.run_log import NoLog, RunLog, read_log
from bckd.training.schedule import build_optimizer, learning_rate, set_learning_rate
from bckd.training.student import build_student, with_normalisation_of
from bckd.training.teacher import load_teacher
from bckd.training.terms import (
    Terms,
    assignment_rules,
    compute_terms,
    needs_of_terms,
    supervision_of,
    term_weights,
    weights_at,
)
from bckd.values import to_plain
from bckd.zoo.checkpoints import Checkpoint, save_detector
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
    way. One process writes to it at a time.

    SIGTERM and Ctrl-C end a run after the step under way, with a state of it, or at once in an
    evaluation, which a resumed run makes up for.

    In a program that torchrun started, all its processes train one student together: each
    takes an equal share of the images of every step. The result is that of one process up to
    rounding: what the official code asks of the images of one GPU goes by
    `recipe.images_per_group`, not by processes (see `bckd.groups`). But for two things: without
    `images_per_group` a BatchNorm that learns takes its statistics over the images of a process,
    and Swin's stochastic depth is random in each process. `log_gradients` logs the gradients of
    the first one's images.

    Args:
        recipe: the whole configuration.
        resume: go on where `recipe.out` stopped; from the start if it holds nothing.
        progress: show a progress bar.
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
    recipe = replace(recipe, model=recipe.model.resolved())
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
    own_images = _own_share(recipe)
    normalisation = recipe.model.normalisation
    training = training_data(recipe.data, recipe.seed, normalisation)
    kept = min(recipe.model.postprocess.max_detections, MAX_DETECTIONS)
    validation = validation_data(recipe.data, normalisation, kept)
    validation = check_same_classes(training, validation)
    names = training.annotations.class_names
    contents = contents_of(recipe, own_teacher)
    state = agreed_state(recipe, resume, contents)
    unlearnt = frozenset(names) - training.annotations.learnable_classes
    anew = state is None
    student = first_process_first(lambda: build_student(recipe, names, anew, unlearnt, own_student))
    if isinstance(student, Detector):
        tell_unlearnt(recipe.model, training)
    student = student.to(device).to(memory_format=torch.channels_last)
    _check_groups(recipe, student, own_images, training)
    teacher = None
    if teaching is None:
        teacher = first_process_first(
            lambda: load_teacher(recipe, names, device, unlearnt, student.strides, own_teacher)
        )
    terms = _own_terms(recipe, student, teacher, teaching, training).to(device)
    if teacher is not None and anew:
        check_teacher(recipe, teacher, student, validation)
    if teaching is None:
        teaching = _teaching_of(teacher, recipe, training, progress)
    optimizer = build_optimizer(nn.ModuleList([student, terms]), recipe.optimisation)
    halves = autocast_type(recipe.precision, device) is torch.float16
    scaler = torch.amp.GradScaler(device.type, enabled=halves)
    window, first, seconds = LossWindow(), 0, 0.0
    if state is not None:
        _tell_other_processes(state, recipe, student)
        restore(state, student, terms, optimizer, scaler)
        window.take(state.window, device)
        first, seconds = state.step, state.seconds
        if is_first():
            make_newest(state)
    if is_first():
        write_json(recipe.out / "recipe.json", to_plain(recipe))
    log = RunLog(recipe.out, first) if is_first() else NoLog()
    with (
        closing(log),
        ending(recipe.out) as told,
        closing(_batches(recipe, training, first)) as batches,
    ):
        parts = (student, terms, teaching, optimizer, scaler, validation)
        run = _Run(recipe, contents, *parts, log, window, told, progress, seconds)
        run.train(batches, first)
        seconds = run.seconds
        metrics = run.evaluate()
        log.write(recipe.steps, {"metrics": asdict(metrics)})
        if is_first():
            run.save_student(recipe.out / STUDENT, metrics, recipe.steps)
            summary = {"seed": recipe.seed, "steps": recipe.steps, "seconds": seconds}
            write_json(recipe.out / "results.json", {**asdict(metrics), **summary})
    return RunResult(student.eval(), metrics, seconds, recipe.out)


@torch.no_grad()
def _own_terms(
    recipe: Recipe,
    student: DenseDetector,
    teacher: Checkpoint | None,
    teaching: Teaching | None,
    training: CocoDataset,
) -> OwnTerms:
    """The recipe's own terms; what all terms need is checked on the first image.

    Raises:
        InputError: student or teacher lacks what a term needs.
    """
    needs = needs_of_terms(recipe, recipe.weights)
    answer = teaching if teacher is None else live_teaching(teacher.detector)
    if answer is None or not (recipe.terms or any(x for _, x in needs)):
        return OwnTerms(())
    device = next(student.parameters()).device
    batch = training.batch([0]).to(device)
    pair = student.eval()(batch.images), answer(batch)
    rules = assignment_rules(recipe, recipe.weights)
    supervision = supervision_of(student, recipe)
    assignment = supervision.assign(pair[0], batch.ground_truth, batch.padded_sizes, rules)
    check_needs(needs, *pair, assignment)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return OwnTerms(named_terms(recipe.terms), *compared(*pair, assignment)[:2])


def snapshot(out: Path, step: int) -> Path:
    """Where a run keeps its student as it was after `step` steps, at an evaluation on the way."""
    return out / "snapshots" / f"{step:06d}.safetensors"


def make_teaching(
    recipe: Recipe, training: CocoDataset, device: torch.device, progress: bool = True
) -> Teaching | None:
    """The recipe's teacher as a function of a batch; None without a teacher.

    Its answers are computed once where the data are small and of one size, images are at most
    flipped, and no term needs its features, which would not fit in memory.
    """
    names = training.annotations.class_names
    unlearnt = frozenset(names) - training.annotations.learnable_classes
    teacher = load_teacher(recipe, names, device, unlearnt)
    return _teaching_of(teacher, recipe, training, progress)


def _teaching_of(
    teacher: Checkpoint | None, recipe: Recipe, training: CocoDataset, progress: bool
) -> Teaching | None:
    if teacher is None:
        return None
    detector = teacher.detector.to(memory_format=torch.channels_last)
    features = any("features" in x for _, x in needs_of_terms(recipe, recipe.weights))
    if recipe.data.cache and training.one_size and not features and not training.augmentations:
        return TeacherTargets(detector, training, progress=progress)
    return live_teaching(detector)


@dataclass
class _Run:
    """A run under way: what its steps work on, and where they tell of it.

    Attributes:
        contents: see `contents_of`.
        terms: the recipe's own.
        window: what the next line of the log will say.
        told: whether the run shall end.
        seconds: how long it has trained.
    """

    recipe: Recipe
    contents: dict[str, str]
    student: DenseDetector
    terms: OwnTerms
    teaching: Teaching | None
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    validation: CocoDataset
    log: RunLog | NoLog
    window: LossWindow
    told: Ending
    progress: bool
    seconds: float

    def train(self, batches: Iterator[Batch], first: int) -> None:
        """Steps `first` to `recipe.steps`, with log, resume states and evaluations on their way.

        Raises:
            Interrupted: the run was told to end; its state is saved.
        """
        recipe = self.recipe
        if from_first(lambda: self._owes_evaluation(first)):
            self._evaluate_on_the_way(first)
        self.student.train()
        network = shared(self.student)
        own = shared(self.terms) if self.terms.learns else self.terms
        device = next(self.student.parameters()).device
        before, start = self.seconds, time.perf_counter()
        steps = {"total": recipe.steps, "initial": first, "desc": "train", "unit": "step"}
        with tqdm(**steps, disable=not self.progress) as bar, _own_randomness(device):
            for step in range(first, recipe.steps):
                batch = self._next(batches, step, first)
                ends = self._step(network, own, batch.to(device), step, bar)
                done = step + 1
                self.seconds = before + time.perf_counter() - start
                if ends or self._evaluates(done) or self._is_saved(done):
                    share_statistics(self.student)
                    self._save(done)
                if ends:
                    raise self.told.interrupted()
                if self._evaluates(done):
                    self._evaluate_on_the_way(done)
        self.seconds = before + time.perf_counter() - start

    def evaluate(self) -> Metrics:
        """The metrics of the student as it is; raises as `train` does."""
        share, workers = _own_share(self.recipe), self.recipe.data.workers
        check = self.student.register_forward_pre_hook(lambda *_: self.told.raise_if_told())
        with check, self.told.at_once(), loading(self.told):
            return evaluate(self.student, self.validation, share, workers, self.progress)[0]

    def save_student(self, path: Path, metrics: Metrics, steps: int) -> None:
        """Write the student as it is, with what it scored after so many steps."""
        record = {"AP": round(metrics.AP, 4), "seed": self.recipe.seed, "steps": steps}
        save_detector(path, self.student, self.recipe.data.size, finite_or_none(record))

    def _next(self, batches: Iterator[Batch], step: int, first: int) -> Batch:
        """The batch of a step; where a process that loads them is gone, the run ends in order."""
        try:
            with loading(self.told):
                return next(batches)
        except (InputError, Interrupted):
            if process_count() == 1 and step > first:
                self._save(step)
            raise

    def _step(
        self, network: nn.Module, own: nn.Module, batch: Batch, step: int, bar: tqdm[Any]
    ) -> bool:
        """Learn from a batch, and log it where it is time; whether the run shall end with it."""
        recipe = self.recipe
        autocast = autocast_type(recipe.precision, batch.images.device)
        weights = weights_at(recipe, step)
        _seed_step(recipe, step)
        terms = compute_terms(network, self.teaching, batch, recipe, weights, autocast, own)
        factors = term_weights(recipe, supervision_of(self.student, recipe), step)
        weighted = {name: factors[name] * x for name, x in terms.values.items()}
        total = torch.stack(list(weighted.values())).sum()
        _check_finite(total, terms, self.student, step, batch)
        ends = anywhere(self.told.told is not None, batch.images.device)
        logs = (step + 1) % recipe.log_every == 0 or step + 1 == recipe.steps
        gradients = _gradients(weighted, terms) if logs and recipe.log_gradients else {}
        rate = learning_rate(recipe.optimisation, step, recipe.steps, recipe.batch_size)
        set_learning_rate(self.optimizer, rate)
        clip_norm = recipe.optimisation.clip_norm
        _update(self.student, self.terms, self.optimizer, self.scaler, total, clip_norm)
        self.window.add(terms.values, weighted, len(batch.images))
        bar.update()
        if logs:
            record = self.window.close()
            self.log.write(step, {**record, **gradients, "learning_rate": rate})
            shown = {name: f"{value:.3f}" for name, value in record["weighted"].items()}
            bar.set_postfix({**shown, "images/s": f"{record['images_per_second']:.0f}"})
        return ends

    def _is_saved(self, done: int) -> bool:
        return done % self.recipe.checkpoint_every == 0 or done == self.recipe.steps

    def _save(self, done: int) -> None:
        """Write the state after so many steps; all processes take part."""
        _check_weights(self.student, self.terms, self.scaler, done - 1)
        window = self.window.held()
        if is_first():
            parts = (self.student, self.terms, self.optimizer, self.scaler)
            save_state(self.recipe, self.contents, *parts, done, self.seconds, window)

    def _evaluates(self, done: int) -> bool:
        every = self.recipe.evaluate_every
        return every is not None and done % every == 0 and done < self.recipe.steps

    def _owes_evaluation(self, done: int) -> bool:
        """Whether the evaluation after so many steps was cut; its line of the log comes last."""
        lines = read_log(self.recipe.out) if done and self._evaluates(done) else []
        return bool(lines) and not any("metrics" in x and x["step"] == done - 1 for x in lines)

    def _evaluate_on_the_way(self, done: int) -> None:
        began = time.perf_counter()
        metrics = self.evaluate()
        self.window.skip(time.perf_counter() - began)
        if is_first():
            self.save_student(snapshot(self.recipe.out, done), metrics, done)
        self.log.write(done - 1, {"metrics": asdict(metrics)})


def _own_share(recipe: Recipe) -> int:
    """Images of a step that are this process's."""
    if recipe.batch_size % process_count():
        raise InputError(
            f"batch_size is {recipe.batch_size}; expected a multiple of the {process_count()} "
            f"processes that share it"
        )
    return recipe.batch_size // process_count()


def _check_groups(
    recipe: Recipe, student: DenseDetector, own_images: int, training: CocoDataset
) -> None:
    """A BatchNorm that learns takes its statistics over a group.

    No two processes can share one, and one image that is a single cell has none.
    """
    if not _learns_batch_norm(student):
        return
    size = recipe.images_per_group
    if size and own_images % size:
        raise InputError(
            f"images_per_group is {size} where a process has {own_images} images of a step; "
            f"expected a divisor, since BatchNorm learns (--model.norm-eval fixes it)"
        )
    if (size or own_images) > 1:
        return
    canvases = enumerate(map(training.canvas, range(len(training))))
    small = [training.images[n].file_name for n, sides in canvases if max(sides) <= COARSEST]
    if small:
        what = (
            f"images that are {COARSEST} pixels or less at this --data.size ({{}}) have one value "
            f"a channel, too few for a BatchNorm that learns on one image at a time (expected "
            f"larger images, more of them, or --model.norm-eval)"
        )
        raise InputError(f"{training.annotations.path}: {some(what, small)}")


def _learns_batch_norm(student: DenseDetector) -> bool:
    norms = [module for module in student.train().modules() if isinstance(module, _BatchNorm)]
    return any(norm.training for norm in norms)


def _tell_other_processes(state: ResumeState, recipe: Recipe, student: DenseDetector) -> None:
    """Tell what makes the rest of a run another one with another number of processes."""
    if state.processes in (None, process_count()):
        return
    reasons = []
    if _learns_batch_norm(student) and not recipe.images_per_group:
        reasons.append("BatchNorm takes its statistics over the images of a process")
    if any(isinstance(module, StochasticDepth) for module in student.modules()):
        reasons.append("stochastic depth is random in each process")
    if reasons:
        tell(
            f"{state.path} is of {state.processes} processes, the run goes on with "
            f"{process_count()}, and ends with other weights: {', and '.join(reasons)}"
        )


def _own_randomness(device: torch.device) -> AbstractContextManager[None]:
    """Leaves the random states outside as they were: the CPU's, and the device's own."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


def _seed_step(recipe: Recipe, step: int) -> None:
    """Swin's stochastic depth is random within a step; each process has other images.

    Mixed into the 32 bits that a generator on the CPU looks at.
    """
    mixed = np.random.SeedSequence((recipe.seed, step, process_index()))
    torch.manual_seed(int(mixed.generate_state(1)[0]))


def _gradients(weighted: dict[str, Tensor], terms: Terms) -> dict[str, Any]:
    """What the log says of the gradient on the class logits."""
    logits, assignment = terms.output.cls_logits, terms.assignment
    shares = gradient_shares(weighted, logits, assignment.positive, assignment.valid)
    return {"gradients": shares}


def _update(
    student: nn.Module,
    terms: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    total: Tensor,
    clip_norm: float | None,
) -> None:
    """A step of the optimiser; in fp16 by a scaled loss, and left out where gradients overflow."""
    optimizer.zero_grad()
    scaler.scale(total).backward()
    if clip_norm is not None:
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_([*student.parameters(), *terms.parameters()], clip_norm)
    scaler.step(optimizer)
    scaler.update()


def _batches(recipe: Recipe, dataset: CocoDataset, first: int) -> Generator[Batch, None, None]:
    """The batches of the steps from `first` on; closing it ends the processes that load them."""
    steps, share = (first, recipe.steps), (process_index(), process_count())
    order = TrainingBatches(
        dataset.images,
        recipe.batch_size,
        recipe.seed,
        *steps,
        share=share,
        images_per_group=recipe.images_per_group,
        size=dataset.size,
    )
    loader = DataLoader(
        dataset,
        batch_sampler=order,
        num_workers=recipe.data.workers,
        collate_fn=partial(collate, size=dataset.size),
        worker_init_fn=start_process,
    )
    batches = _each(iter(loader))
    report_in_iterator()
    return batches


def _each(batches: Iterator[Batch]) -> Generator[Batch, None, None]:
    yield from batches


def _check_finite(
    total: Tensor, terms: Terms, student: DenseDetector, step: int, batch: Batch
) -> None:
    if torch.isfinite(total):
        return
    named = [name for name, term in terms.values.items() if not torch.isfinite(term)]
    said = terms.output.per_location()
    broken = ", ".join(name for name, x in said.items() if not torch.isfinite(x).all())
    who = type(student.network if isinstance(student, Adopted) else student).__name__
    of_student = f" (nor is what the student, a {who}, gives as {broken})" if broken else ""
    raise NonFiniteLossError(
        f"loss term {' and '.join(named) or 'sum'} is not finite at step {step}{of_student}, "
        f"images {', '.join(batch.file_names)}; a smaller learning rate may help"
    )


def _check_weights(
    student: nn.Module, terms: nn.Module, scaler: torch.amp.GradScaler, step: int
) -> None:
    """A finite loss can have an infinite gradient: never save what can't be resumed."""
    if scaler.get_scale() < 1:
        raise NonFiniteLossError(
            f"gradients overflow fp16 at every step up to {step}, however small the loss is made; "
            f"--precision float32 or a smaller learning rate may help"
        )
    for name, value in [*student.state_dict().items(), *terms.state_dict().items()]:
        if not torch.isfinite(value).all():
            raise NonFiniteLossError(
                f"weights {name} are not finite after step {step}; a smaller learning rate may help"
            )
