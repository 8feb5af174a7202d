"""Average precision and detections as COCO results."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from PIL import Image
from pycocotools.cocoeval import COCOeval
from torch import Tensor, nn

from bckd.datasets.annotations import Annotations, read_annotations
from bckd.datasets.coco import CocoDataset
from bckd.evaluation.average_precision import (
    ceiling,
    detect,
    evaluate,
    evaluation_loader,
    find_objects,
    score,
    to_results,
    write_results,
)
from bckd.image_size import ImageSize
from bckd.models.detector import Detector, HeadName
from bckd.models.postprocess import PostProcess, postprocess
from bckd.recipes import Scorer
from bckd.structures import Detections
from bckd.system.errors import InputError
from bckd.system.precision import Precision
from bckd.zoo.checkpoints import load_detector

SIZE = ImageSize(short_side=48, long_side=80)
TEACHER = Path(__file__).parents[2] / "data" / "weights" / "scenes_teacher.safetensors"


@pytest.fixture
def dataset(custom_root: Path) -> CocoDataset:
    annotations = read_annotations(custom_root / "annotations" / "instances_val.json")
    return CocoDataset(custom_root / "val", annotations, SIZE)


class Oracle(nn.Module):
    """Knows the ground truth of a data set and reports it image by image, in order."""

    def __init__(self, dataset: CocoDataset) -> None:
        super().__init__()
        self.parameter = nn.Parameter(torch.zeros(1))
        self.samples = iter([dataset.sample(index, False) for index in range(len(dataset))])

    def detect(self, images: Tensor, sizes: Tensor) -> list[Detections]:
        found = []
        for size in sizes.tolist():
            sample = next(self.samples)
            assert list(sample.image.shape[1:]) == size
            keep = ~sample.crowd
            scores = torch.full((int(keep.sum()),), 0.8)
            found.append(Detections(sample.boxes[keep], scores, sample.labels[keep]))
        return found


class TestDetect:
    @pytest.mark.parametrize("size", [SIZE, ImageSize(48, 80, pad_multiple=80, centred=True)])
    def test_boxes_come_back_to_the_pixels_of_the_files(
        self, custom_root: Path, size: ImageSize
    ) -> None:
        annotations = read_annotations(custom_root / "annotations" / "instances_val.json")
        dataset = CocoDataset(custom_root / "val", annotations, size)
        metrics, results = evaluate(Oracle(dataset), dataset, batch_size=3, progress=False)
        truth = [row for row in dataset.annotations.content["annotations"] if not row["iscrowd"]]
        assert len(results) == len(truth)
        for result, row in zip(results, truth, strict=True):
            assert result["image_id"] == row["image_id"]
            assert result["category_id"] == row["category_id"]
            assert result["bbox"] == pytest.approx(row["bbox"], abs=0.002)
        assert metrics.AP == pytest.approx(1.0)

    def test_boxes_end_with_the_picture(self, dataset: CocoDataset) -> None:
        class Everywhere(nn.Linear):
            def detect(self, images: Tensor, sizes: Tensor) -> list[Detections]:
                boxes = torch.cat([torch.zeros_like(sizes), sizes.flip(1)], dim=1).float()
                label = torch.zeros(1, dtype=torch.long)
                return [Detections(box[None], torch.ones(1), label) for box in boxes]

        centred = replace(dataset.size, pad_multiple=80, centred=True)
        dataset = CocoDataset(dataset.folder, dataset.annotations, centred)
        _, results = evaluate(Everywhere(1, 1), dataset, progress=False)
        for result, image in zip(results, dataset.images, strict=True):
            assert result["bbox"] == pytest.approx([0, 0, image.width, image.height])

    @pytest.mark.parametrize("training", [True, False])
    def test_the_mode_of_the_detector_is_restored(
        self, dataset: CocoDataset, tiny_detector: Callable[..., Detector], training: bool
    ) -> None:
        detector = tiny_detector(dataset.annotations.class_names, norm_eval=True).train(training)
        modes = [module.training for module in detector.modules()]
        before = {name: value.clone() for name, value in detector.state_dict().items()}
        evaluate(detector, dataset, progress=False)
        assert [module.training for module in detector.modules()] == modes
        for name, value in detector.state_dict().items():
            assert torch.equal(value, before[name]), f"{name} changed by looking"

    def test_the_batch_size_does_not_matter(
        self, scenes_root: Path, tiny_detector: Callable[..., Detector]
    ) -> None:
        annotations = read_annotations(scenes_root / "annotations" / "instances_val.json")
        scenes = CocoDataset(scenes_root / "val", annotations, ImageSize(64, 64))
        detector = tiny_detector()
        with torch.no_grad():
            detector.head.cls.bias += 3
        one, all_at_once = (
            detect(detector, evaluation_loader(scenes, size), annotations, progress=False)
            for size in (1, 8)
        )
        assert len(one) > 50
        assert len(one) == len(all_at_once)
        for a, b in zip(one, all_at_once, strict=True):
            assert a["image_id"] == b["image_id"]
            assert a["score"] == pytest.approx(b["score"], abs=1e-5)


class TestPrecision:
    """The network computes in what is asked for; what it finds is float32."""

    @pytest.mark.parametrize(
        ("precision", "dtype"), [("float32", torch.float32), ("bf16", torch.bfloat16)]
    )
    def test_of_convolutions_and_of_detections(
        self,
        scenes_root: Path,
        tiny_detector: Callable[..., Detector],
        precision: Precision,
        dtype: torch.dtype,
    ) -> None:
        annotations = read_annotations(scenes_root / "annotations" / "instances_val.json")
        scenes = CocoDataset(scenes_root / "val", annotations, ImageSize(64, 64))
        detector = tiny_detector()
        with torch.no_grad():
            detector.head.cls.bias += 3
        seen = []
        detector.head.cls.register_forward_hook(lambda *given: seen.append(given[2].dtype))
        found = find_objects(
            detector, evaluation_loader(scenes, 4), progress=False, precision=precision
        )
        assert set(seen) == {dtype}
        assert {image.scores.dtype for _, image in found} == {torch.float32}
        assert sum(len(image.scores) for _, image in found) > 50

    @pytest.mark.parametrize("scorer", get_args(Scorer))
    def test_ap_in_bfloat16(self, scenes_root: Path, scorer: Scorer) -> None:
        annotations = read_annotations(scenes_root / "annotations" / "instances_val.json").first(8)
        scenes = CocoDataset(scenes_root / "val", annotations, ImageSize(128, 128))
        detector = load_detector(TEACHER).detector
        (exact, some), (half, others) = (
            evaluate(detector, scenes, progress=False, precision=precision, scorer=scorer)
            for precision in ("float32", "bf16")
        )
        assert some != others
        assert exact.AP > 0.3 and half.AP == pytest.approx(exact.AP, abs=0.02)


class TestCompany:
    """Detections of an image are the same alone and in company, whatever the sizes."""

    @pytest.mark.parametrize("head", get_args(HeadName))
    @pytest.mark.parametrize("batch_size", [3, 16])
    def test_of_each_head(
        self, mixed_root: Path, tiny_detector: Callable[..., Detector], head: str, batch_size: int
    ) -> None:
        annotations = read_annotations(mixed_root / "annotations" / "instances_val.json")
        dataset = CocoDataset(mixed_root / "train", annotations, ImageSize(48, 96))
        canvases = [dataset.canvas(index) for index in range(len(dataset))]
        assert 2 < len(set(canvases)) < len(canvases)
        detector = tiny_detector(annotations.class_names, head=head)
        with torch.no_grad():
            detector.head.cls.weight *= 40
            detector.head.cls.bias += 3
        (_, alone), (_, together) = (
            evaluate(detector, dataset, size, progress=False) for size in (1, batch_size)
        )
        order = [image.id for image in dataset.images]
        assert len(alone) > 300 and list(dict.fromkeys(x["image_id"] for x in together)) == order
        assert len(together) == len(alone)
        left = [self.numbers(row) for row in together]
        for row in alone:  # in the same order, but for scores that are nearly equal
            expected = pytest.approx(
                self.numbers(row), abs=1e-4 + 1e-3
            )  # boxes are rounded to .001
            same = next(n for n, other in enumerate(left[:3]) if other == expected)
            assert abs(left.pop(same)[2] - row["score"]) < 1e-4

    def numbers(self, row: dict[str, Any]) -> tuple[float, ...]:
        return (row["image_id"], row["category_id"], row["score"], *row["bbox"])

    def test_ap_of_a_trained_detector(self, scenes_root: Path, tmp_path: Path) -> None:
        """The scenes' teacher on crops of them, half wide and half tall."""
        content = json.loads((scenes_root / "annotations" / "instances_val.json").read_text())
        boxes = {entry["id"]: (0, 0, 128, 128) for entry in content["images"]}
        for n, entry in enumerate(content["images"]):
            entry["width"], entry["height"] = width, height = ((128, 90 + n), (90 + n, 128))[n % 2]
            boxes[entry["id"]] = (0, 0, width, height)
            with Image.open(scenes_root / "val" / entry["file_name"]) as picture:
                picture.crop(boxes[entry["id"]]).save(tmp_path / entry["file_name"])
        kept = []
        for row in content["annotations"]:
            x, y, w, h = row["bbox"]
            _, _, width, height = boxes[row["image_id"]]
            if x + w <= width and y + h <= height:
                kept.append(row)
        path = tmp_path / "val.json"
        path.write_text(json.dumps({**content, "annotations": kept}))
        dataset = CocoDataset(tmp_path, read_annotations(path), ImageSize(128, 256))
        detector = load_detector(TEACHER).detector
        found = [evaluate(detector, dataset, size, progress=False)[0].AP for size in (1, 3, 16)]
        assert found[0] > 0.3
        assert found[1:] == pytest.approx([found[0]] * 2, abs=1e-6)

    def test_a_batch_is_of_one_padded_size_and_each_image_comes_once(
        self, mixed_root: Path
    ) -> None:
        annotations = read_annotations(mixed_root / "annotations" / "instances_val.json")
        dataset = CocoDataset(mixed_root / "train", annotations, ImageSize(48, 96))
        batches = list(evaluation_loader(dataset, 3))
        assert max(len(batch.images) for batch in batches) == 3
        for batch in batches:
            assert {tuple(size) for size in batch.padded_sizes.tolist()} == {
                tuple(batch.images.shape[-2:])
            }
            assert set(batch.canvases) == {tuple(batch.images.shape[-2:])}
        seen = [index for batch in batches for index in batch.indices]
        assert sorted(seen) == list(range(len(dataset)))
        shares = [
            [
                index
                for batch in evaluation_loader(dataset, 3, share=(p, 3))
                for index in batch.indices
            ]
            for p in range(3)
        ]
        assert sorted(sum(shares, [])) == sorted(seen)
        assert {len(share) for share in shares} == {5, 6}


