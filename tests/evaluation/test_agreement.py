"""How far a student's scores are from its teacher's."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from bckd.datasets.annotations import read_annotations
from bckd.datasets.coco import CocoDataset, collate
from bckd.evaluation.agreement import agreement
from bckd.image_size import ImageSize
from bckd.models.detector import Detector
from bckd.structures import Batch

CLASSES = ("nut", "washer", "screw")


@pytest.fixture
def loader(custom_root: Path) -> torch.utils.data.DataLoader[Batch]:
    """Batches of images of mixed sizes on one canvas, so that there is padding to leave out."""
    annotations = read_annotations(custom_root / "annotations" / "instances_val.json")
    dataset = CocoDataset(custom_root / "val", annotations, ImageSize(64, 96))
    together = partial(collate, size=dataset.size)
    keys = [(0, index) for index in range(len(dataset))]
    return torch.utils.data.DataLoader(dataset, batch_size=3, sampler=keys, collate_fn=together)


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


@pytest.fixture
def teacher(tiny_detector: Callable[..., Detector]) -> Detector:
    """A teacher whose top score is now above and now below the foreground's."""
    teacher = tiny_detector(CLASSES, seed=2)
    with torch.no_grad():
        teacher.head.cls.bias += 3.0
        teacher.head.cls.weight *= 20.0
    return teacher


def test_foreground_and_background_by_hand(
    loader: torch.utils.data.DataLoader[Batch],
    tiny_detector: Callable[..., Detector],
    teacher: Detector,
) -> None:
    student = tiny_detector(CLASSES, seed=1)
    pairs: dict[bool, list[tuple[torch.Tensor, torch.Tensor]]] = {True: [], False: []}
    with torch.no_grad():
        for batch in loader:
            ours, theirs = student(batch.images), teacher(batch.images)
            valid = ours.locations.inside(batch.padded_sizes)
            logits = (output.cls_logits[valid].double() for output in (ours, theirs))
            for s, t in zip(*logits, strict=True):
                pairs[bool(t.sigmoid().max() >= 0.2)].append((s, t))
    assert min(map(len, pairs.values())) > 10
    found = agreement(student, teacher, loader)
    for kind, name in ((True, "foreground"), (False, "background")):
        s, t = (torch.stack(side) for side in zip(*pairs[kind], strict=True))
        error = (s.sigmoid() - t.sigmoid()).abs().mean().item()
        assert getattr(found, f"{name}_error") == pytest.approx(error)
        assert getattr(found, f"{name}_shift") == pytest.approx((s - t).mean().item())
    same = [bool(s.argmax() == t.argmax()) for s, t in pairs[True]]
    assert 0 < sum(same) < len(same)
    assert found.class_agreement == pytest.approx(sum(same) / len(same))
    shifts = torch.stack([(s - t).mean() for s, t in pairs[True] + pairs[False]])
    assert found.shift_spread == pytest.approx(shifts.std(correction=0).item())


def test_a_shift_of_all_logits_has_no_spread(
    loader: torch.utils.data.DataLoader[Batch], teacher: Detector
) -> None:
    student = copy.deepcopy(teacher)
    with torch.no_grad():
        student.head.cls.bias += 2.0
    found = agreement(student, teacher, loader)
    assert found.foreground_shift == pytest.approx(2, abs=1e-6)
    assert found.background_shift == pytest.approx(2, abs=1e-6)
    assert found.shift_spread == pytest.approx(0, abs=1e-6)
    assert found.class_agreement == 1


def test_a_shift_that_differs_between_locations_has_a_spread(
    loader: torch.utils.data.DataLoader[Batch], teacher: Detector
) -> None:
    """The same factor on all logits keeps every top class but moves each location its own way."""
    student = copy.deepcopy(teacher)
    with torch.no_grad():
        student.head.cls.bias *= 1.5
        student.head.cls.weight *= 1.5
    found = agreement(student, teacher, loader)
    assert found.shift_spread > 0.1
    assert found.class_agreement == 1


def test_without_foreground_its_measures_are_nan(
    loader: torch.utils.data.DataLoader[Batch], tiny_detector: Callable[..., Detector]
) -> None:
    found = agreement(tiny_detector(CLASSES, seed=1), tiny_detector(CLASSES, seed=2), loader)
    for value in (found.foreground_error, found.foreground_shift, found.class_agreement):
        assert math.isnan(value)
    assert found.background_error == pytest.approx(found.score_error)
    assert found.background_shift == pytest.approx(found.logit_shift)


@pytest.mark.parametrize("modes", [(True, False), (False, True)])
def test_both_detectors_are_left_in_their_mode(
    loader: torch.utils.data.DataLoader[Batch],
    tiny_detector: Callable[..., Detector],
    modes: tuple[bool, bool],
) -> None:
    pair = [tiny_detector(CLASSES, seed=n).train(mode) for n, mode in enumerate(modes)]
    before = copy.deepcopy(pair[0].state_dict())
    agreement(*pair, loader)
    assert tuple(detector.training for detector in pair) == modes
    for name, value in pair[0].state_dict().items():
        assert torch.equal(value, before[name]), f"{name} changed by looking"
