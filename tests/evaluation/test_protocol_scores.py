"""Softmax and sigmoid scores by kind of location, and the numbers made of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from bckd.datasets.annotations import read_annotations
from bckd.datasets.coco import CocoDataset
from bckd.evaluation.average_precision import evaluation_loader
from bckd.evaluation.protocol_scores import (
    KEPT,
    TopScores,
    compare_protocols,
    contradicted_by_classes,
    kinds_of,
    named_above,
    top_scores,
    write_scores,
)
from bckd.geometry import grid, with_anchors
from bckd.image_size import ImageSize
from bckd.models.detector import Detector
from bckd.models.supervision import assign
from bckd.normalisation import IMAGENET
from bckd.structures import Batch, DenseOutput, GroundTruth
from bckd.system.errors import InputError

FRAME = [16, 0, 80, 56]
BOXES = [[24.0, 8.0, 56.0, 40.0], [60.0, 30.0, 78.0, 54.0]]


def output_at(cls_logits: Tensor | None = None, per_cell: int = 1) -> DenseOutput:
    """Of one image of 64 x 96 pixels: 8 x 12 cells of stride 8, anchors of three strides."""
    locations = with_anchors(grid([(8, 12)], [8], offset=0.5), [(3.0, 3.0)] * per_cell)
    count = len(locations.centres)
    logits = torch.zeros(1, count, 2) if cls_logits is None else cls_logits
    return DenseOutput(logits, torch.zeros(1, count, 4), locations)


def batch_of(boxes: list[list[float]], crowd: list[bool]) -> Batch:
    """One image in black margins; both boxes have the label 1."""
    labels = torch.ones(len(boxes), dtype=torch.long)
    truth = GroundTruth.from_lists([torch.tensor(boxes)], [labels], [torch.tensor(crowd)])
    size = torch.tensor([[64, 96]])
    frames = torch.tensor([FRAME])
    return Batch(
        pixels=torch.zeros(1, 3, 64, 96, dtype=torch.uint8),
        normalisation=IMAGENET,
        sizes=size,
        padded_sizes=size,
        canvases=((64, 96),),
        original_sizes=size,
        frames=frames,
        ground_truth=truth,
        indices=(0,),
        flipped=(False,),
        image_ids=(1,),
        file_names=("a.png",),
    )


def within(centres: Tensor, box: list[float]) -> Tensor:
    low, high = torch.tensor(box[:2]), torch.tensor(box[2:])
    return ((centres > low) & (centres < high)).all(dim=-1)


def scores_of(softmax: list[float], sigmoid: list[float]) -> TopScores:
    return TopScores(*(np.array(values, np.float16) for values in (softmax, sigmoid)))


class TestKinds:
    def test_boxes_divide_the_picture(self) -> None:
        output, batch = output_at(), batch_of(BOXES, [False, False])
        kinds = {kind: where[0] for kind, where in kinds_of(output, batch).items()}
        positive = assign("gfl", output, batch.ground_truth, batch.padded_sizes).positive[0]
        centres = output.locations.centres
        inside = within(centres, BOXES[0]) | within(centres, BOXES[1])
        picture = within(centres, FRAME)
        assert 0 < positive.sum() < inside.sum() < picture.sum() < len(centres)
        assert torch.equal(kinds["objects"], positive)
        assert torch.equal(kinds["between"], inside & ~positive)
        assert torch.equal(kinds["background"], picture & ~inside)

    def test_crowd_regions_are_none_of_them(self) -> None:
        output = output_at()
        kinds = kinds_of(output, batch_of(BOXES, [False, True]))
        crowd = within(output.locations.centres, BOXES[1])
        assert crowd.any()
        for where in kinds.values():
            assert not (where[0] & crowd).any()
        assert kinds["between"].any() and kinds["background"].any()

    def test_without_boxes_all_of_the_picture_is_background(self) -> None:
        batch = batch_of(BOXES, [False, False])
        none = GroundTruth.from_lists([torch.zeros(0, 4)], [torch.zeros(0, dtype=torch.long)])
        kinds = kinds_of(output_at(), replace(batch, ground_truth=none))
        assert [int(where.sum()) for where in kinds.values()] == [8 * 7, 0, 0]

    @pytest.mark.parametrize("kind", ["points", "two anchors"])
    def test_other_detectors_are_refused(self, kind: str) -> None:
        output = output_at(per_cell=2)
        if kind == "points":
            output = output_at()
            output = replace(output, locations=replace(output.locations, anchors=None))
        with pytest.raises(InputError, match="no anchors or several a cell"):
            kinds_of(output, batch_of(BOXES, [False, False]))


class TestTopScores:
    @pytest.fixture
    def dataset(self, scenes_root: Path) -> CocoDataset:
        annotations = read_annotations(scenes_root / "annotations" / "instances_val.json")
        return CocoDataset(scenes_root / "val", annotations, ImageSize(64, 64))

    def test_all_images_location_by_location(
        self, dataset: CocoDataset, tiny_detector: Callable[..., Detector]
    ) -> None:
        detector = tiny_detector()
        together, one_by_one = (
            top_scores(detector, evaluation_loader(dataset, size), progress=False)
            for size in (8, 1)
        )
        assert sum(len(found.softmax) for found in together.values()) == 8 * (64 + 16 + 4)
        for kind, found in together.items():
            assert len(found.softmax) == len(found.sigmoid) > 0
            for name, values in vars(found).items():
                assert values.dtype == np.float16
                np.testing.assert_allclose(
                    values, getattr(one_by_one[kind], name), rtol=2e-3, err_msg=f"{kind} {name}"
                )
        classes = len(detector.class_names)
        assert all((x.softmax >= np.float16(1 / classes)).all() for x in together.values())

    def test_values_are_of_the_highest_logit(
        self, dataset: CocoDataset, tiny_detector: Callable[..., Detector]
    ) -> None:
        """One class's bias alone: softmax and sigmoid follow from it."""
        detector = tiny_detector()
        torch.nn.init.zeros_(detector.head.cls.weight)
        with torch.no_grad():
            detector.head.cls.bias.copy_(torch.tensor([-6.0, -6, -6, -3, -6, -6]))
        found = top_scores(detector, evaluation_loader(dataset, 4), progress=False)
        for values in found.values():
            assert values.softmax == pytest.approx(1 / (1 + 5 * math.exp(-3)), rel=1e-3)
            assert values.sigmoid == pytest.approx(1 / (1 + math.exp(3)), rel=1e-3)
        numbers = compare_protocols(found, 6)
        assert numbers.background.contradicted == numbers.background.named == 1
        assert numbers.background.detected == 0
        assert numbers.softmax_auc == numbers.sigmoid_auc == 0.5

    @pytest.mark.parametrize("training", [True, False])
    def test_the_mode_of_the_detector_is_restored(
        self, dataset: CocoDataset, tiny_detector: Callable[..., Detector], training: bool
    ) -> None:
        detector = tiny_detector(norm_eval=True).train(training)
        modes = [module.training for module in detector.modules()]
        top_scores(detector, evaluation_loader(dataset, 8), progress=False)
        assert [module.training for module in detector.modules()] == modes


