"""How far a student's scores are from its teacher's."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bckd.agreement import agreement
from bckd.datasets.annotations import read_annotations
from bckd.datasets.coco import CocoDataset, ImageSize
from bckd.evaluation import evaluation_loader
from bckd.models.detector import Detector
from bckd.structures import Batch

CLASSES = ("nut", "washer", "screw")


@pytest.fixture
def loader(custom_root: Path) -> torch.utils.data.DataLoader[Batch]:
    """Two batches of images of mixed sizes, so that there is padding to leave out."""
    annotations = read_annotations(custom_root / "annotations" / "instances_val.json")
    dataset = CocoDataset(custom_root / "val", annotations, ImageSize(64, 96))
    return evaluation_loader(dataset, batch_size=3)


def test_a_detector_agrees_with_itself(
    loader: torch.utils.data.DataLoader[Batch], tiny_detector: Callable[..., Detector]
) -> None:
    found = agreement(tiny_detector(CLASSES), tiny_detector(CLASSES), loader)
    assert (found.score_error, found.logit_shift) == (0, 0)


@pytest.mark.parametrize("shift", [-1.5, 2.0])
def test_a_shift_of_all_logits_is_seen(
    loader: torch.utils.data.DataLoader[Batch],
    tiny_detector: Callable[..., Detector],
    shift: float,
) -> None:
    teacher = tiny_detector(CLASSES)
    student = copy.deepcopy(teacher)
    with torch.no_grad():
        student.head.cls.bias += shift
    found = agreement(student, teacher, loader)
    assert found.logit_shift == pytest.approx(shift, abs=1e-6)
    assert found.score_error > 0


def test_is_the_mean_over_valid_locations(
    loader: torch.utils.data.DataLoader[Batch], tiny_detector: Callable[..., Detector]
) -> None:
    student, teacher = tiny_detector(CLASSES, seed=1), tiny_detector(CLASSES, seed=2)
    errors, shifts, left_out = [], [], 0
    with torch.no_grad():
        for batch in loader:
            ours, theirs = student(batch.images), teacher(batch.images)
            for n, (height, width) in enumerate(batch.padded_sizes.tolist()):
                for a, (x, y) in enumerate(ours.locations.centres.tolist()):
                    if x >= width or y >= height:
                        left_out += 1
                        continue
                    s, t = ours.cls_logits[n, a], theirs.cls_logits[n, a]
                    errors.append((s.sigmoid() - t.sigmoid()).abs())
                    shifts.append(s - t)
    assert left_out > 0
    found = agreement(student, teacher, loader)
    assert found.score_error == pytest.approx(torch.stack(errors).mean().item(), rel=1e-4)
    assert found.logit_shift == pytest.approx(torch.stack(shifts).mean().item(), rel=1e-4)
