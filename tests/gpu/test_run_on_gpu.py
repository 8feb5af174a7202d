"""Runs on the GPU: resumed to the last bit, in every precision, alone under torchrun, in memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bckd.evaluation.average_precision import evaluate
from bckd.recipes import Recipe
from bckd.training.data import validation_data
from bckd.training.run_log import read_log
from bckd.training.trainer import train
from bckd.zoo.checkpoints import load_detector
from bckd.zoo.unfinished import STUDENT
from tests.gpu.test_step_on_gpu import detector_of, recipe_of, step

ROOT = Path(__file__).parents[2]
TEACHER = ROOT / "data" / "weights" / "scenes_teacher.safetensors"


def gpu(recipe: Recipe, out: Path, **changes: object) -> Recipe:
    data = replace(recipe.data, workers=2)
    return replace(recipe, device="cuda", out=out, data=data, **changes)


@pytest.mark.parametrize("precision", ["float32", "bf16", "fp16"])
def test_a_resumed_run_ends_with_the_same_weights(
    tiny_recipe: Recipe,
    tmp_path: Path,
    stop_at_first_state: Callable[[Callable[[], object]], None],
    precision: str,
) -> None:
    settings = {"precision": precision, "checkpoint_every": 3, "teacher": str(TEACHER)}
    settings |= {"shares": ("binary=0.3",)}
    whole = gpu(tiny_recipe, tmp_path / "whole", **settings)
    cut = gpu(tiny_recipe, tmp_path / "cut", **settings)
    train(whole, progress=False)
    stop_at_first_state(lambda: train(cut, progress=False))
    train(cut, resume=True, progress=False)
    one, other = (load_file(x.out / STUDENT) for x in (whole, cut))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert "data_wait" in read_log(whole.out)[-2]


def test_one_process_by_nccl(scenes_root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1"]
    command += ["-m", "bckd", "train", "scenes", "--data.root", str(scenes_root), "--steps", "4"]
    command += ["--device", "cuda", "--teacher", str(TEACHER), "--teacher-check", "0"]
    command += ["--batch-size", "4", "--out", str(tmp_path / "run")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    # torchrun's own words come last, and say nothing of the reason.
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[:8000]
    assert (tmp_path / "run" / STUDENT).exists()


def test_evaluation_is_that_of_the_cpu(tiny_recipe: Recipe) -> None:
    dataset = validation_data(tiny_recipe.data)
    found = [
        evaluate(load_detector(TEACHER).detector.to(device), dataset, 4, progress=False)[0].AP
        for device in ("cpu", "cuda")
    ]
    assert found[0] > 0.05
    assert found[1] == pytest.approx(found[0], abs=1e-3)


def test_memory_is_that_of_a_step() -> None:
    """A step leaves nothing behind but gradients and the optimiser's state."""
    recipe = recipe_of("gfl")
    detector = detector_of(recipe, 0)
    of_weights = sum(x.numel() * x.element_size() for x in detector.parameters())
    step(recipe, "cuda")
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    step(recipe, "cuda")
    torch.cuda.synchronize()
    assert torch.cuda.memory_allocated() - before < of_weights