class TestNumbers:
    def test_shares_and_medians(self) -> None:
        some = scores_of([0.6, 0.7, 0.2, 0.5], [0.04, 0.9, 0.3, 0.01])
        found = compare_protocols(
            {"background": some, "between": some, "objects": some}, 80
        ).between
        assert (found.count, found.named, found.detected, found.contradicted) == (4, 0.5, 0.5, 0.25)
        assert found.softmax_median == pytest.approx(0.55, abs=1e-3)
        assert found.sigmoid_median == pytest.approx(0.17, abs=1e-3)

    def test_auc_counts_pairs(self) -> None:
        rng = np.random.default_rng(0)
        objects, background = (
            scores_of(*(rng.integers(1, 6, (2, count)) / 8).tolist()) for count in (11, 17)
        )
        empty = scores_of([], [])
        found = compare_protocols(
            {"background": background, "between": empty, "objects": objects}, 80
        )
        for auc, name in ((found.softmax_auc, "softmax"), (found.sigmoid_auc, "sigmoid")):
            ours, theirs = getattr(objects, name)[:, None], getattr(background, name)
            assert auc == pytest.approx(np.mean((ours > theirs) + 0.5 * (ours == theirs)))

    def test_a_shift_is_seen_by_the_sigmoid_alone(self) -> None:
        """Objects and background of the same softmax, at different levels of the logits."""
        softmax = [0.3, 0.51, 0.7]
        objects, background = (
            scores_of(softmax, sigmoid) for sigmoid in ([0.4, 0.5, 0.6], [0.1, 0.2, 0.3])
        )
        found = compare_protocols(
            {"background": background, "between": background, "objects": objects}, 80
        )
        assert found.softmax_auc == 0.5
        assert found.sigmoid_auc == found.alike_auc == 1

    def test_alike_pairs_have_the_same_softmax(self) -> None:
        """Over all pairs the sigmoid wins one of four; at equal softmax none."""
        objects, background = scores_of([0.2, 0.8], [0.1, 0.5]), scores_of([0.2, 0.8], [0.2, 0.6])
        kinds = {"background": background, "between": background, "objects": objects}
        found = compare_protocols(kinds, 80)
        assert (found.sigmoid_auc, found.alike_auc) == (0.25, 0)

    def test_bins_count_by_their_objects(self) -> None:
        objects = scores_of([0.21, 0.21, 0.21, 0.81, 0.95], [0.5, 0.5, 0.5, 0.1, 0.0])
        background = scores_of([0.21, 0.81, 0.81], [0.2, 0.2, 0.2])
        kinds = {"background": background, "between": background, "objects": objects}
        assert compare_protocols(kinds, 80).alike_auc == 0.75

    def test_nothing_to_compare(self) -> None:
        empty = scores_of([], [])
        some = scores_of([0.4], [0.2])
        found = compare_protocols({"background": some, "between": empty, "objects": empty}, 80)
        assert found.objects.count == 0 and found.background.count == 1
        assert math.isnan(found.objects.named) and math.isnan(found.objects.sigmoid_median)
        for auc in (found.softmax_auc, found.sigmoid_auc, found.alike_auc):
            assert math.isnan(auc)


