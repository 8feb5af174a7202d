"""Published terms on a pair of detectors: adapters that fit, and the pull on the student's maps.

The gradient on the pyramid's maps is what all terms have in common, whether they compare maps,
scores or boxes: the head's own parameters are behind it, the backbone's in front.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bckd.losses.features.objects import object_cells_inside
from bckd.losses.features.shared import FeatureTerm
from bckd.losses.options import LossOptions
from bckd.losses.terms import TERMS
from bckd.models.dense import DenseDetector
from bckd.models.supervision import assign
from bckd.structures import Assignment, Batch, DenseOutput
from bckd.teachers.heads import CrossedHeads

STEPS, RATE = 25, 1e-2  # of what has no closed form: generators, relations, adapters of towers
AppliedTerm = Callable[[DenseOutput, DenseOutput, Assignment, Batch | None], Tensor]


@dataclass(frozen=True)
class Pair:
    """What a student and its teacher say of one batch.

    Attributes:
        student: its graph goes from the maps (`features`) to all else.
        teacher: without gradient.
        assignment: the student's, as GFL has it.
    """

    student: DenseOutput
    teacher: DenseOutput
    assignment: Assignment
    batch: Batch

    def of(self, term: AppliedTerm) -> Tensor:
        """The unweighted value of a term, scalar; what it draws at random is always the same."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return term(self.student, self.teacher, self.assignment, self.batch)


def pair_of(student: DenseDetector, teacher: DenseDetector, batch: Batch) -> Pair:
    """Both detectors of GFL's family on a batch."""
    with torch.no_grad():
        taught = teacher(batch.images)
    said = student(batch.images)
    assignment = assign("gfl", said, batch.ground_truth, batch.padded_sizes)
    return Pair(said, taught, assignment, batch)


def make_terms(
    names: Iterable[str], student: DenseDetector, teacher: DenseDetector, pair: Pair
) -> dict[str, AppliedTerm]:
    """Terms by their names in `TERMS`, as they are before the first step; always the same.

    Args:
        pair: what the two say of any batch, for the channels of their maps.
    """
    heads = CrossedHeads(student, teacher)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return {name: _made(name, pair, heads) for name in names}


def fit(terms: Mapping[str, AppliedTerm], pair: Pair) -> None:
    """Let the terms' own parameters learn, the student held still.

    Adapters of maps become the best ones there are for the squared gap, by linear regression over
    all cells; what else a term has learns by `STEPS` steps of Adam on its own loss.

    Args:
        pair: to learn from; not the one to look at.
    """
    still = replace(pair, student=_held_still(pair.student))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for term in terms.values():
            if isinstance(term, nn.Module):
                _fit(term, still)


def gradient_on_maps(value: Tensor, pair: Pair) -> list[Tensor]:
    """The gradient of a scalar on the student's maps, (N, C, H, W) a level."""
    features = pair.student.features
    found = torch.autograd.grad(value, features, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for x, g in zip(features, found, strict=True)]


def pull_on_maps(term: AppliedTerm, pair: Pair) -> list[Tensor]:
    """The length of a term's gradient at every cell of the student's maps, (N, H, W) a level."""
    return [gradient.norm(dim=1) for gradient in gradient_on_maps(pair.of(term), pair)]


def share_at_objects(pull: Sequence[Tensor], pair: Pair) -> float:
    """The part of the whole pull at cells that an object's box covers.

    Args:
        pull: (N, H, W) a level; of ones, it is the part of the cells.
    """
    levels = pair.student.locations.levels
    inside = [object_cells_inside(pair.batch.ground_truth, level).any for level in levels]
    at_objects = sum((x * mask).sum() for x, mask in zip(pull, inside, strict=True))
    return float(at_objects / sum(x.sum() for x in pull))


def over_picture(pull: Sequence[Tensor], pair: Pair, image: int) -> np.ndarray:
    """(H, W) the pull a pixel: a cell's is spread over its stride squared, levels are added."""
    size = pair.batch.images.shape[-2:]
    strides = [level.stride for level in pair.student.locations.levels]
    spread = [
        F.interpolate(x[image][None, None], size=size)[0, 0] / stride**2
        for x, stride in zip(pull, strides, strict=True)
    ]
    return torch.stack(spread).sum(dim=0).numpy()


def _held_still(output: DenseOutput) -> DenseOutput:
    fields: dict[str, Any] = {name: x.detach() for name, x in output.per_location().items()}
    return replace(output, features=tuple(x.detach() for x in output.features), **fields)


def _made(name: str, pair: Pair, heads: CrossedHeads) -> AppliedTerm:
    entry = TERMS[name]
    if entry.module is None:
        assert entry.make is not None
        return entry.make(LossOptions())
    further = (heads,) if "head" in entry.needs else ()
    term: AppliedTerm = entry.module(pair.student, pair.teacher, *further)
    return term


def _fit(term: nn.Module, still: Pair) -> None:
    learning = {name: x for name, x in term.named_parameters()}
    if isinstance(term, FeatureTerm):
        _regress(term.adapters, still)
        learning = {name: x for name, x in learning.items() if not name.startswith("adapters.")}
    if not learning:
        return
    optimiser = torch.optim.Adam(learning.values(), lr=RATE)
    for _ in range(STEPS):
        optimiser.zero_grad()
        term(still.student, still.teacher, still.assignment, still.batch).backward()
        optimiser.step()


@torch.no_grad()
def _regress(adapters: nn.ModuleList, pair: Pair) -> None:
    """Each level's 1x1 convolution becomes the linear regression of the teacher's map."""
    maps = zip(adapters, pair.student.features, pair.teacher.features, strict=True)
    for adapter, ours, theirs in maps:
        if not isinstance(adapter, nn.Conv2d):
            continue  # equal channels need none
        assert adapter.bias is not None
        cells, wanted = (x.movedim(1, -1).flatten(0, 2) for x in (ours, theirs))  # (cells, C)
        with_one = torch.cat([cells, torch.ones_like(cells[:, :1])], dim=1)
        solution = torch.linalg.lstsq(with_one, wanted, driver="gelsd").solution  # (C_s + 1, C_t)
        adapter.weight.copy_(solution[:-1].T[..., None, None])
        adapter.bias.copy_(solution[-1])
