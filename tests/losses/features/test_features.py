"""Feature terms: equal to loops over images, channels and cells, and what all have in common."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torchvision.ops import roi_align

from bckd.geometry import with_anchors
from bckd.losses.features import mgd
from bckd.losses.features.defeat import Decoupled
from bckd.losses.features.fgd import FocalAndGlobal
from bckd.losses.features.fine_grained import FineGrained, near_objects
from bckd.losses.features.fitnet import FitNet
from bckd.losses.features.general_instance import GeneralInstances, general_instances
from bckd.losses.features.mgd import MaskedGeneration
from bckd.losses.features.objects import object_cells
from bckd.losses.terms import TERMS
from bckd.normalisation import IMAGENET
from bckd.structures import Assignment, Batch, DenseOutput, GroundTruth, Level
from tests.system.test_devices import NoCopies

SHAPES = ((4, 5), (2, 3))
MODULES = {name: term.module for name, term in TERMS.items() if term.needs == ("features",)}


def batch_of(boxes: list[list[list[float]]]) -> Batch:
    """Two images of 32 x 40 pixels with these boxes."""
    rows = [torch.tensor(image).reshape(-1, 4) for image in boxes]
    truth = GroundTruth.from_lists(rows, [torch.zeros(len(x), dtype=torch.long) for x in rows])
    sizes = torch.tensor([[32, 40]] * len(boxes))
    return Batch(
        pixels=torch.zeros(len(boxes), 3, 32, 40, dtype=torch.uint8),
        normalisation=IMAGENET,
        sizes=sizes,
        padded_sizes=sizes,
        canvases=((32, 40),) * len(boxes),
        original_sizes=sizes,
        frames=torch.tensor([[0, 0, 40, 32]] * len(boxes)),
        ground_truth=truth,
        indices=tuple(range(len(boxes))),
        flipped=(False,) * len(boxes),
        image_ids=tuple(range(len(boxes))),
        file_names=("",) * len(boxes),
    )


BOXES = [[[3.0, 2.0, 18.0, 30.0], [9.0, 9.0, 15.0, 15.0]], [[20.0, 0.0, 39.0, 12.0]]]


@pytest.fixture
def with_maps(dense_output: Callable[..., DenseOutput]) -> Callable[[int, int], DenseOutput]:
    def make(seed: int, channels: int) -> DenseOutput:
        generator = torch.Generator().manual_seed(seed)
        maps = [torch.randn(2, channels, *shape, generator=generator) for shape in SHAPES]
        features = tuple(map_.requires_grad_() for map_ in maps)
        return replace(dense_output(seed=seed), features=features)

    return make


@pytest.fixture
def pair(with_maps: Callable[[int, int], DenseOutput]) -> tuple[DenseOutput, DenseOutput]:
    """A student of 3 channels and a teacher of 4."""
    return with_maps(0, 3), with_maps(1, 4)


@pytest.fixture
def assignment(pair: tuple[DenseOutput, DenseOutput]) -> Assignment:
    positive = torch.zeros(pair[0].cls_logits.shape[:2], dtype=torch.bool)
    positive[0, 3] = positive[1, 22] = True
    return Assignment.for_distillation(positive)


def built(name: str, pair: tuple[DenseOutput, DenseOutput]) -> nn.Module:
    torch.manual_seed(3)
    return MODULES[name](*pair)


def value(
    term: nn.Module, pair: tuple[DenseOutput, DenseOutput], assignment: Assignment, batch: Batch
) -> Tensor:
    torch.manual_seed(4)  # of MGD's mask
    return term(*pair, assignment, batch)


def adapted(term: nn.Module, pair: tuple[DenseOutput, DenseOutput]) -> list[tuple[Tensor, Tensor]]:
    rows = zip(term.adapters, pair[0].features, pair[1].features, strict=True)
    return [(adapt(ours).detach(), theirs.detach()) for adapt, ours, theirs in rows]


@pytest.mark.parametrize("name", MODULES)
class TestEach:
    def test_student_and_adapters_learn_and_the_teacher_does_not(
        self, name: str, pair: tuple[DenseOutput, DenseOutput], assignment: Assignment
    ) -> None:
        term = built(name, pair)
        value(term, pair, assignment, batch_of(BOXES)).backward()
        learn = (
            any if name == "fine_grained" else all
        )  # whose anchors fit objects of one level here
        assert learn(map_.grad is not None and map_.grad.any() for map_ in pair[0].features)
        assert all(map_.grad is None for map_ in pair[1].features)
        assert learn(x.weight.grad.any() for x in term.adapters)

    def test_two_copies_of_a_batch_have_the_value_of_one(
        self,
        name: str,
        pair: tuple[DenseOutput, DenseOutput],
        assignment: Assignment,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        term = built(name, pair)
        if name == "mgd":
            term.eval()
            one = [
                g(x * 0.5) for g, (x, _) in zip(term.generators, adapted(term, pair), strict=True)
            ]
            assert all(torch.isfinite(x).all() for x in one)
            return  # its mask is drawn anew for each image
        doubled = [
            replace(
                output,
                features=tuple(torch.cat([x, x]) for x in output.features),
                cls_logits=torch.cat([output.cls_logits] * 2),
                boxes=torch.cat([output.boxes] * 2),
            )
            for output in pair
        ]
        both = Assignment.for_distillation(torch.cat([assignment.positive] * 2))
        one = value(term, pair, assignment, batch_of(BOXES))
        two = value(term, (doubled[0], doubled[1]), both, batch_of(BOXES * 2))
        assert two.item() == pytest.approx(one.item(), rel=1e-5)

    def test_images_without_objects(
        self, name: str, pair: tuple[DenseOutput, DenseOutput], assignment: Assignment
    ) -> None:
        none = replace(assignment, positive=torch.zeros_like(assignment.positive))
        found = value(built(name, pair), pair, none, batch_of([[], []]))
        assert found.isfinite() and found.dim() == 0

    def test_equal_channels_need_no_adapter(
        self, name: str, with_maps: Callable[[int, int], DenseOutput], assignment: Assignment
    ) -> None:
        alike = with_maps(0, 4), with_maps(1, 4)
        term = built(name, alike)
        assert not [*term.adapters.parameters()]
        assert value(term, alike, assignment, batch_of(BOXES)) > 0

    def test_the_host_never_waits_for_a_gpu(
        self, name: str, pair: tuple[DenseOutput, DenseOutput]
    ) -> None:
        count, batch = len(pair[0].locations.centres), batch_of(BOXES)
        with warnings.catch_warnings(), FakeTensorMode(), torch.device("cuda"):
            warnings.filterwarnings("ignore", "CUDA is not available")
            places = replace(
                pair[0].locations, centres=torch.zeros(count, 2), strides=torch.zeros(count)
            )
            said = torch.zeros(2, count, 3), torch.zeros(2, count, 4), places
            both = [
                DenseOutput(*said, features=tuple(torch.ones(2, c, *shape) for shape in SHAPES))
                for c in (3, 4)
            ]
            assigned = Assignment.for_distillation(torch.zeros(2, count, dtype=torch.bool))
            rows = torch.zeros(2, 3, 4), torch.zeros(2, 3).long(), torch.zeros(2, 3).bool()
            pixels = torch.zeros(2, 3, 32, 40)
            batch = replace(batch, pixels=pixels, ground_truth=GroundTruth(*rows))
            term = MODULES[name](*both)
            with NoCopies():
                assert term(*both, assigned, batch).device.type == "cuda"

    def test_a_teacher_of_itself(
        self, name: str, with_maps: Callable[[int, int], DenseOutput], assignment: Assignment
    ) -> None:
        """The least there is; MGD's generators have not learnt yet."""
        same = with_maps(0, 4)
        found = value(built(name, (same, same)), (same, same), assignment, batch_of(BOXES))
        assert found.item() == pytest.approx(0, abs=1e-6) or name == "mgd"


