"""A run of a study on the GPU: taught and measured there, the teacher asked or its answers kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bckd.image_size import ImageSize
from bckd.models.detector import Detector
from bckd.recipes.presets import PRESETS
from bckd.studies.cells import run_cell
from bckd.studies.methods import methods
from bckd.studies.study import Cell, Study
from bckd.studies.swapping import measure_swaps
from bckd.zoo.checkpoints import save_detector


@pytest.mark.parametrize("cache", [False, True])
def test_a_cell(
    tmp_path: Path, scenes_root: Path, tiny_detector: Callable[..., Detector], cache: bool
) -> None:
    teacher = tmp_path / "teacher.safetensors"
    save_detector(teacher, tiny_detector(width=8, channels=16), ImageSize(128, 128), {})
    base = PRESETS["scenes"].recipe
    data = replace(base.data, root=scenes_root, first_val=4, cache=cache)
    base = replace(base, data=data, steps=2, teacher_check=0)
    names = ("none", "BCKD")
    chosen = tuple(methods(6)[name] for name in names)
    study = Study("tiny", "a title", base, teacher, chosen, seeds=(0,), device="cuda")
    for name in names:
        cell = Cell("comparison", name, 1.0, 0)
        line = run_cell(study, cell, tmp_path)
        assert line["machine"] == torch.cuda.get_device_name()
        assert line["score_error"] > 0
    assert measure_swaps(study, cell, tmp_path)["swapped"].keys() == {"level", "pattern", "boxes"}
