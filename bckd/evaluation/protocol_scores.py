"""What softmax and sigmoid say of the same logits, location by location, on a data set.

A dense detector learns K independent sigmoid scores a location; distillation by a softmax
reads the same K logits as one choice among K classes. Here the highest value of either is
held against the annotations: at objects, at background, and in between.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from scipy.stats import mannwhitneyu
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from bckd.assigners import assign_atss
from bckd.geometry import boxes_to_distances
from bckd.models.dense import DenseDetector
from bckd.structures import Batch, DenseOutput
from bckd.system.errors import InputError
from bckd.system.files import write_atomically

Kind = Literal["background", "between", "objects"]
KINDS: tuple[Kind, ...] = get_args(Kind)

NAMED = 0.5  # softmax names a class that is halfway from an equal share to all of the 1
DETECTED = 0.05  # lower scores are dropped by the post-processing of the COCO recipe
ALIKE = 0.02  # width of the bins within which top softmax probabilities count as equal
SUBSETS = (2, 3, 6, 10, 20, 40)  # numbers of classes
KEPT = 20_000  # locations of a kind that `write_scores` writes


@dataclass(frozen=True)
class TopScores:
    """The highest of the K values at every location of one kind, image after image.

    Attributes:
        softmax: (P,) float16 probabilities, each at least 1 / K.
        sigmoid: (P,) float16 scores.
    """

    softmax: np.ndarray
    sigmoid: np.ndarray


@dataclass(frozen=True)
class KindNumbers:
    """The top values at one kind of location; nan where there is none.

    Attributes:
        count: locations.
        softmax_median, sigmoid_median: of the top values.
        named: share whose top softmax probability is above `named_above`.
        detected: share whose top sigmoid score is above `DETECTED`.
        contradicted: share that is named but not detected.
    """

    count: int
    softmax_median: float
    sigmoid_median: float
    named: float
    detected: float
    contradicted: float


@dataclass(frozen=True)
class ProtocolNumbers:
    """Both protocols on one data set.

    An AUC is the share of all pairs of an object and a background location in which the object
    has the higher top value (a tie counts half): 1 tells them apart, .5 is chance. It is nan
    where there is no pair.

    Attributes:
        background, between, objects: see `kinds_of`.
        softmax_auc, sigmoid_auc: over all pairs.
        alike_auc: of the sigmoid scores, over the pairs whose top softmax probabilities lie in
            the same bin of width `ALIKE`; bins count by their objects. It is .5 if the
            softmax leaves nothing for the sigmoid to tell.
    """

    background: KindNumbers
    between: KindNumbers
    objects: KindNumbers
    softmax_auc: float
    sigmoid_auc: float
    alike_auc: float


def kinds_of(output: DenseOutput, batch: Batch) -> dict[Kind, Tensor]:
    """Which locations are background, objects, or in between: (N, A) bool each.

    Objects are GFL's positives (ATSS). In between are other locations inside the box of an
    object, background those outside every box. What lies in the padding or in a crowd region
    is none of the three.

    Args:
        output: of a detector with one anchor a cell, on the device of `batch`.

    Raises:
        InputError: the detector has points, or several anchors a cell.
    """
    locations, truth = output.locations, batch.ground_truth
    if locations.anchors is None or any(level.per_cell != 1 for level in locations.levels):
        raise InputError("the detector has no anchors or several a cell; expected one a cell")
    assignment = assign_atss(locations, truth, batch.padded_sizes, output.cls_logits.shape[-1])
    positive, centres = assignment.positive, locations.centres
    sides = boxes_to_distances(centres, batch.frames[:, None].to(centres))  # (N, A, 4)
    in_picture = (sides[..., :2] >= 0).all(-1) & (sides[..., 2:] > 0).all(-1)
    other = in_picture & assignment.counted & ~positive
    in_box = boxes_to_distances(centres, truth.boxes[:, :, None]).amin(-1) > 0  # (N, G, A)
    in_object = (in_box & truth.objects[..., None]).any(dim=1)
    return {
        "background": other & ~in_box.any(dim=1),
        "between": other & in_object,
        "objects": positive,
    }


@torch.no_grad()
def top_scores(
    detector: DenseDetector, loader: DataLoader[Batch], progress: bool = True
) -> dict[Kind, TopScores]:
    """The top values of both protocols at every location of a data set, by kind.

    Takes 4 bytes a location. The detector is put into eval mode and left as it was found.

    Raises:
        InputError: see `kinds_of`.
    """
    device, was_training = next(detector.parameters()).device, detector.training
    detector.eval()
    parts: dict[Kind, list[np.ndarray]] = {kind: [] for kind in KINDS}
    for batch in tqdm(loader, desc="protocols", leave=False, disable=not progress):
        batch = batch.to(device)
        output = detector(batch.images)
        logits = output.cls_logits
        top = torch.stack([x.amax(dim=-1) for x in (logits.softmax(-1), logits.sigmoid())])
        for kind, where in kinds_of(output, batch).items():
            parts[kind].append(top[:, where].half().cpu().numpy())
    detector.train(was_training)
    return {kind: TopScores(*np.concatenate(found, axis=1)) for kind, found in parts.items()}


def named_above(classes: int) -> float:
    """The top softmax probability above which a softmax over so many classes names one.

    The highest of K probabilities is at least 1 / K whatever the logits are, one half for two
    classes. What counts is its excess: the way from 1 / K to 1, of which `NAMED` is asked.
    """
    return 1 / classes + NAMED * (1 - 1 / classes)


def compare_protocols(scores: dict[Kind, TopScores], classes: int) -> ProtocolNumbers:
    """The numbers of `top_scores`.

    Args:
        scores: of a detector.
        classes: how many it has.
    """
    objects, background = (scores[kind] for kind in ("objects", "background"))
    return ProtocolNumbers(
        **{kind: _numbers(scores[kind], named_above(classes)) for kind in KINDS},
        softmax_auc=_auc(objects.softmax, background.softmax),
        sigmoid_auc=_auc(objects.sigmoid, background.sigmoid),
        alike_auc=_alike_auc(objects, background),
    )


def _numbers(scores: TopScores, bound: float) -> KindNumbers:
    count = len(scores.softmax)
    if not count:
        return KindNumbers(0, *[math.nan] * 5)
    named, detected = scores.softmax > bound, scores.sigmoid > DETECTED
    medians = (float(np.median(x.astype(np.float32))) for x in (scores.softmax, scores.sigmoid))
    shares = (float(np.mean(x)) for x in (named, detected, named & ~detected))
    return KindNumbers(count, *medians, *shares)


def _auc(objects: np.ndarray, background: np.ndarray) -> float:
    """Share of the pairs in which the object has more; ties count half."""
    if not len(objects) or not len(background):
        return math.nan
    # In float32: ranks overflow half precision.
    wins = mannwhitneyu(objects.astype(np.float32), background.astype(np.float32)).statistic
    return float(wins / len(objects) / len(background))


def _alike_auc(objects: TopScores, background: TopScores) -> float:
    """Mean over bins of the softmax of the sigmoid's AUC, weighted by the bins' objects."""
    bins, other_bins = ((x.softmax / ALIKE).astype(int) for x in (objects, background))
    aucs, weights = [], []
    for place in np.intersect1d(bins, other_bins):
        here = objects.sigmoid[bins == place]
        aucs.append(_auc(here, background.sigmoid[other_bins == place]))
        weights.append(len(here))
    return float(np.average(aucs, weights=weights)) if aucs else math.nan


@torch.no_grad()
def contradicted_by_classes(
    detector: DenseDetector, loader: DataLoader[Batch], draws: int = 10, progress: bool = True
) -> dict[int, float]:
    """How the number of classes decides what softmax says of the background.

    The detector's own logits at background locations, of random subsets of its classes only:
    the share where softmax names one of these (`named_above` of their number, so that chance
    names none at any of them) while no score of theirs passes `DETECTED`.

    Args:
        draws: subsets of each size, with a fixed seed; their mean is returned.

    Returns:
        By number of classes: 2, 3, 6, 10, 20, 40 as far as the detector has more, then all.

    Raises:
        InputError: see `kinds_of`.
    """
    classes = len(detector.class_names)
    subsets = _subsets(classes, draws)
    device, was_training = next(detector.parameters()).device, detector.training
    detector.eval()
    found, locations = dict.fromkeys(subsets, 0), 0
    for batch in tqdm(loader, desc="classes", leave=False, disable=not progress):
        batch = batch.to(device)
        output = detector(batch.images)
        logits = output.cls_logits[kinds_of(output, batch)["background"]]
        locations += len(logits)
        for count, drawn in subsets.items():
            for columns in drawn:
                part = logits[:, columns]
                named = part.softmax(-1).amax(-1) > named_above(count)
                found[count] += int((named & (part.sigmoid().amax(-1) <= DETECTED)).sum())
    detector.train(was_training)
    return {
        count: found[count] / (len(subsets[count]) * locations) if locations else math.nan
        for count in subsets
    }


def _subsets(classes: int, draws: int) -> dict[int, list[Tensor]]:
    """Random columns by their number, and all of them."""
    generator = torch.Generator().manual_seed(0)
    sizes = [size for size in SUBSETS if size < classes]
    drawn = {
        size: [torch.randperm(classes, generator=generator)[:size] for _ in range(draws)]
        for size in sizes
    }
    return {**drawn, classes: [torch.arange(classes)]}


def write_scores(path: Path, scores: dict[Kind, TopScores]) -> None:
    """Write a compressed .npz file of arrays "objects_softmax", "objects_sigmoid" and so on.

    They are float16; of more than `KEPT` locations of a kind, evenly spaced ones.
    """
    arrays: dict[str, Any] = {}
    for kind, found in scores.items():
        count = len(found.softmax)
        kept = np.linspace(0, count - 1, min(count, KEPT)).round().astype(int)
        arrays |= {f"{kind}_{name}": values[kept] for name, values in vars(found).items()}

    def write(part: Path) -> None:
        with part.open("wb") as file:  # given a path, numpy would change the name
            np.savez_compressed(file, **arrays)

    write_atomically(path, write)
