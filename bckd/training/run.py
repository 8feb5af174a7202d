"""A run under way: its steps, and what they leave behind.

A step reads from top to bottom in `Run.step`: forward passes and terms, their weighted sum, and
what the optimiser makes of its gradient.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from bckd.datasets.coco import CocoDataset
from bckd.evaluation.average_precision import Metrics, evaluate
from bckd.evaluation.gradient_shares import (
    flat_gradients,
    gradient_shares,
    parts_of_gradient,
    pull_of_terms,
    pulled_parameters,
    shares_of_pull,
)
from bckd.models.dense import DenseDetector
from bckd.recipes import Recipe
from bckd.reports.page import duration
from bckd.structures import Batch
from bckd.system.distributed import (
    Anywhere,
    from_first,
    process_count,
    process_index,
    share_statistics,
    shared,
)
from bckd.system.errors import InputError, Interrupted
from bckd.system.files import finite_or_none
from bckd.system.interruption import Ending, loading
from bckd.system.launcher import is_first
from bckd.system.memory import most_memory
from bckd.system.precision import autocast_type
from bckd.system.telling import tell
from bckd.teachers.targets import Teaching
from bckd.training.accumulating import InParts
from bckd.training.averaging import AveragedStudent
from bckd.training.best import BEST, is_best, out_of_patience
from bckd.training.checks import FiniteCheck, check_weighted, check_weights, own_share
from bckd.training.compiling import compiled
from bckd.training.first_step import FirstStep
from bckd.training.live_report import LiveReport
from bckd.training.loss_window import LossWindow
from bckd.training.origin import at_step
from bckd.training.own_terms import OwnTerms
from bckd.training.resume_state import save_state
from bckd.training.run_log import NoLog, RunLog, read_log
from bckd.training.schedule import learning_rate, set_learning_rate
from bckd.training.steering import Steering
from bckd.training.terms import Terms, compute_terms, supervision_of, term_weights, weights_at
from bckd.training.unreadable import Unreadable
from bckd.zoo.checkpoints import save_detector
from bckd.zoo.made import Made


@dataclass
class Run:
    """A run under way: what its steps work on, and where they tell of it.

    Attributes:
        contents: see `contents_of`.
        terms: the recipe's own.
        validation: None where nothing is evaluated.
        window: what the next line of the log will say.
        told: whether the run shall end.
        seconds: how long it has trained.
        averaged: the average over the student's weights, where the recipe asks for one.
        report: the page of the run; None where another process writes it, or nobody.
        origin: how the student is being made, for its file; None: nothing is said of it.
        steering: of weights that are no constants; None: all are.
        reserved: bytes of shared memory that batches of the training take.
    """

    recipe: Recipe
    contents: dict[str, str]
    student: DenseDetector
    terms: OwnTerms
    teaching: Teaching | None
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    validation: CocoDataset | None
    log: RunLog | NoLog
    window: LossWindow
    told: Ending
    progress: bool
    seconds: float
    averaged: AveragedStudent | None = None
    report: LiveReport | None = None
    origin: Made | None = None
    steering: Steering | None = None
    reserved: int = 0
    told_anywhere: Anywhere = field(default_factory=Anywhere)

    def __post_init__(self) -> None:
        self.unreadable = Unreadable(self.recipe.data.unreadable)
        self.evaluation_seconds = 0.0  # that the last evaluation took
        self.evaluated: tuple[int, Metrics] | None = None  # the last one on the way, by its steps
        self.finite = FiniteCheck(self.student)
        self.first_step = FirstStep()

    def train(self, batches: Iterator[Batch], first: int) -> int:
        """Steps `first` to `recipe.steps`, with log, resume states and evaluations on their way.

        Returns:
            The steps that the student has taken: all, unless patience ended before.

        Raises:
            Interrupted: the run was told to end; its state is saved.
        """
        recipe = self.recipe
        if from_first(lambda: self._owes_evaluation(first)):
            self._evaluate_on_the_way(first)
        self.student.train()
        network, own = self.networks()
        device = next(self.student.parameters()).device
        before, start = self.seconds, time.perf_counter()
        steps = {"total": recipe.steps, "initial": first, "desc": "train", "unit": "step"}
        with tqdm(**steps, disable=not self.progress) as bar, _own_randomness(device):
            for step in range(first, recipe.steps):
                if self._loses_patience(step):
                    return step
                batch = self._next(batches, step, first)
                ends = self.step(network, own, batch.to(device), step, bar)
                done = step + 1
                self.seconds = before + time.perf_counter() - start
                if ends or self._evaluates(done) or self._is_saved(done):
                    share_statistics(nn.ModuleList([self.student, self.judged]))
                    self._save(done)
                if ends:
                    raise self.told.interrupted()
                if self._evaluates(done):
                    self._evaluate_on_the_way(done)
        return recipe.steps

    def networks(self) -> tuple[nn.Module, nn.Module]:
        """The student and the recipe's own terms as a step calls them: shared, and compiled."""
        network = compiled(shared(self.student), self.recipe)
        return network, shared(self.terms) if self.terms.learns else self.terms

    @property
    def judged(self) -> DenseDetector:
        """What is evaluated and saved as the student: its average, where there is one."""
        return self.student if self.averaged is None else self.averaged.detector

    def evaluate(self) -> Metrics:
        """The metrics of the student as it is; raises as `train` does."""
        assert self.validation is not None
        began = time.perf_counter()
        settings, workers = self.recipe.evaluation, self.recipe.data.workers
        size = settings.batch_size or own_share(self.recipe)
        check = self.judged.register_forward_pre_hook(lambda *_: self.told.raise_if_told())
        with check, self.told.at_once(), loading(self.told):
            metrics, _ = evaluate(
                self.judged,
                self.validation,
                size,
                workers,
                self.progress,
                precision=settings.precision,
                scorer=settings.scorer,
                reserved=self.reserved,
            )
        self.evaluation_seconds = time.perf_counter() - began
        return metrics

    def evaluate_last(self, steps: int) -> Metrics:
        """Of the student at the run's end: where patience ended it they are known."""
        if self.evaluated is not None and self.evaluated[0] == steps:
            return self.evaluated[1]
        return self.evaluate()

    def save_student(self, path: Path, metrics: Metrics, steps: int) -> None:
        """Write the student as it is, with what it scored after so many steps, and its making."""
        record = {"AP": round(metrics.AP, 4), "seed": self.recipe.seed, "steps": steps}
        parts = (self.judged, self.recipe.data.size, finite_or_none(record))
        save_detector(path, *parts, self.made(metrics, steps))

    def made(self, metrics: Metrics, steps: int) -> Made | None:
        """How the student was made, so far."""
        if self.origin is None:
            return None
        return at_step(self.origin, self.recipe.out, steps, metrics)

    def keep_if_best(self, metrics: Metrics, steps: int) -> None:
        """Write the student as the best one, where the log has no higher AP."""
        if self.recipe.evaluate_every is not None and is_best(self.recipe.out, metrics):
            self.save_student(self.recipe.out / BEST, metrics, steps)

    def _next(self, batches: Iterator[Batch], step: int, first: int) -> Batch:
        """The batch of a step; where there is none to be had, the run ends in order."""
        began = time.perf_counter()
        try:
            with loading(self.told):
                batch = next(batches)
            if step == first:  # until then processes that load images came to life
                self.window.from_now()
            else:
                self.window.wait(time.perf_counter() - began)
            if new := self.unreadable.add(batch):
                self.log.write(step, {"unreadable": new})
            return batch
        except (InputError, Interrupted):
            if process_count() == 1 and step > first:
                self._save(step)
            raise

    def step(
        self, network: nn.Module, own: nn.Module, batch: Batch, step: int, bar: tqdm[Any]
    ) -> bool:
        """Learn from a batch, and log it where it is time; whether the run shall end with it."""
        recipe = self.recipe
        autocast = autocast_type(recipe.precision, batch.pixels.device, self.student)
        weights = weights_at(recipe, step)
        _seed_step(recipe, step)
        seed = partial(_seed_step, recipe, step)
        said = InParts(network, batch, recipe, autocast, seed) if recipe.accumulate > 1 else None
        output = None if said is None else said.output
        terms = compute_terms(network, self.teaching, batch, recipe, weights, autocast, own, output)
        supervision = supervision_of(self.student, recipe)
        factors: dict[str, Any] = {**term_weights(recipe, supervision, step)}
        if self.steering is not None:
            factors = self.steering.weights(factors)
        check_weighted(terms.values, factors)
        weighted = {name: factors[name] * x for name, x in terms.values.items()}
        total = torch.stack(list(weighted.values())).sum()
        self.finite.add(total, terms, step, batch)
        self.first_step.add(weighted, supervision.terms, step)
        ends = self.told_anywhere.after_a_step(self.told.told is not None, total.device)
        logs = (step + 1) % recipe.log_every == 0 or step + 1 == recipe.steps
        measured = self._measure(weighted, terms, said, step, logs)
        rate = learning_rate(recipe.optimisation, step, recipe.steps, recipe.batch_size)
        set_learning_rate(self.optimizer, rate)
        self._update(total, said)
        self.window.add(terms.values, weighted, len(batch.pixels))
        bar.update()
        if logs:
            steered = {} if self.steering is None else {"steering": self.steering.told(factors)}
            self._log_window(step, {**measured, **steered, "learning_rate": rate}, bar)
        return ends

    def _measure(
        self,
        weighted: dict[str, Tensor],
        terms: Terms,
        said: InParts | None,
        step: int,
        logs: bool,
    ) -> dict[str, Any]:
        """What the log says of gradients, where it does; weights are steered by them."""
        told = logs and self.recipe.log_gradients
        steers = self.steering is not None and self.steering.measures(step)
        if not (told or steers):
            return {}
        # Of a loss scaled for fp16, or small gradients would be 0; shares are the same.
        scaled = {name: self.scaler.scale(x) for name, x in weighted.items()}
        found = flat_gradients if said is None else said.gradients
        pull = pull_of_terms(scaled, pulled_parameters(self.student), found)
        if self.steering is not None and steers:
            self.steering.update(pull)
        return {**_gradients(weighted, terms), "pull": shares_of_pull(pull)} if told else {}

    def _update(self, total: Tensor, said: InParts | None) -> None:
        """A step of the optimiser; in fp16 by a scaled loss, left out where gradients overflow."""
        self.optimizer.zero_grad()
        self.scaler.scale(total).backward()
        if said is not None:
            said.backward()
        clip_norm = self.recipe.optimisation.clip_norm
        if clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            learning = [*self.student.parameters(), *self.terms.parameters()]
            torch.nn.utils.clip_grad_norm_(learning, clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.averaged is not None:
            self.averaged.update()

    def _log_window(self, step: int, told: dict[str, Any], bar: tqdm[Any]) -> None:
        """A line of the log, of the steps since the last one, and the end of the bar."""
        record = self.window.close()
        left = self._seconds_left(step + 1, record["images_per_second"])
        memory = most_memory(next(self.student.parameters()).device)
        self.log.write(step, {**record, **told, "seconds_left": left, "memory": memory})
        self._log_unreadable_elsewhere(step)
        parts = parts_of_gradient(told.get("gradients", {}))
        shown = {
            name: f"{value:.3f}" + (f" ({parts[name]:.0%})" if name in parts else "")
            for name, value in record["weighted"].items()
        }
        shown |= {"images/s": f"{record['images_per_second']:.0f}"}
        shown |= {"wait": f"{record['data_wait']:.0%}"}
        shown |= {} if memory is None else {"GB": f"{memory / 1e9:.1f}"}
        shown |= {"left": duration(left)}
        bar.set_postfix(shown)
        if self.report is not None:
            began = time.perf_counter()
            self.report.line(step + 1)
            self.window.skip(time.perf_counter() - began)

    def _log_unreadable_elsewhere(self, step: int) -> None:
        """A line of the images that other processes could not read, if any; all take part."""
        if found := self.unreadable.of_other_processes():
            self.log.write(step, {"unreadable": found})

    def _seconds_left(self, done: int, images_per_second: float) -> float:
        """Of steps as fast as the last ones, and of evaluations as long as the last one."""
        recipe, evaluations = self.recipe, 1
        if (every := recipe.evaluate_every) is not None:
            evaluations += (recipe.steps - 1) // every - (done - 1) // every
        steps = (recipe.steps - done) * recipe.batch_size / images_per_second
        return steps + evaluations * self.evaluation_seconds

    def _is_saved(self, done: int) -> bool:
        return done % self.recipe.checkpoint_every == 0 or done == self.recipe.steps

    def _save(self, done: int) -> None:
        """Write the state after so many steps; all processes take part."""
        self.finite.settle()
        self.first_step.settle()
        check_weights(self.student, self.terms, self.scaler, done - 1)
        self._log_unreadable_elsewhere(done - 1)
        window = self.window.held()
        if is_first():
            parts = (self.student, self.terms, self.optimizer, self.scaler)
            average = None if self.averaged is None else self.averaged.detector
            whole = (*parts, done, self.seconds, window, average, self.steering)
            save_state(self.recipe, self.contents, *whole)

    def _evaluates(self, done: int) -> bool:
        every = self.recipe.evaluate_every
        return every is not None and done % every == 0 and done < self.recipe.steps

    def _loses_patience(self, done: int) -> bool:
        out, patience = self.recipe.out, self.recipe.patience
        if patience is None or not self._evaluates(done):
            return False
        ends = from_first(lambda: out_of_patience(out, patience))
        if ends:
            tell(f"{out} ends after {done} steps: {patience} evaluations have no higher AP")
        return ends

    def _owes_evaluation(self, done: int) -> bool:
        """Whether the evaluation after so many steps was cut; its line of the log comes last."""
        if not done or not self._evaluates(done):
            return False
        lines = read_log(self.recipe.out)
        return not any("metrics" in x and x["step"] == done - 1 for x in lines)

    def _evaluate_on_the_way(self, done: int) -> None:
        began = time.perf_counter()
        metrics = self.evaluate()
        if is_first():
            self.save_student(snapshot(self.recipe.out, done), metrics, done)
            self.keep_if_best(metrics, done)
        self.log.write(done - 1, {"metrics": asdict(metrics)})
        self.evaluated = (done, metrics)
        if self.progress:
            ap = f"AP {100 * metrics.AP:.1f}, AP50 {100 * metrics.AP50:.1f}"
            tqdm.write(f"after {done} of {self.recipe.steps} steps: {ap}")
        if self.report is not None:
            self.report.evaluated(done)
        self.window.skip(time.perf_counter() - began)


def snapshot(out: Path, step: int) -> Path:
    """Where a run keeps its student as it was after `step` steps, at an evaluation on the way."""
    return out / "snapshots" / f"{step:06d}.safetensors"


def _own_randomness(device: torch.device) -> AbstractContextManager[None]:
    """Leaves the random states outside as they were: the CPU's, and the device's own."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


def _seed_step(recipe: Recipe, step: int, *part: int) -> None:
    """Swin's stochastic depth is random within a step; each process, and part, has other images.

    Mixed into the 32 bits that a generator on the CPU looks at.
    """
    mixed = np.random.SeedSequence((recipe.seed, step, process_index(), *part))
    torch.manual_seed(int(mixed.generate_state(1)[0]))


def _gradients(weighted: dict[str, Tensor], terms: Terms) -> dict[str, Any]:
    """What the log says of the gradient on the class logits."""
    logits, assignment = terms.output.cls_logits, terms.assignment
    shares = gradient_shares(weighted, logits, assignment.positive, assignment.valid)
    return {"gradients": shares}