class TestFile:
    def test_arrays_come_back_evenly_thinned(self, tmp_path: Path) -> None:
        many = np.linspace(0, 1, 3 * KEPT).astype(np.float16)
        few = scores_of([0.3, 0.4], [0.1, 0.2])
        scores = {
            "background": TopScores(many, many[::-1]),
            "between": few,
            "objects": scores_of([], []),
        }
        path = tmp_path / "new" / "scores.npz"
        write_scores(path, scores)
        assert list(path.parent.iterdir()) == [path]
        found = np.load(path, allow_pickle=False)
        assert set(found) == {f"{kind}_{name}" for kind in scores for name in vars(few)}
        assert found["between_sigmoid"].tolist() == few.sigmoid.tolist()
        assert found["objects_softmax"].shape == (0,)
        kept = found["background_softmax"]
        assert kept.dtype == np.float16 and len(kept) == KEPT
        assert (kept[0], kept[-1]) == (0, 1)
        assert kept.astype(np.float32).mean() == pytest.approx(0.5, abs=1e-3)
        assert np.allclose(kept + found["background_sigmoid"], 1, atol=1e-3), "still pairs"


class TestByClasses:
    @pytest.fixture
    def loader(self, scenes_root: Path) -> object:
        annotations = read_annotations(scenes_root / "annotations" / "instances_val.json")
        return evaluation_loader(
            CocoDataset(scenes_root / "val", annotations, ImageSize(64, 64)), 4
        )

    def test_all_classes_give_the_share_of_the_top_scores(
        self, tiny_detector: Callable[..., Detector], loader: object
    ) -> None:
        detector = tiny_detector(seed=3)
        with torch.no_grad():
            detector.head.cls.weight *= 300
        found = contradicted_by_classes(detector, loader, draws=2, progress=False)
        assert list(found) == [2, 3, 6]
        numbers = compare_protocols(top_scores(detector, loader, progress=False), 6)
        assert 0 < found[6] == pytest.approx(numbers.background.contradicted, abs=2e-3)

    @pytest.mark.parametrize("gap", [0.0, 1e-3, 1.0])
    def test_nearly_equal_logits_name_nothing_however_few_there_are(
        self, tiny_detector: Callable[..., Detector], loader: object, gap: float
    ) -> None:
        """Of two classes one has always more than half; that alone says nothing."""
        detector = tiny_detector()
        with torch.no_grad():
            detector.head.cls.weight.zero_()
            detector.head.cls.bias.copy_(gap * torch.arange(6) / 5 - 6)
        found = contradicted_by_classes(detector, loader, draws=3, progress=False)
        assert found == {2: 0.0, 3: 0.0, 6: 0.0}

    def test_the_bound_moves_with_the_number_of_classes(self) -> None:
        assert [named_above(count) for count in (1, 2, 5)] == pytest.approx([1, 0.75, 0.6])