class TestNoNumbers:
    """What is no number is never found, judged or written."""

    @pytest.mark.parametrize("part", ["boxes", "scores"])
    @pytest.mark.parametrize("head", get_args(HeadName))
    def test_a_detector_of_nan_is_told_by_its_images(
        self,
        dataset: CocoDataset,
        tiny_detector: Callable[..., Detector],
        head: str,
        part: str,
    ) -> None:
        detector = tiny_detector(dataset.annotations.class_names, head=head)
        branch = detector.head.box if part == "boxes" else detector.head.cls
        with torch.no_grad():
            detector.head.cls.bias += 3
            branch.bias.fill_(math.nan)
        with pytest.raises(InputError, match=r"no numbers on 4 images: a\.png, b\.png, c\.png and"):
            evaluate(detector, dataset, progress=False)

    def test_one_broken_box_of_many_is_told(
        self, dataset: CocoDataset, tiny_detector: Callable[..., Detector]
    ) -> None:
        """Also where its score is far below those of the detections that are kept."""
        output = tiny_detector(dataset.annotations.class_names)(torch.zeros(1, 3, 64, 96))
        logits, boxes = output.cls_logits.detach().clone() + 9, output.boxes.detach().clone()
        logits[0, -1], boxes[0, -1] = -2, math.nan
        broken = replace(output, cls_logits=logits, boxes=boxes)
        (found,) = postprocess(broken, torch.tensor([[64, 96]]), PostProcess())
        assert not found.finite
        logits[0, -1] = -9  # below the threshold nobody looks at the box
        (found,) = postprocess(broken, torch.tensor([[64, 96]]), PostProcess())
        assert found.finite and len(found.scores) > 10

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    @pytest.mark.parametrize("field", ["score", "bbox"])
    def test_results_that_are_no_numbers(
        self,
        dataset: CocoDataset,
        perfect_results: Callable[..., list[dict[str, Any]]],
        tmp_path: Path,
        field: str,
        value: float,
    ) -> None:
        results = perfect_results(dataset.annotations)
        results[1][field] = value if field == "score" else [1.0, 2.0, value, 4.0]
        message = f"no numbers on 1 images, with ids: {results[1]['image_id']}$"
        with pytest.raises(InputError, match=message):
            score(results, dataset.annotations)
        with pytest.raises(InputError, match=message):
            write_results(tmp_path / "detections.json", results)
        assert not list(tmp_path.glob("*.json"))