def test_fitnet_by_hand(pair: tuple[DenseOutput, DenseOutput], assignment: Assignment) -> None:
    term = FitNet(*pair)
    expected = 0.0
    for ours, theirs in adapted(term, pair):
        rows = (x.flatten().tolist() for x in (ours, theirs))
        gaps = [(a - b) ** 2 for a, b in zip(*rows, strict=True)]
        expected += sum(gaps) / len(gaps)
    found = value(term, pair, assignment, batch_of(BOXES))
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_mgd_by_hand(
    pair: tuple[DenseOutput, DenseOutput],
    assignment: Assignment,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    term = MaskedGeneration(*pair)
    masks = [torch.rand(2, 1, *shape) < 0.5 for shape in SHAPES]
    left = iter(masks)
    monkeypatch.setattr(mgd.torch, "rand_like", lambda x: next(left).float())
    expected = 0.0
    rows = zip(term.generators, adapted(term, pair), masks, strict=True)
    for generate, (ours, theirs), kept in rows:
        first, _, second = generate
        for image in range(2):
            hidden = ours[image : image + 1].clone()
            hidden[..., ~kept[image, 0]] = 0
            made = F.conv2d(hidden, first.weight, first.bias, padding=1).clamp(min=0)
            made = F.conv2d(made, second.weight, second.bias, padding=1)
            expected += (made - theirs[image]).square().sum().item() / 2
    found = term(*pair, assignment, batch_of(BOXES))
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_mgd_hides_two_thirds_of_the_cells_of_all_channels() -> None:
    seen = []

    def generate(x: Tensor) -> Tensor:
        seen.append(x)
        return x

    ones = torch.ones(4, 5, 60, 60)
    torch.manual_seed(0)
    mgd._gap(generate, ones, ones)
    assert seen[0].mean().item() == pytest.approx(0.35, abs=0.01)
    assert torch.equal(seen[0].amin(dim=1), seen[0].amax(dim=1))


class TestCells:
    LEVEL = Level(8, 4, 5)

    def test_they_are_those_of_the_box_rounded_outwards(self) -> None:
        cells = object_cells(batch_of(BOXES).ground_truth, self.LEVEL)
        expected = torch.zeros(2, 2, 4, 5, dtype=torch.bool)
        expected[0, 0, 0:4, 0:4] = True  # rows 2/8 to 30/8, columns 3/8 to 18/8
        expected[0, 1, 1:3, 1:3] = True
        expected[1, 0, 0:3, 2:5] = True
        assert torch.equal(cells.inside, expected)

    def test_the_smallest_object_of_a_cell_counts(self) -> None:
        cells = object_cells(batch_of(BOXES).ground_truth, self.LEVEL)
        # 0 to 4 and 0 to 3, both ends counted, though the map has 4 rows; 1 to 2 both ways.
        assert cells.scale[0, 0, 0].item() == pytest.approx(1 / (5 * 4))
        assert cells.scale[0, 1, 1].item() == pytest.approx(1 / 4)
        assert cells.scale[0, 3, 4] == 0

    def test_crowds_and_padding_are_no_objects(self) -> None:
        truth = batch_of(BOXES).ground_truth
        crowd = torch.tensor([[True, False], [False, False]])
        cells = object_cells(replace(truth, crowd=crowd), self.LEVEL)
        assert not cells.inside[0, 0].any() and cells.inside[0, 1].any()
        assert not cells.inside[1, 1].any()


def test_fgd_by_hand(pair: tuple[DenseOutput, DenseOutput], assignment: Assignment) -> None:
    """Cell by cell; its relation, which learns, left out by making both sides' the same."""
    term = FocalAndGlobal(*pair)
    batch = batch_of(BOXES)
    expected = 0.0
    for n, (ours, theirs) in enumerate(adapted(term, pair)):
        level = pair[0].locations.levels[n]
        cells = object_cells(batch.ground_truth, level)
        channels, (height, width) = ours.shape[1], ours.shape[2:]
        for image in range(2):
            s_t, c_t = attention(theirs[image])
            s_s, c_s = attention(ours[image])
            outside = sum(not cells.any[image, y, x] for y in range(height) for x in range(width))
            for y in range(height):
                for x in range(width):
                    inside = cells.any[image, y, x]
                    weight = 1e-3 * cells.scale[image, y, x] if inside else 5e-4 / outside
                    for c in range(channels):
                        gap = (ours[image, c, y, x] - theirs[image, c, y, x]) ** 2
                        expected += float(weight * s_t[y][x] * c_t[c] * gap) / 2
                    expected += 1e-3 * abs(s_t[y][x] - s_s[y][x]) / 2
            expected += 1e-3 * sum(abs(a - b) for a, b in zip(c_t, c_s, strict=True)) / 2
            relation = term.relations[n](ours) - term.teachers_relations[n](theirs)
            expected += 5e-6 * relation[image].square().sum().item() / 2
    found = value(term, pair, assignment, batch)
    assert found.item() == pytest.approx(expected, rel=1e-4)


def attention(x: Tensor) -> tuple[list[list[float]], list[float]]:
    """FGD's of one image (C, H, W), from the paper's equations 3 and 4 alone."""
    channels, height, width = x.shape
    cells = [[math.exp(x[:, i, j].abs().mean() / 0.5) for j in range(width)] for i in range(height)]
    each = [math.exp(x[c].abs().mean() / 0.5) for c in range(channels)]
    whole = sum(map(sum, cells))
    spatial = [[height * width * value / whole for value in row] for row in cells]
    return spatial, [channels * value / sum(each) for value in each]


def test_fgds_relation_begins_as_the_map_itself(pair: tuple[DenseOutput, DenseOutput]) -> None:
    term = FocalAndGlobal(*pair)
    map_ = pair[1].features[0].detach()
    assert torch.equal(term.relations[0](map_), map_)


def test_defeat_by_hand(pair: tuple[DenseOutput, DenseOutput], assignment: Assignment) -> None:
    term = Decoupled(*pair)
    batch = batch_of(BOXES)
    expected = 0.0
    for n, (ours, theirs) in enumerate(adapted(term, pair)):
        inside = object_cells(batch.ground_truth, pair[0].locations.levels[n]).any
        for mask, factor in ((inside, 1.0), (~inside, 4.0)):
            cells = mask.nonzero().tolist()
            for image, y, x in cells:
                rows = zip(
                    ours[image, :, y, x].tolist(), theirs[image, :, y, x].tolist(), strict=True
                )
                expected += factor * sum((a - b) ** 2 for a, b in rows) / (2 * len(cells))
    found = value(term, pair, assignment, batch)
    assert found.item() == pytest.approx(expected, rel=1e-4)


class TestFineGrained:
    def test_by_hand(self, pair: tuple[DenseOutput, DenseOutput], assignment: Assignment) -> None:
        term = FineGrained(*pair)
        batch = batch_of(BOXES)
        places = pair[0].locations
        half = 4.0 * places.strides[:, None]  # squares of eight strides
        anchors = torch.cat([places.centres - half, places.centres + half], dim=1)
        near = torch.zeros(2, len(anchors), dtype=torch.bool)
        for image, boxes in enumerate(BOXES):
            for box in boxes:
                overlaps = [overlap(box, anchor) for anchor in anchors.tolist()]
                near[image] |= torch.tensor([x > 0.5 * max(overlaps) for x in overlaps])
        expected, start = 0.0, 0
        for ours, theirs in adapted(term, pair):
            cells = ours[0, 0].numel()
            mask = near[:, start : start + cells].view(2, 1, *ours.shape[2:])
            expected += ((ours - theirs).square() * mask).sum().item() / (2 * near.sum().item())
            start += cells
        assert 0 < near.sum() < near.numel()
        assert value(term, pair, assignment, batch).item() == pytest.approx(expected, rel=1e-5)

    def test_several_anchors_of_a_cell_are_one_place(self, pair: tuple[DenseOutput, ...]) -> None:
        places = with_anchors(pair[0].locations, [(1.0, 1.0), (8.0, 8.0)])
        masks = near_objects(places, batch_of(BOXES).ground_truth)
        assert [mask.shape for mask in masks] == [(2, *shape) for shape in SHAPES]
        assert all(mask.any() for mask in masks[:1])


def overlap(a: list[float], b: list[float]) -> float:
    sides = [min(a[n + 2], b[n + 2]) - max(a[n], b[n]) for n in (0, 1)]
    shared = max(sides[0], 0) * max(sides[1], 0)
    areas = [(x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)]
    return shared / (sum(areas) - shared)


class TestGeneralInstances:
    def test_they_are_what_suppression_keeps(
        self, pair: tuple[DenseOutput, DenseOutput], assignment: Assignment
    ) -> None:
        """Greedy suppression by loops: the largest gap first, no overlap above .3."""
        student, teacher = pair
        boxes, levels = general_instances(student, teacher, assignment.valid)
        for image in range(2):
            p, q = (x.scores[image] for x in (student, teacher))
            gaps = (p - q).abs().amax(dim=1).tolist()
            surer = (q.amax(dim=1) >= p.amax(dim=1)).tolist()
            mine = [
                (teacher if sure else student).boxes[image, n].tolist()
                for n, sure in enumerate(surer)
            ]
            kept: list[int] = []
            for n in sorted(range(len(gaps)), key=lambda n: -gaps[n]):
                if all(overlap(mine[n], mine[k]) <= 0.3 for k in kept):
                    kept.append(n)
            count = min(len(kept), 10)
            expected = torch.tensor([mine[n] for n in kept[:10]])
            torch.testing.assert_close(boxes[image, :count], expected)
            of_level = [int(n >= 20) for n in kept[:10]]
            assert levels[image, :count].tolist() == of_level

    def test_by_hand(self, pair: tuple[DenseOutput, DenseOutput], assignment: Assignment) -> None:
        term = GeneralInstances(*pair)
        boxes, levels = general_instances(*pair, assignment.valid)
        maps = adapted(term, pair)
        feature, gaps = 0.0, []
        for image in range(2):
            rows = [[], []]
            for box, level in zip(boxes[image], levels[image].tolist(), strict=True):
                for side in (0, 1):
                    map_ = maps[level][side][image : image + 1]
                    scale = 1 / pair[0].locations.levels[level].stride
                    rows[side].append(
                        roi_align(map_, [box[None]], 7, scale, aligned=True).flatten()
                    )
            ours, theirs = (torch.stack(x) for x in rows)
            feature += (ours - theirs).square().sum().item() / 2
            distances = []
            for x in (ours, theirs):
                d = [[(a - b).norm().item() for b in x] for a in x]
                mean = sum(map(sum, d)) / (10 * 9)
                distances.append([value / mean for row in d for value in row])
            gaps += [abs(a - b) for a, b in zip(*distances, strict=True)]
        smooth = [x * x / 2 if x < 1 else x - 0.5 for x in gaps]
        expected = 5e-4 * feature + 40 * sum(smooth) / len(smooth)
        found = value(term, pair, assignment, batch_of(BOXES))
        assert found.item() == pytest.approx(expected, rel=1e-3)
