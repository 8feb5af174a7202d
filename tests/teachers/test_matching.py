from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bckd.correspondence import compared, per_cell
from bckd.datasets.annotations import read_annotations
from bckd.datasets.coco import CocoDataset
from bckd.image_size import ImageSize
from bckd.losses import binary_classification, iou_localisation, softmax_classification
from bckd.losses.distillation import check_comparable
from bckd.models import Detector
from bckd.models.supervision import assign
from bckd.normalisation import CAFFE, IMAGENET
from bckd.structures import Assignment, DenseOutput, GroundTruth
from bckd.system.errors import InputError
from bckd.teachers.matching import Matched, matched, with_classes_of

Make = Callable[..., Any]
CLASSES = ("cat", "dog", "bird", "fish")
HEADS = ("gfl", "retinanet", "fcos", "atss")


def images(seed: int = 0) -> torch.Tensor:
    """Two images of 64x96, the second padded on the right and bottom."""
    batch = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(seed))
    batch[1, :, 40:] = batch[1, :, :, 70:] = 0
    return batch


class TestMatched:
    def test_a_teacher_that_fits_is_left_alone(self, tiny_detector: Make) -> None:
        teacher = tiny_detector(CLASSES)
        assert matched(teacher, "teacher t", CLASSES, (8, 16, 32), IMAGENET) is teacher

    def test_classes_are_matched_by_name(self, tiny_detector: Make) -> None:
        teacher = tiny_detector(CLASSES)
        reader = matched(
            teacher, "teacher t", ("hound", "fish"), (8, 16, 32), IMAGENET, {"hound": "dog"}
        )
        assert isinstance(reader, Matched) and reader.class_names == ("hound", "fish")
        found, whole = reader(images()), teacher(images())
        assert torch.equal(found.cls_logits, whole.cls_logits[..., [1, 3]])
        assert torch.equal(found.boxes, whole.boxes)

    def test_the_order_of_classes_is_the_students(self, tiny_detector: Make) -> None:
        teacher = tiny_detector(CLASSES)
        found = matched(teacher, "teacher t", CLASSES[::-1], (8, 16, 32), IMAGENET)(images())
        assert torch.equal(found.cls_logits, teacher(images()).cls_logits.flip(-1))

    @pytest.mark.parametrize("head", HEADS)
    def test_levels_are_matched_by_stride(self, tiny_detector: Make, head: str) -> None:
        teacher = tiny_detector(CLASSES, head=head, strides=(8, 16, 32, 64, 128))
        found = matched(teacher, "teacher t", CLASSES, (8, 16, 32), IMAGENET)(images())
        whole = teacher(images())
        count = sum(found.locations.counts)
        assert [level.stride for level in found.locations.levels] == [8, 16, 32]
        assert torch.equal(found.locations.centres, whole.locations.centres[:count])
        for name in ("cls_logits", "boxes", "box_logits", "deltas", "quality"):
            value = getattr(whole, name)
            assert (getattr(found, name) is None) == (value is None)
            if value is not None:
                assert torch.equal(getattr(found, name), value[:, :count])
        if whole.locations.anchors is not None:
            assert torch.equal(found.locations.anchors, whole.locations.anchors[:count])
        assert len(found.features) == 3

    def test_images_are_normalised_as_the_teacher_was_trained(self, tiny_detector: Make) -> None:
        teacher = tiny_detector(CLASSES, normalisation=CAFFE)
        reader = matched(teacher, "teacher t", CLASSES, (8, 16, 32), IMAGENET)
        pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
        found, expected = reader(IMAGENET.apply(pixels)), teacher(CAFFE.apply(pixels))
        torch.testing.assert_close(found.cls_logits, expected.cls_logits, atol=1e-4, rtol=1e-4)

    def test_detections_have_the_students_labels(self, tiny_detector: Make) -> None:
        teacher = tiny_detector(CLASSES)
        with torch.no_grad():
            teacher.head.cls.bias += torch.tensor([-9.0, 9, -9, -9])
            reader = matched(teacher, "teacher t", ("fish", "dog"), (8, 16, 32), IMAGENET)
            found = reader.detect(images(), torch.tensor([[64, 96], [40, 70]]))
        assert all(len(x.labels) and (x.labels == 1).all() for x in found)

    def test_a_class_without_counterpart(self, tiny_detector: Make) -> None:
        with pytest.raises(InputError) as caught:
            matched(tiny_detector(CLASSES), "teacher my.pth", ("cat", "cow"), (8, 16, 32), IMAGENET)
        message = str(caught.value)
        assert "my.pth has no class cow" in message and "--teacher-classes 'cow=NAME'" in message
        assert "cat, dog, bird, fish" in message

    def test_a_class_that_nothing_is_to_be_learnt_of_may_be_absent(
        self, tiny_detector: Make, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """An export's root class, which has no box: the teacher sees it nowhere."""
        teacher, ours = tiny_detector(CLASSES), ("trays", "fish", "dog")
        chosen = (ours, (8, 16, 32), IMAGENET)
        reader = matched(teacher, "teacher t", *chosen, dispensable=frozenset({"trays", "dog"}))
        told = "teacher t lacks 1 of the classes, of which there is no box to learn from: trays\n"
        assert capsys.readouterr().out == told
        found, whole = reader(images()).cls_logits, teacher(images()).cls_logits
        assert torch.equal(found[..., 1:], whole[..., [3, 1]])
        assert (found[..., 0].sigmoid() < 1e-9).all()
        with pytest.raises(InputError, match="t has no class trays"):
            matched(teacher, "teacher t", *chosen, dispensable=frozenset({"dog"}))

    def test_another_spelling_is_the_same_class(
        self, tiny_detector: Make, capsys: pytest.CaptureFixture[str]
    ) -> None:
        teacher = tiny_detector(("tv", "airplane", "dog"))
        ours = ("Dogs", "aeroplane", "screen")
        chosen = (ours, (8, 16, 32), IMAGENET, {"screen": "TV"})
        found = matched(teacher, "teacher t", *chosen)(images())
        assert torch.equal(found.cls_logits, teacher(images()).cls_logits[..., [2, 1, 0]])
        told = "t has 3 classes under another name: Dogs = dog, aeroplane = airplane; TV = tv"
        assert told in capsys.readouterr().out

    def test_a_renamed_class_that_is_none(self, tiny_detector: Make) -> None:
        with pytest.raises(InputError, match="renames 'cow', which is no class of the data set"):
            matched(
                tiny_detector(CLASSES), "teacher t", CLASSES, (8, 16, 32), IMAGENET, {"cow": "dog"}
            )

    def test_a_level_without_counterpart(self, tiny_detector: Make) -> None:
        with pytest.raises(InputError, match="student's 64 would learn nothing.*strides 8 16 32"):
            matched(tiny_detector(CLASSES), "teacher t", CLASSES, (8, 16, 32, 64), IMAGENET)


def both(tiny_detector: Make, ours: str, theirs: str) -> tuple[Detector, DenseOutput, DenseOutput]:
    """A student, its output with a gradient, and the output of a teacher that has one too."""
    student = tiny_detector(CLASSES, seed=1, head=ours).train()
    teacher = tiny_detector(CLASSES, seed=2, head=theirs)
    with torch.no_grad():
        teacher.head.cls.bias += 3
    return student, student(images()), teacher(images())


def assignment_of(head: str, output: DenseOutput) -> Assignment:
    truth = GroundTruth.from_lists(
        [torch.tensor([[8.0, 8, 40, 44]]), torch.tensor([[20.0, 4, 60, 36]])],
        [torch.tensor([1]), torch.tensor([3])],
    )
    return assign(head, output, truth, torch.tensor([[64, 96], [64, 96]]))


@pytest.mark.parametrize("theirs", HEADS)
@pytest.mark.parametrize("ours", HEADS)
def test_every_pair_distils(tiny_detector: Make, ours: str, theirs: str) -> None:
    student, output, target = both(tiny_detector, ours, theirs)
    target.cls_logits.retain_grad()
    pair = compared(output, target, assignment_of(ours, output))
    assert pair[2].positive.any()
    terms = [
        term(*pair) for term in (binary_classification, iou_localisation, softmax_classification)
    ]
    assert all(term.isfinite() and term > 0 for term in terms)
    sum(terms).backward()
    gradient = student.head.cls.weight.grad
    assert gradient.isfinite().all() and gradient.abs().sum() > 0
    assert student.head.box.weight.grad.abs().sum() > 0
    assert target.cls_logits.grad is None


def test_a_cell_speaks_with_its_best_anchor(tiny_detector: Make) -> None:
    with torch.no_grad():
        output = tiny_detector(CLASSES, head="retinanet")(images())
        found = per_cell(output)
    assert found.cls_logits.shape[1] * 9 == output.cls_logits.shape[1]
    assert found.deltas is None and found.locations.anchors is None
    assert [level.per_cell for level in found.locations.levels] == [1, 1, 1]
    for n in range(2):
        for cell in range(found.cls_logits.shape[1]):
            rows = slice(9 * cell, 9 * cell + 9)
            logits = output.cls_logits[n, rows]
            assert torch.equal(found.cls_logits[n, cell], logits.amax(dim=0))
            best = int(logits.amax(dim=1).argmax())
            assert torch.equal(found.boxes[n, cell], output.boxes[n, rows][best])
            centre = found.locations.centres[cell]
            assert torch.equal(centre, output.locations.centres[9 * cell + best])


def test_a_cell_is_positive_if_an_anchor_is(tiny_detector: Make) -> None:
    _, output, target = both(tiny_detector, "retinanet", "gfl")
    before = assignment_of("retinanet", output)
    student, teacher, after = compared(output, target, before)
    check_comparable(student, teacher)
    assert torch.equal(after.positive, before.positive.unflatten(1, (-1, 9)).any(-1))
    assert torch.equal(after.num_positives, before.num_positives)
    for n, cell in after.positive.nonzero().tolist():
        rows = before.positive[n, 9 * cell : 9 * cell + 9].nonzero().flatten() + 9 * cell
        assert after.labels[n, cell] == before.labels[n, rows[0]]
    assert (after.labels[~after.positive] == len(CLASSES)).all()


def test_the_gradient_goes_to_the_best_anchor_alone(tiny_detector: Make) -> None:
    _, output, target = both(tiny_detector, "retinanet", "fcos")
    logits = output.cls_logits.detach().requires_grad_()
    leaf = replace(output, cls_logits=logits, boxes=output.boxes.detach())
    pair = compared(leaf, target, assignment_of("retinanet", output))
    binary_classification(*pair, gate_levels=False).backward()
    moved = (logits.grad != 0).unflatten(1, (-1, 9)).sum(dim=2)
    assert moved.max() == 1


def test_equal_pairs_are_compared_as_they_are(tiny_detector: Make) -> None:
    _, output, target = both(tiny_detector, "retinanet", "retinanet")
    assignment = assignment_of("retinanet", output)
    assert compared(output, target, assignment) == (output, target, assignment)


def test_a_detector_is_judged_on_data_that_spell_its_classes_otherwise(
    tiny_detector: Make, scenes_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    annotations = read_annotations(scenes_root / "annotations" / "instances_val.json")
    dataset = CocoDataset(scenes_root / "val", annotations, ImageSize(64, 64))
    names = annotations.class_names
    detector = tiny_detector((*(name.upper() for name in names), "more"))
    found, judged = with_classes_of(detector, Path("a.pth"), dataset)
    assert found.class_names == judged.annotations.class_names == names
    x = images()
    assert torch.equal(found(x).cls_logits, detector(x).cls_logits[..., : len(names)])
    told = capsys.readouterr().out
    assert f"a.pth has {len(names)} classes under another name: " in told
    assert "a.pth: 1 of its classes are not in the data set and left out: more" in told