class TestCrowded:
    """More objects in an image than detections are judged."""

    @pytest.fixture
    def crowded(self, tmp_path: Path) -> Annotations:
        boxes = [[8 * (n % 16), 8 * (n // 16), 6, 6] for n in range(120)]
        content = {
            "images": [{"id": 1, "file_name": "a.png", "width": 128, "height": 128}],
            "categories": [{"id": 1, "name": "pill"}],
            "annotations": [
                {"id": n, "image_id": 1, "category_id": 1, "bbox": box}
                for n, box in enumerate(boxes)
            ],
        }
        path = tmp_path / "crowded.json"
        path.write_text(json.dumps(content))
        return read_annotations(path)

    def test_ap_ends_at_its_ceiling_and_more_can_be_judged(
        self, crowded: Annotations, perfect_results: Callable[..., list[dict[str, Any]]]
    ) -> None:
        results = perfect_results(crowded)
        assert score(results, crowded).AP == pytest.approx(ceiling(crowded))
        assert ceiling(crowded) == pytest.approx(100 / 120, abs=0.01)
        assert score(results, crowded, max_detections=120).AP == pytest.approx(1.0)
        assert ceiling(crowded, 120) == pytest.approx(1.0)

    def test_the_limit_is_of_an_image_for_the_detector(self, dataset: CocoDataset) -> None:
        assert ceiling(dataset.annotations) == pytest.approx(1.0)
        assert 0 < ceiling(dataset.annotations, 1) < 1


class TestResults:
    def test_a_class_that_the_file_does_not_list_is_left_out(self) -> None:
        found = Detections(torch.ones(2, 4), torch.tensor([0.75, 0.5]), torch.tensor([1, 0]))
        (row,) = to_results(found, 9, (30, None))
        assert row["category_id"] == 30 and row["score"] == 0.5

    def test_fields(self) -> None:
        boxes = torch.tensor([[4.0, 2, 20, 10], [0.0, 0, 2 / 3, 2.5]])
        found = Detections(boxes, torch.tensor([0.75, 0.5]), torch.tensor([1, 0]))
        first, second = to_results(found, 9, (30, 70))
        assert first == {
            "image_id": 9,
            "category_id": 70,
            "bbox": [4.0, 2.0, 16.0, 8.0],
            "score": 0.75,
        }
        assert second["bbox"] == [0, 0, 0.667, 2.5]

    def test_scores_keep_their_digits(self) -> None:
        """Their order is all that AP sees: boxes may be rounded, scores may not."""
        scores = torch.tensor([0.51234, 0.51233])
        found = Detections(torch.tensor([[0.0, 0, 5, 5]] * 2), scores, torch.tensor([0, 0]))
        results = to_results(found, 1, (1,))
        assert [row["score"] for row in results] == scores.tolist()

    def test_pycocotools_reads_the_file(self, dataset: CocoDataset, tmp_path: Path) -> None:
        _, results = evaluate(Oracle(dataset), dataset, progress=False)
        path = tmp_path / "new" / "detections.json"
        write_results(path, results)
        assert json.loads(path.read_text()) == results
        loaded = dataset.annotations.to_pycocotools().loadRes(str(path))
        assert len(loaded.anns) == len(results)


class TestScore:
    def test_as_pycocotools_summarises(
        self, dataset: CocoDataset, perfect_results: Callable[..., list[dict[str, Any]]]
    ) -> None:
        results = perfect_results(dataset.annotations)
        for n, row in enumerate(results):
            row["bbox"][0] += 2 * n
            row["score"] = 0.9 - 0.1 * n
        truth = dataset.annotations.to_pycocotools()
        evaluation = COCOeval(truth, truth.loadRes([dict(row) for row in results]), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        found = score(results, dataset.annotations)
        values = [found.AP, found.AP50, found.AP75, found.APs, found.APm, found.APl]
        expected = [math.nan if value < 0 else value for value in evaluation.stats[:6]]
        assert 0 < found.AP < 1 and repr(values) == repr([float(value) for value in expected])

    def test_without_any_object_ap_is_unknown(self, dataset: CocoDataset) -> None:
        nothing = dataset.annotations.to_learn_from()
        for results in ([], [{"image_id": 11, "category_id": 3, "bbox": [1, 1, 5, 5], "score": 1}]):
            assert math.isnan(score(results, nothing).AP)

    def test_nothing_found(self, dataset: CocoDataset) -> None:
        metrics = score([], dataset.annotations)
        assert metrics.AP == metrics.AP50 == metrics.AP75 == 0
        assert metrics.per_class == {"nut": 0, "washer": 0, "screw": 0}

    def test_boxes_beside_the_objects(
        self, dataset: CocoDataset, perfect_results: Callable[..., list[dict[str, Any]]]
    ) -> None:
        results = perfect_results(dataset.annotations)
        for row in results:
            row["bbox"] = [0, 0, 2, 2]
        assert score(results, dataset.annotations).AP == 0

    @pytest.mark.parametrize(("shift", "expected"), [(0, 1.0), (3, 8 / 10), (6, 5 / 10)])
    def test_ap_falls_with_the_overlap(
        self,
        dataset: CocoDataset,
        perfect_results: Callable[..., list[dict[str, Any]]],
        shift: float,
        expected: float,
    ) -> None:
        """A box moved by s of its width w has IoU (w - s) / (w + s); here w = 40 decides."""
        only = dataset.annotations.first(2)
        results = [row for row in perfect_results(only) if row["category_id"] == 7]
        results[0]["bbox"][0] += shift
        iou = (40 - shift) / (40 + shift)
        reached = sum(iou >= 0.5 + 0.05 * n for n in range(10))
        assert score(results, only).per_class["washer"] == pytest.approx(reached / 10)
        assert reached / 10 == pytest.approx(expected)

    def test_absent_classes_and_sizes_are_nan(
        self, dataset: CocoDataset, perfect_results: Callable[..., list[dict[str, Any]]]
    ) -> None:
        one = dataset.annotations.first(1)
        metrics = score(perfect_results(one), one)
        assert metrics.per_class["nut"] == metrics.per_class["screw"] == pytest.approx(1.0)
        assert math.isnan(metrics.per_class["washer"])
        assert math.isnan(metrics.APs) and math.isnan(metrics.APl)
        assert metrics.APm == pytest.approx(1.0)

    def test_ap_is_the_mean_over_present_classes(
        self, dataset: CocoDataset, perfect_results: Callable[..., list[dict[str, Any]]]
    ) -> None:
        results = [row for row in perfect_results(dataset.annotations) if row["category_id"] != 20]
        metrics = score(results, dataset.annotations)
        assert metrics.per_class == pytest.approx({"nut": 1.0, "washer": 1.0, "screw": 0.0})
        assert metrics.AP == pytest.approx(2 / 3)

    def test_nothing_is_printed_and_results_are_left_alone(
        self,
        dataset: CocoDataset,
        perfect_results: Callable[[Annotations], list[dict[str, Any]]],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        results = perfect_results(dataset.annotations)
        copies = [dict(row) for row in results]
        first, second = (score(results, dataset.annotations) for _ in range(2))
        assert repr(first) == repr(second)
        assert results == copies
        assert capsys.readouterr().out == ""
