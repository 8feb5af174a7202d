"""What a replay of a training run shows, read from the files of the run.

Nothing is trained or saved here: checkpoints along a run are copies of its weights that
someone kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from bckd.reports.titles import TITLES
from bckd.structures import DenseOutput
from bckd.system.errors import InputError
from bckd.training.run_log import LOG, read_log
from bckd.zoo.checkpoints import load_detector


def curves_of_run(out: Path) -> dict[str, list[tuple[int, float]]]:
    """AP and the unweighted loss terms of a run's log, by title; values that are nan are left out.

    Args:
        out: folder of the run.

    Raises:
        InputError: it holds no log, or one without a number.
    """
    curves: dict[str, list[tuple[int, float]]] = {}
    for record in read_log(Path(out)):
        metrics = record.get("metrics", {})
        values = {"AP": metrics["AP"]} if "AP" in metrics else {}
        values |= {TITLES.get(k, k): v for k, v in record.get("unweighted", {}).items()}
        for title, value in values.items():
            if value is not None:  # what a log writes for nan
                curves.setdefault(title, []).append((record["step"], value))
    if not curves:
        raise InputError(f"{Path(out) / LOG} has no losses or AP; expected the log of a run")
    return dict(sorted(curves.items(), key=lambda item: item[0] != "AP"))


def checkpoint_outputs(
    checkpoints: Mapping[int, Path], images: Tensor
) -> tuple[list[int], list[DenseOutput], tuple[str, ...]]:
    """What the checkpoints of one run say of the same images.

    Args:
        checkpoints: detector files by step.
        images: (N, 3, H, W), normalised as these detectors take them.

    Returns:
        The steps in order, their dense outputs without features, the class names.

    Raises:
        InputError: there is none, a file is none of ours, or two have other classes.
    """
    if not checkpoints:
        raise InputError("there is no checkpoint to replay; expected at least one")
    steps, outputs = sorted(checkpoints), []
    class_names: tuple[str, ...] = ()
    for path in (checkpoints[step] for step in steps):
        detector = load_detector(path).detector
        class_names = class_names or detector.class_names
        if detector.class_names != class_names:
            raise InputError(f"{path} has other classes than {checkpoints[steps[0]]}")
        with torch.no_grad():
            outputs.append(replace(detector(images), features=(), box_logits=None))
    return steps, outputs, class_names
