"""Distillation's terms: the values that published code gives for the same numbers.

Each expected number comes of published lines, run once apart from this package, in double
precision, on what `wave` makes; a test names them, and folds in by what the two differ. Of what
such lines import, mmdetection's own losses and coder were its package's (3.3.0).
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from bckd.geometry import deltas_to_boxes, grid, with_anchors
from bckd.losses.crosskd import CrossKD
from bckd.losses.dist import relations
from bckd.losses.features.cwd import ChannelWise
from bckd.losses.features.general_instance import GeneralInstances
from bckd.losses.features.mgd import MaskedGeneration
from bckd.losses.features.pkd import Pearson
from bckd.losses.yolov6 import softmax_of_scores
from bckd.structures import Assignment, DenseOutput, Locations
from tests.losses.features.cases import assigned, batch_of, wave
from tests.losses.test_crosskd import value_of

STUDENT, TEACHER = 0.7, 1.1  # steps of the waves that each of them says
IMAGES = 2
SHAPES = ((3, 4), (2, 6))  # of as many cells: what divides by these divides both levels alike
PLACES = grid(SHAPES, (8, 16))
TWO_ANCHORS = with_anchors(PLACES, [(4.0, 4.0), (6.0, 3.0)])


def with_maps(step: float, channels: int) -> DenseOutput:
    maps = [
        2 * wave(500 * n, IMAGES, channels, *shape, step=step) for n, shape in enumerate(SHAPES)
    ]
    return replace(with_scores(step, PLACES), features=tuple(maps))


def with_scores(step: float, locations: Locations) -> DenseOutput:
    """Of five classes; in part what both say, and more low scores than high."""
    count = len(locations.centres)
    both, own = (wave(0, IMAGES, count, 5, step=x) for x in (0.5, step))
    return DenseOutput(2 * both + own - 1, torch.zeros(IMAGES, count, 4), locations)


def learnt(term: nn.Module) -> None:
    """Weights that are the same on every machine."""
    with torch.no_grad():
        for n, parameter in enumerate(term.parameters()):
            parameter.copy_(wave(n, *parameter.shape) / 2)


class TestChannelWise:
    def test_mmrazor(self) -> None:
        """open-mmlab/mmrazor, mmrazor/models/losses/cwd.py, level by level, tau and weight 1.

        At 4b5ddaf642533955f3097af2d7b0c5b25ec1cfae. Nothing differs.
        """
        pair = with_maps(STUDENT, 4), with_maps(TEACHER, 4)
        found = ChannelWise(*pair)(*pair, assigned(pair[0]))
        assert found.item() == pytest.approx(2.6911735, rel=1e-5)

    def test_the_authors(self) -> None:
        """pppppM/mmdetection-distiller, mmdet/distillation/losses/cwd.py, an adapter a level.

        At 4cf3894cf4aec4cac09e7a7840840d92e22fb4e4. It has the cross-entropy alone, so that the
        teacher's entropy comes on top, and divides by the student's channels.
        """
        pair = with_maps(STUDENT, 3), with_maps(TEACHER, 4)
        term = ChannelWise(*pair)
        learnt(term)
        found = term(*pair, assigned(pair[0])).item()
        entropy = sum(entropy_of_cells(x) for x in pair[1].features)
        assert (found + entropy) * 4 / 3 == pytest.approx(7.4252843, rel=1e-5)


def entropy_of_cells(maps: Tensor) -> float:
    """Of the softmax over an image's cells, the mean over images and channels."""
    rows = maps.flatten(2)
    return -(rows.softmax(dim=-1) * rows.log_softmax(dim=-1)).sum(dim=-1).mean().item()


def test_pkd() -> None:
    """open-mmlab/mmrazor, mmrazor/models/losses/pkd_loss.py, weight 1.

    At 70f03dace9184778df71181e9433a1974b269d7f. Its deviation is a sample's: of n cells of all
    images its squared gaps are (n - 1) / n of ours.
    """
    pair = with_maps(STUDENT, 4), with_maps(TEACHER, 4)
    cells = IMAGES * 12
    found = Pearson(*pair)(*pair, assigned(pair[0])).item()
    assert found * (cells - 1) / cells == pytest.approx(1.8893559, rel=1e-5)


def drawn(like: Tensor) -> Tensor:
    """Numbers spread between 0 and 1 in the place of random ones."""
    return torch.arange(like.numel()).mul(0.618).remainder(1).view_as(like)


def test_mgd(monkeypatch: pytest.MonkeyPatch) -> None:
    """yzd-v/MGD, det/mmdet/distillation/losses/mgd.py, a module a level, an adapter each.

    At 454e609be857da44478876c5a43d45b78da2bc57, weight 2e-5 there. It keeps the cells whose random
    number is at most .35, we those where it is .65 at least: it was given one minus ours. Each
    level has the same numbers, and the weights that ours has there.
    """
    pair = with_maps(STUDENT, 3), with_maps(TEACHER, 4)
    term = MaskedGeneration(*pair)
    learnt(term)
    monkeypatch.setattr(torch, "rand_like", drawn)
    found = term(*pair, assigned(pair[0])).item()
    assert 2e-5 * found == pytest.approx(0.014117508, rel=1e-5)


