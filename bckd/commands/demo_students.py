"""The demo itself: one teacher, three students of the same budget and seed, one report."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import torch

from bckd.commands.demo_report import report
from bckd.commands.options import DemoOptions
from bckd.datasets.scenes import write_scenes
from bckd.evaluation.agreement import agreement
from bckd.evaluation.average_precision import evaluate, evaluation_loader
from bckd.models.dense import DenseDetector
from bckd.recipes import Recipe
from bckd.recipes.loss_weights import LossWeights
from bckd.recipes.presets import PRESETS
from bckd.studies.methods import methods
from bckd.studies.study import weights_of
from bckd.system.device import pick_device
from bckd.system.files import one_writer, write_json, write_text
from bckd.system.telling import each_once
from bckd.system.values import checked
from bckd.training.data import training_data, validation_data
from bckd.training.recipe_check import check_recipe
from bckd.training.teacher import load_teacher, make_teaching
from bckd.training.trainer import train
from bckd.zoo.checkpoints import load_detector

METHODS = ("none", "softmax", "BCKD")


def run_demo(options: DemoOptions) -> dict[str, Any]:
    """Train, evaluate, write `results.json` and `report.html`; returns the results.

    Raises:
        InputError: the scenes' folder or the teacher is something else, an option is out of
            range, or another process writes to the folder.
    """
    options = checked(options)
    published = methods(6)
    recipes = {name: _recipe(options, name, weights_of(published[name])) for name in METHODS}
    for recipe in recipes.values():  # bad values and a wrong path are better told before
        check_recipe(recipe)  # a minute of drawing
    device = pick_device(options.device)
    load_detector(options.teacher)
    with one_writer(options.out), each_once():
        return _run_demo(options, recipes, device)


def _run_demo(
    options: DemoOptions, recipes: dict[str, Recipe], device: torch.device
) -> dict[str, Any]:
    write_scenes(options.root)
    first = recipes["BCKD"]
    validation = validation_data(first.data)
    checkpoint = load_teacher(first, validation.annotations.class_names, device)
    assert checkpoint is not None  # the recipe names one
    teacher = checkpoint.detector
    print("evaluating the teacher")
    teacher_metrics, _ = evaluate(teacher, validation)
    teaching = make_teaching(first, training_data(first.data, options.seed), device)
    detectors: dict[str, DenseDetector] = {"teacher": teacher}
    runs = []
    for name, recipe in recipes.items():
        print(f"training a student: {name}")
        result = train(recipe, resume=True, teaching=teaching if recipe.teacher else None)
        detectors[name] = result.detector
        loader = evaluation_loader(validation, 32)
        runs.append(
            {
                "method": name,
                "seed": options.seed,
                **asdict(result.metrics),
                **asdict(agreement(result.detector, teacher, loader)),
                "seconds": round(result.seconds, 1),
                "steps": options.steps,
                "weights": asdict(recipe.weights),
            }
        )
        print(f"  AP {100 * result.metrics.AP:.1f} after {result.seconds:.0f} s of training")
    results = {"teacher": asdict(teacher_metrics), "runs": runs}
    write_json(options.out / "results.json", results)
    page = report(results, detectors, {n: r.out for n, r in recipes.items()}, validation)
    write_text(options.out / "report.html", page)
    print(
        f"\nopen {options.out / 'report.html'}; the numbers are in {options.out / 'results.json'}"
    )
    return results


def _recipe(options: DemoOptions, name: str, weights: LossWeights) -> Recipe:
    default = PRESETS["scenes"][1]
    return replace(
        default,
        data=replace(default.data, root=options.root),
        weights=weights,
        teacher=None if name == "none" else options.teacher,
        out=options.out / name,
        steps=options.steps,
        seed=options.seed,
        device=options.device,
    )
