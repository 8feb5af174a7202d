"""The comparison of methods on the scenes: many small runs, one line each, one table.

Every run has the same budget, and the data, initial weights and order of images of
its seed. The weight of softmax distillation is chosen by a sweep on seeds of its own;
L_cls and L_loc keep the published weights. Stopped and started again, a study goes on
where it was.
"""

from __future__ import annotations

import json
import platform
import statistics
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import torchvision
from tqdm.auto import tqdm

from bckd.agreement import agreement
from bckd.checkpoints import load_detector
from bckd.datasets.scenes import write_scenes
from bckd.errors import InputError
from bckd.evaluation import evaluation_loader
from bckd.files import finite_or_none, write_text
from bckd.preparation import training_data, validation_data
from bckd.recipes import PRESETS, SCENES_TEACHER, LossWeights, Recipe, comparison
from bckd.run_log import read_lines
from bckd.teaching import Teaching
from bckd.trainer import make_teaching, train

SWEEP = (0.25, 0.75, 2.25, 6.75, 20.0)  # weights of softmax distillation; 10 K / 80 = 0.75
SWEEP_SEEDS = (100, 101)


@dataclass(frozen=True)
class StudyOptions:
    """Compare no distillation, softmax KD, L_cls, L_loc, BCKD and softmax KD + L_loc."""

    results: Path = Path("notebooks/results/scenes_study.jsonl")
    """one line a run; runs that are there are not repeated"""
    teacher: Path = SCENES_TEACHER
    """weights of the teacher"""
    root: Path = Path("data/scenes")
    """folder of the scenes; written if absent"""
    steps: int = 800
    """training steps of every run"""
    seeds: int = 5
    """seeds of the comparison: 0, 1, ..."""
    processes: int = 2
    """runs side by side, one thread each"""
    out: Path = Path("runs/study")
    """folder of the runs"""


@dataclass(frozen=True)
class Run:
    """One cell of the study."""

    part: str  # "sweep" or "comparison"
    method: str
    seed: int
    weights: LossWeights

    @property
    def key(self) -> tuple[str, str, int, float]:
        """What tells two cells of one number of steps apart."""
        return self.part, self.method, self.seed, self.weights.softmax


def run_study(options: StudyOptions) -> None:
    """Sweep, compare, print the table.

    Raises:
        InputError: an option is out of range, or a folder or file is something else.
    """
    for name in ("steps", "seeds", "processes"):
        if getattr(options, name) < 1:
            raise InputError(f"--{name} is {getattr(options, name)}; expected 1 or more")
    write_scenes(options.root)
    load_detector(options.teacher)  # a wrong path is better told before the first run
    sweep = [
        Run("sweep", "softmax", seed, comparison(weight)["softmax"])
        for weight in SWEEP
        for seed in SWEEP_SEEDS
    ]
    _run_all(sweep, options)
    best = best_weight(read_lines(options.results))
    runs = [
        Run("comparison", method, seed, weights)
        for seed in range(options.seeds)
        for method, weights in comparison(best).items()
    ]
    _run_all(runs, options)
    print(table(read_lines(options.results)))


def best_weight(lines: list[dict[str, Any]]) -> float:
    """The softmax weight of the highest mean AP in the sweep."""
    means = {
        weight: statistics.mean(
            line["AP"]
            for line in lines
            if line["part"] == "sweep" and line["weights"]["softmax"] == weight
        )
        for weight in SWEEP
    }
    return max(means, key=means.__getitem__)


