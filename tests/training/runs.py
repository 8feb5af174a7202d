"""Tiny training runs, and what they leave behind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bckd.datasets.coco import collate
from bckd.datasets.scene_drawing import class_names
from bckd.losses.terms import TERMS
from bckd.models.heads import HEADS
from bckd.recipes import LossWeights, Optimisation, Recipe
from bckd.structures import Batch
from bckd.system.errors import InputError
from bckd.training.data import training_data
from bckd.training.run_log import read_log
from bckd.training.trainer import RunResult, train
from bckd.zoo.unfinished import STUDENT

NAMES = class_names("standard")
SUPERVISED = {"qfl", "dfl", "giou"}
ALL_WEIGHTS = LossWeights(softmax=0.75, ld=0.5, ld_region=0.25)
# Terms that these weights compute of a GFL student: its own, and what is distilled.
ALL_TERMS = {*HEADS["gfl"].terms, *(name for name in TERMS if getattr(ALL_WEIGHTS, name))}
PLAIN_SGD = Optimisation(
    optimizer="sgd", learning_rate=0.4, momentum=0, weight_decay=0, warmup_steps=0
)
PLAIN_RATE = 0.4 * 4 / 16  # at a batch of 4


def run(recipe: Recipe) -> RunResult:
    return train(recipe, progress=False)


def weights_of(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / STUDENT)


def same_weights(one: Path, other: Path) -> bool:
    a, b = weights_of(one), weights_of(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def step_lines(out: Path) -> list[dict]:
    return [line for line in read_log(out) if "unweighted" in line]


def first_batch(recipe: Recipe) -> tuple[Batch, tuple[str, ...]]:
    training = training_data(recipe.data, recipe.seed)
    keys = [(0, False), (1, True), (2, True)]
    batch = collate([training.sample(*key) for key in keys], training.size)
    return batch, training.annotations.class_names


def refusal(recipe: Recipe) -> str:
    """The sentence that refuses the recipe before its folder is made."""
    with pytest.raises(InputError) as caught:
        run(recipe)
    assert not recipe.out.exists()
    return str(caught.value)