def test_gid() -> None:
    """daixinghome/Distill_GID_detectron2, GID/gid: distill_gid.py, proposal_utils.py, loss.py.

    At 5dfc0d5725c389c1f098a9f10ce072aa7c09bc0c, with the weights .0005 and 40 of
    GID/config/Distill_RetinaNet_T_Res101_S_Res50_2x.yaml, and detectron2's pooler (detectron2/
    modeling/poolers.py at 04367a2bdf88c31c5134e4245d7b11c7b6ef939c). Of one class the gap of the
    highest scores is the highest gap, and of one image no pair is across images. Its feature and
    its relation part, without that of responses. detectron2's boxes and lists of them were stood
    in for.
    """
    pair = with_instances(STUDENT), with_instances(TEACHER)
    found = GeneralInstances(*pair)(*pair, assigned(pair[0]), batch_of([[]], 256, 320))
    assert found.item() == pytest.approx(0.06120264 + 3.8507279, rel=1e-5)


def with_instances(step: float) -> DenseOutput:
    """One image of 256 x 320 pixels and one class; boxes of up to 20 strides about each cell."""
    shapes = ((32, 40), (16, 20))
    locations = grid(shapes, (8, 16))
    count = len(locations.centres)
    sides = (1 + wave(0, 1, count, 2, step=step)) * 5 * locations.strides[:, None]
    boxes = torch.cat([locations.centres - sides, locations.centres + sides], dim=-1)
    logits = wave(0, 1, count, 1, step=step / 2) * locations.strides[:, None] / 4
    maps = tuple(10 * wave(7 * n, 1, 3, *shape, step=step) for n, shape in enumerate(shapes))
    return DenseOutput(logits, boxes, locations, features=maps)


def everywhere(locations: Locations) -> Assignment:
    return Assignment.for_distillation(torch.ones(IMAGES, len(locations.centres)).bool())


@pytest.mark.parametrize(("locations", "value"), [(PLACES, 1.087678), (TWO_ANCHORS, 0.73357386)])
def test_dist(locations: Locations, value: float) -> None:
    """hunto/MasKD, mmrazor/mmrazor/models/losses/dist_kd.py, at each level's map of class logits.

    At 4e3a36ba3fc7b6ddd3388bc2156cc19e8e3c1130, with beta, gamma and weight 1 and `use_sigmoid`, as
    in mmrazor/configs/distill/dist/dist_retinanet_x101-retinanet-r50_coco.py. Nothing differs where
    all locations are inside the image.
    """
    pair = with_scores(STUDENT, locations), with_scores(TEACHER, locations)
    assert relations(*pair, everywhere(locations)).item() == pytest.approx(value, rel=1e-5)


def test_yolov6() -> None:
    """meituan/YOLOv6, yolov6/models/losses/loss_distill.py (`distill_loss_cls`), of scores.

    At 282c2425af93971b0018ce51b27804ad54988336, temperature 20. It sums over images, we have their
    mean.
    """
    pair = with_scores(STUDENT, PLACES), with_scores(TEACHER, PLACES)
    found = softmax_of_scores(*pair, everywhere(PLACES)).item()
    assert found * IMAGES == pytest.approx(0.50843368, rel=1e-5)


class TestCrossKD:
    """jbwang1997/CrossKD at b0c5a76092ac42be37099651b067227615de0b28: the losses, not the crossing.

    mmdet/models/losses/kd_loss.py and the detectors' `pred_mimicking_loss_single`, at both levels,
    their sum. Nothing differs on one GPU. Its own copy of mmdetection was not to be had.
    """

    def test_with_distributions(self) -> None:
        """mmdet/models/detectors/crosskd_gfl.py, weights 1 and 4 of its configuration (R50)."""
        pair = with_distributions(STUDENT), with_distributions(TEACHER)
        found = value_of(CrossKD, *pair, three_positives(PLACES))
        assert found.item() == pytest.approx(6.5132556 + 5.1387863, rel=1e-5)

    def test_without_distributions(self) -> None:
        """mmdet/models/detectors/crosskd_retinanet.py, weights 1 and 1 (GIoU)."""
        pair = with_deltas(STUDENT), with_deltas(TEACHER)
        found = value_of(CrossKD, *pair, three_positives(TWO_ANCHORS))
        assert found.item() == pytest.approx(13.431012 + 13.084416, rel=1e-5)


def three_positives(locations: Locations) -> Assignment:
    """Two in the first image, one in the second; three locations are outside."""
    valid = torch.ones(IMAGES, len(locations.centres), dtype=torch.bool)
    positive = torch.zeros_like(valid)
    positive[0, [3, 14]] = positive[1, 7] = True
    valid[0, 11] = valid[1, [5, 20]] = False
    return Assignment.for_distillation(positive, valid)


def with_distributions(step: float) -> DenseOutput:
    """Six bins a side."""
    logits = 2 * wave(0, IMAGES, len(PLACES.centres), 4, 6, step=step)
    return replace(with_scores(step, PLACES), box_logits=logits)


def with_deltas(step: float) -> DenseOutput:
    """Boxes about two anchors a cell."""
    output = with_scores(step, TWO_ANCHORS)
    deltas = wave(0, *output.boxes.shape, step=step) / 3
    assert TWO_ANCHORS.anchors is not None
    return replace(output, boxes=deltas_to_boxes(TWO_ANCHORS.anchors, deltas), deltas=deltas)