def table(lines: list[dict[str, Any]]) -> str:
    """The study as Markdown: the sweep, then one row a method."""
    rows = ["| softmax weight | AP, mean of the sweep's seeds | each |", "|---|---|---|"]
    for weight in SWEEP:
        found = [
            100 * line["AP"]
            for line in lines
            if line["part"] == "sweep" and line["weights"]["softmax"] == weight
        ]
        each = ", ".join(f"{ap:.1f}" for ap in found)
        rows.append(f"| {weight:g} | {statistics.mean(found):.1f} | {each} |")
    rows += [
        "",
        "| method | AP, mean +- standard error | every seed | score error | logit shift |",
        "|---|---|---|---|---|",
    ]
    for method in comparison(0):
        found = [
            line for line in lines if line["part"] == "comparison" and line["method"] == method
        ]
        found.sort(key=lambda line: line["seed"])
        values = [100 * line["AP"] for line in found]
        spread = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
        each = ", ".join(f"{value:.1f}" for value in values)
        error = statistics.mean(line["score_error"] for line in found)
        shift = statistics.mean(line["logit_shift"] for line in found)
        rows.append(
            f"| {method} | {statistics.mean(values):.1f} +- {spread:.1f} | {each} "
            f"| {error:.4f} | {shift:+.2f} |"
        )
    return "\n".join(rows)


def _run_all(runs: list[Run], options: StudyOptions) -> None:
    """Run what the results file does not hold yet; append each line as it comes."""
    lines = read_lines(options.results)
    write_text(options.results, "".join(json.dumps(line) + "\n" for line in lines))
    other = next((line["steps"] for line in lines if line["steps"] != options.steps), None)
    if other is not None:
        raise InputError(
            f"{options.results} holds runs of {other} steps, not {options.steps}; "
            f"name another file with --results"
        )
    done = {(x["part"], x["method"], x["seed"], x["weights"]["softmax"]) for x in lines}
    todo = [run for run in runs if run.key not in done]
    pool = ProcessPoolExecutor(
        options.processes,
        mp_context=get_context("spawn"),
        initializer=torch.set_num_threads,
        initargs=(1,),
    )
    with pool, tqdm(total=len(runs), initial=len(runs) - len(todo), desc="study") as bar:
        futures = [pool.submit(run_one, run, options) for run in todo]
        for future in as_completed(futures):
            line = future.result()
            with options.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(finite_or_none(line)) + "\n")
            bar.update()
            bar.set_postfix_str(f"{line['method']} seed {line['seed']}: AP {100 * line['AP']:.1f}")


def run_one(run: Run, options: StudyOptions) -> dict[str, Any]:
    """Train, evaluate and compare with the teacher: one line of the results."""
    recipe = study_recipe(run, options)
    resume = recipe.out.exists()
    teaching = _teaching(options) if recipe.teacher else None
    result = train(recipe, resume=resume, progress=False, teaching=teaching)
    teacher = load_detector(options.teacher).detector
    loader = evaluation_loader(validation_data(recipe.data), 32)
    return {
        "part": run.part,
        "method": run.method,
        "seed": run.seed,
        "weights": asdict(run.weights),
        "steps": options.steps,
        **asdict(result.metrics),
        **asdict(agreement(result.detector, teacher, loader)),
        "seconds": round(result.seconds, 1),
        "machine": f"{platform.machine()}, 1 thread",
        "versions": {"torch": torch.__version__, "torchvision": torchvision.__version__},
        "date": time.strftime("%Y-%m-%d"),
    }


def study_recipe(run: Run, options: StudyOptions) -> Recipe:
    """The recipe of one run: the preset `scenes`, its weights and seed set."""
    default = PRESETS["scenes"][1]
    name = f"{run.part}-{run.method.replace(' ', '')}-{run.weights.softmax:g}-seed{run.seed}"
    distils = any(getattr(run.weights, name) for name in ("binary", "iou", "softmax"))
    return replace(
        default,
        data=replace(default.data, root=options.root),
        weights=run.weights,
        teacher=options.teacher if distils else None,
        seed=run.seed,
        steps=options.steps,
        out=options.out / name,
        device="cpu",  # several runs share the machine, and the teacher's answers their place
    )


@lru_cache(maxsize=1)
def _teaching(options: StudyOptions) -> Teaching | None:
    """The teacher's answers, once a process."""
    default = PRESETS["scenes"][1]
    recipe = replace(
        default, data=replace(default.data, root=options.root), teacher=options.teacher
    )
    return make_teaching(recipe, training_data(recipe.data, 0), torch.device("cpu"), progress=False)
