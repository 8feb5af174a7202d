"""Every number of the official code that the golden folder holds, computed by this package.

The folder is `tests/golden`, or the one that the environment variable BCKD_GOLDEN
names. Files are told by name: `golden_KIND_CASE.pt`, `forward_NAME.pt`, `loss_NAME.pt`.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from itertools import combinations_with_replacement
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bckd.assigners import assign_atss
from bckd.geometry import boxes_to_distances
from bckd.losses import (
    binary_classification,
    iou_localisation,
    localisation_distribution,
    softmax_classification,
)
from bckd.models import PostProcess, postprocess
from bckd.models.detector import Detector, HeadName
from bckd.models.grouped import forward_in_groups
from bckd.models.heads import atss, fcos, gfl, retinanet
from bckd.models.supervision import assign, supervised_losses
from bckd.recipes import LossWeights
from bckd.structures import Assignment, DenseOutput, Detections, GroundTruth
from bckd.zoo.official import config_of_official, load_official

FOLDER = Path(os.environ.get("BCKD_GOLDEN") or Path(__file__).parent / "golden")
FILES = sorted(FOLDER.glob("*.pt"))

# Official names of the supervised terms; their weights are the recipes' defaults.
OFFICIAL_TERMS = {
    "qfl": "loss_cls",
    "focal": "loss_cls",
    "giou": "loss_bbox",
    "l1": "loss_bbox",
    "log_iou": "loss_bbox",
    "dfl": "loss_dfl",
    "centerness": "loss_centerness",
}
# Weight of every distillation term in the official configurations, by the official name.
WEIGHTS = {
    "loss_kd (binary)": 1.0,
    "loss_kd (softmax)": 10.0,
    "loss_score_kd": 4.0,
    "loss_ld": 0.25,
    "loss_ld_vlr": 0.25,
}
SOFTMAX_TEMPERATURE, LD_TEMPERATURE = 2.0, 10.0

LOSS_TOLERANCE = 1e-5  # relative
GRADIENT_ABSOLUTE, GRADIENT_RELATIVE = 1e-5, 1e-4
FORWARD_TOLERANCE = 1e-4
SCORE_TIE = 1e-5  # scores closer than this may change places
BOX_TOLERANCE = 1e-3  # pixels within which two boxes are the same

# How each detector's raw maps become a dense output, by the first word of a file's name.
DECODERS = {
    "gfl": gfl.decode,
    "bckd": gfl.decode,
    "retinanet": retinanet.decode,
    "fcos": fcos.decode,
    "atss": atss.decode,
}
STRIDES = (8, 16, 32, 64, 128)
KINDS = ("bckd_ld", "bckd", "ld", "gfl")  # longest first: bckd_ld_x is not bckd with case ld_x


def test_the_golden_folder_holds_files() -> None:
    assert FOLDER.is_dir(), f"BCKD_GOLDEN: the folder {FOLDER} does not exist"
    assert FILES, f"BCKD_GOLDEN: the folder {FOLDER} holds no .pt file"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_file(path: Path) -> None:
    form, _, name = path.stem.partition("_")
    checks = {"golden": check_golden, "forward": check_forward, "loss": check_loss}
    if form not in checks or not name:
        pytest.fail(f"{path.name} is none of golden_KIND_CASE.pt, forward_NAME.pt, loss_NAME.pt")
    if form != "golden":
        detector = name.partition("_")[0]
        if detector not in DECODERS:
            expected = ", ".join(f"{known}_*" for known in DECODERS)
            pytest.fail(f"{path.name}: unknown detector {name}, expected one of {expected}")
    checks[form](path, torch.load(path, weights_only=True))


def check_golden(path: Path, data: dict) -> None:
    kind = next((k for k in KINDS if path.stem.startswith(f"golden_{k}_")), None)
    if kind is None or kind != data["kind"]:
        pytest.fail(f"{path.name}: kind {data['kind']!r} is not the name's, one of {KINDS}")
    inputs, outputs = data["inputs"], data["outputs"]
    maps = {side: as_leaves(inputs[f"student_{side}"]) for side in ("cls", "bbox")}
    scale = inputs["octave_base_scale"]
    student = gfl.decode(maps["cls"], maps["bbox"], inputs["strides"], scale)
    assignment = assign_atss(
        student.locations,
        GroundTruth.from_lists(inputs["gt_bboxes"], inputs["gt_labels"]),
        torch.tensor([meta["pad_shape"][:2] for meta in inputs["img_metas"]]),
        inputs["num_classes"],
        region="official",
    )
    check_targets(student, assignment, outputs["targets"])

    terms = supervised_terms("gfl", student, assignment, "gfl" if kind == "gfl" else "bckd")
    if kind != "gfl":
        teacher = gfl.decode(inputs["teacher_cls"], inputs["teacher_bbox"], inputs["strides"])
        terms |= distillation_terms(kind, student, teacher, assignment, outputs["loss"])
    check_losses(terms, outputs["loss"], outputs["total"])
    for name, reference in outputs["grad_per_term"].items():
        # A term that is off there has no counterpart here, and no gradient.
        value = terms.get(name, 0 * sum(terms.values()))
        check_gradients(name, value, maps, reference)
    check_gradients("total", sum(terms.values()), maps, outputs["grad"])


def pairs_of_files() -> list[tuple[Path, Path]]:
    """Golden losses of one kind, each file with itself and with the other ones."""
    found = {kind: [p for p in FILES if p.stem.startswith(f"golden_{kind}_")] for kind in KINDS}
    found["bckd"] = [path for path in found["bckd"] if path not in found["bckd_ld"]]
    return [pair for files in found.values() for pair in combinations_with_replacement(files, 2)]


@pytest.mark.parametrize(
    "pair", pairs_of_files(), ids=lambda pair: " and ".join(p.stem for p in pair)
)
def test_two_files_are_two_gpus(pair: tuple[Path, Path]) -> None:
    """A batch of two groups is what two GPUs with these images would have trained on.

    Each of them divides its sums by the mean over both: of the positives, of the scores that
    weigh the boxes. So each file's losses count by its own divisor; LD has none.
    """
    files = [torch.load(path, weights_only=True) for path in pair]
    kind, outputs = files[0]["kind"], [file["outputs"] for file in files]
    if len({form_of(file) for file in files}) > 1:
        pytest.skip("the two have other numbers of images, classes, levels or bins")
    positives = [output["targets"]["num_total_samples"] for output in outputs]
    scores = [output["bbox_avg_factor"] for output in outputs]
    if kind == "gfl" and min(scores) <= 1:
        pytest.skip("of a sum below 1 the official code keeps the 1")
    divisors = {name: positives for name in outputs[0]["loss"]}
    divisors |= {name: (1.0, 1.0) for name in ("loss_ld", "loss_ld_vlr")}
    divisors |= {name: scores for name in ("loss_bbox", "loss_dfl")}
    expected = {}
    for name, weights in divisors.items():
        losses = [output["loss"].get(name, 0.0) for output in outputs]
        summed = sum(w * loss for w, loss in zip(weights, losses, strict=True))
        expected[name] = float(summed / sum(weights))
    student, teacher, assignment = two_groups(files)
    terms = supervised_terms("gfl", student, assignment, "gfl" if kind == "gfl" else "bckd")
    if kind != "gfl":
        terms |= distillation_terms(kind, student, teacher, assignment, expected)
    for name, value in terms.items():
        assert value.item() == pytest.approx(expected[name], rel=LOSS_TOLERANCE, abs=1e-9), name


def form_of(file: dict) -> tuple[object, ...]:
    """What two files have in common that can be one batch."""
    inputs = file["inputs"]
    maps = [tuple(inputs[f"student_{side}"][0].shape[:2]) for side in ("cls", "bbox")]
    return *maps, tuple(inputs["strides"])


def two_groups(files: list[dict]) -> tuple[DenseOutput, DenseOutput, Assignment]:
    """Student, teacher and assignment of two files as one batch of two groups.

    Files may have images of other sizes and other anchors, so each is assigned by its own.
    """
    inputs = [file["inputs"] for file in files]
    images = [len(x["gt_bboxes"]) for x in inputs]
    canvases = [tuple(8 * side for side in x["student_cls"][0].shape[2:]) for x in inputs]
    each = [canvas for canvas, count in zip(canvases, images, strict=True) for _ in range(count)]

    def joined(outputs: list[DenseOutput]) -> DenseOutput:
        marks = torch.zeros(sum(images), 1, *map(max, zip(*canvases, strict=True)))
        marks[images[0] :] = 1  # the pixel that tells which file an image is of

        def network(seen: Tensor) -> DenseOutput:
            present = sorted(set(seen[:, 0, 0, 0].int().tolist()))
            values = [outputs[n].per_location() for n in present]
            fields = {name: torch.cat([x[name] for x in values]) for name in values[0]}
            return replace(outputs[present[0]], **fields)

        return forward_in_groups(network, marks, each)

    students, teachers, assignments = [], [], []
    for x in inputs:
        scale = x["octave_base_scale"]
        students.append(gfl.decode(x["student_cls"], x["student_bbox"], x["strides"], scale))
        if "teacher_cls" in x:
            teachers.append(gfl.decode(x["teacher_cls"], x["teacher_bbox"], x["strides"], scale))
        assignments.append(
            assign_atss(
                students[-1].locations,
                GroundTruth.from_lists(x["gt_bboxes"], x["gt_labels"]),
                torch.tensor([meta["pad_shape"][:2] for meta in x["img_metas"]]),
                x["num_classes"],
                region="official",
            )
        )

    def spread(values: list[Tensor]) -> Tensor:
        """What is assigned to each location of each file, (N, A, C), for the whole batch."""
        carried = zip(students, values, strict=True)
        return joined([replace(s, deltas=x) for s, x in carried]).deltas

    labels = spread([a.labels[..., None] + 1.0 for a in assignments]).squeeze(-1).long() - 1
    flags = spread([torch.stack([a.valid, a.counted, a.positive], -1).float() for a in assignments])
    num_classes = inputs[0]["num_classes"]
    valid, counted, positive = flags.bool().unbind(dim=-1)
    assignment = Assignment(
        labels=labels.where(labels >= 0, num_classes),
        boxes=spread([a.boxes for a in assignments]),
        valid=valid,
        counted=counted,
        positive=positive,
        num_positives=sum(a.num_positives for a in assignments),
        localisation_region=spread([a.localisation_region[..., None] for a in assignments])[..., 0],
        images_per_group=images[0],
    )
    student = joined(students)
    return student, joined(teachers) if teachers else student, assignment


def supervised_terms(
    head: HeadName, student: DenseOutput, assignment: Assignment, divisor: str
) -> dict[str, Tensor]:
    """The weighted supervised losses by official name."""
    losses = supervised_losses(head, student, assignment, divisor)
    return {OFFICIAL_TERMS[name]: getattr(LossWeights(), name) * x for name, x in losses.items()}


def distillation_terms(
    kind: str,
    student: DenseOutput,
    teacher: DenseOutput,
    assignment: Assignment,
    reference: dict[str, float],
) -> dict[str, Tensor]:
    """The weighted distillation losses by official name."""
    pair = (student, teacher, assignment)
    binary = WEIGHTS["loss_kd (binary)"] * binary_classification(*pair)
    softmax = WEIGHTS["loss_kd (softmax)"] * softmax_classification(
        *pair, temperature=SOFTMAX_TEMPERATURE
    )
    terms = {}
    if "bckd" in kind:
        terms["loss_kd"] = binary
        terms["loss_score_kd"] = WEIGHTS["loss_score_kd"] * iou_localisation(*pair)
    if "ld" in kind.split("_"):
        terms["loss_kd"] = softmax
        for name, places in (("loss_ld", "positives"), ("loss_ld_vlr", "region")):
            divergence = localisation_distribution(*pair, temperature=LD_TEMPERATURE, places=places)
            terms[name] = WEIGHTS[name] * divergence
    if kind == "bckd_ld":
        # The official head has one loss_kd, and a file does not say which of the two
        # classification losses it was. The nearer one has to agree, gradients included.
        terms["loss_kd"] = min(
            (binary, softmax), key=lambda x: abs(x.item() - reference["loss_kd"])
        )
    return terms


def check_targets(student: DenseOutput, assignment: Assignment, targets: dict) -> None:
    """Labels, weights, boxes, anchors and region are equal, bit by bit."""
    joined = {
        name: torch.cat(value, dim=1)
        for name, value in targets.items()
        if isinstance(value, list) and isinstance(value[0], Tensor) and name != "anchors_unmasked"
    }
    anchors = student.locations.anchors
    ours = {
        "labels": assignment.labels,
        "label_weights": assignment.counted.float(),
        "bbox_targets": assignment.boxes,
        "bbox_weights": assignment.positive[..., None].expand(-1, -1, 4).float(),
        "anchors": anchors * assignment.valid[..., None],
        "valid_flags": assignment.valid,
        "vlr_region": assignment.localisation_region,
    }
    for name in {"labels", "label_weights", "bbox_targets"} | (ours.keys() & joined.keys()):
        assert torch.equal(ours[name], joined[name]), f"targets: {name} differ"
    if "anchors_unmasked" in targets:
        assert torch.equal(anchors, torch.cat(targets["anchors_unmasked"]))

    per_level = assignment.positive.split(student.locations.counts, dim=1)
    counts = {
        "num_total_samples": assignment.num_positives.item(),
        # The official count of positives, too, is at least 1 an image.
        "num_total_pos": assignment.positive.sum(1).clamp(min=1).sum().item(),
        "num_total_neg": (assignment.valid & ~assignment.positive).sum(1).clamp(min=1).sum().item(),
        "positives_per_level": [level.sum().item() for level in per_level],
    }
    for name in {"num_total_samples"} | (counts.keys() & targets.keys()):
        assert counts[name] == targets[name], f"targets: {name} differs"


def check_losses(terms: dict[str, Tensor], reference: dict[str, float], total: float) -> None:
    """Each term and the total; official terms that we do not compute are switched off there."""
    unknown = {name for name, value in reference.items() if name not in terms and value != 0}
    assert not unknown, f"terms of the file that nothing here computes: {unknown}"
    for name, value in terms.items():
        assert value.item() == pytest.approx(reference[name], rel=LOSS_TOLERANCE, abs=1e-9), name
    assert sum(terms.values()).item() == pytest.approx(total, rel=LOSS_TOLERANCE)


def check_gradients(
    name: str, value: Tensor, maps: dict[str, list[Tensor]], reference: dict[str, list[Tensor]]
) -> None:
    """Gradient of one value on every map, each element in tolerance and all of them by norm."""
    leaves = [x for group in maps.values() for x in group]
    expected = torch.cat([x.flatten() for side in maps for x in reference[side]])
    found = torch.autograd.grad(
        value, leaves, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    difference = (torch.cat([x.flatten() for x in found]) - expected).abs()
    close = (difference <= GRADIENT_ABSOLUTE) | (difference <= GRADIENT_RELATIVE * expected.abs())
    assert close.all(), f"gradient of {name}: off by {difference.max().item()}"
    # Many gradients are everywhere below the absolute tolerance: their norm decides.
    assert difference.norm() <= GRADIENT_RELATIVE * expected.norm(), f"gradient of {name}"


def check_forward(path: Path, data: dict) -> None:
    state_dict = weights_by_recipe(data["keys"], data["seed"])
    config, num_classes = config_of_official(state_dict)
    config = replace(config, caffe="caffe" in path.stem)  # no entry of the file tells
    test = data["test_cfg"]
    settings = PostProcess(
        score_threshold=test["score_thr"],
        candidates_per_level=test["nms_pre"],
        nms_iou=test["iou_threshold"],
        max_detections=test["max_per_img"],
    )
    detector = Detector(config, tuple(str(k) for k in range(num_classes))).eval()
    load_official(detector, state_dict)
    generator = torch.Generator().manual_seed(data["seed"] - 1)
    images = torch.randn(2, 3, *data["image_size"], generator=generator)
    with torch.no_grad():
        output = detector(images)

    expected = DECODERS[path.stem.split("_")[1]](*data["outputs"], STRIDES)
    tolerances = {"atol": FORWARD_TOLERANCE, "rtol": FORWARD_TOLERANCE}
    for name in ("cls_logits", "box_logits", "deltas", "quality"):
        torch.testing.assert_close(getattr(output, name), getattr(expected, name), **tolerances)
    if output.box_logits is None and output.deltas is None:  # the maps are distances
        distances = [boxes_to_distances(x.locations.centres, x.boxes) for x in (output, expected)]
        torch.testing.assert_close(*distances, **tolerances)
    mean_abs = [x.abs().mean().item() for x in output.features]
    assert mean_abs == pytest.approx(data["fpn_mean_abs"], rel=FORWARD_TOLERANCE)

    detections = postprocess(output, torch.tensor(data["image_shapes"]), settings)
    for found, boxes, labels in zip(
        detections, data["det_bboxes"], data["det_labels"], strict=True
    ):
        check_detections(found, boxes, labels, settings.max_detections)


def weights_by_recipe(keys: list[tuple[str, tuple[int, ...], str]], seed: int) -> dict[str, Tensor]:
    """The official state dict that the file's maker made from the seed."""
    state_dict = {}
    for order, (name, shape, dtype) in enumerate(keys):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(seed + order))
        if name.endswith("num_batches_tracked"):
            value = torch.zeros(shape)
        elif name.endswith("integral.project"):
            value = torch.arange(shape[0])
        elif name.endswith("running_mean"):
            value = 0.1 * x
        elif name.endswith("running_var"):
            value = 1 + 0.2 * x.abs()
        elif len(shape) == 4:
            value = x * (2 / (shape[1] * shape[2] * shape[3])) ** 0.5
        elif len(shape) == 0:
            value = 0.8 + 0.1 * x.abs()
        elif name.endswith("weight"):
            value = 0.1 * x + (0.7 if name.startswith("backbone") else 1)
        elif name.endswith("bias"):
            classifies = re.search(r"(gfl_cls|retina_cls|conv_cls|atss_cls)\.bias$", name)
            value = 0.1 * x - (2.2 if classifies else 0)
        else:
            raise AssertionError(f"no rule of the recipe fits {name} {tuple(shape)}")
        state_dict[name] = value.to(getattr(torch, dtype.removeprefix("torch.")))
    return state_dict


def check_detections(found: Detections, boxes: Tensor, labels: Tensor, cap: int) -> None:
    """Same boxes, labels and order, but for scores that are nearly tied.

    Args:
        boxes: (D, 5) x1 y1 x2 y2 score, best first; labels (D,).
        cap: detections of an image; the last one may have a nearly tied rival.
    """
    scores = boxes[:, 4]
    assert len(found.scores) == len(scores)
    same = (
        ((found.boxes[:, None] - boxes[None, :, :4]).abs() <= BOX_TOLERANCE).all(-1)
        & ((found.scores[:, None] - scores).abs() <= SCORE_TIE)
        & (found.labels[:, None] == labels)
    )
    free = torch.ones(len(scores), dtype=torch.bool)
    matched_scores = []
    for n, row in enumerate(same):
        candidates = (row & free).nonzero().flatten()
        if len(candidates):
            free[candidates[0]] = False
            matched_scores.append(scores[candidates[0]])
        else:
            at_the_cap = len(scores) == cap and found.scores[n] <= scores[-1] + SCORE_TIE
            assert at_the_cap, f"detection {n} is not in the file: {found.boxes[n].tolist()}"
    assert (scores[free] <= scores[-1:] + SCORE_TIE).all(), "a detection of the file is missing"
    if matched_scores:
        in_our_order = torch.stack(matched_scores)
        lowest_so_far = in_our_order.cummin(dim=0).values
        assert (in_our_order <= lowest_so_far + SCORE_TIE).all(), "detections out of order"


def check_loss(path: Path, data: dict) -> None:
    forward = path.with_name(path.name.replace("loss_", "forward_", 1))
    assert forward.is_file(), f"{path.name} needs {forward.name} beside it"
    outputs = torch.load(forward, weights_only=True)["outputs"]
    sides = ("cls", "bbox", "quality")
    maps = {side: as_leaves(group) for side, group in zip(sides, outputs, strict=False)}
    detector = path.stem.split("_")[1]
    output = DECODERS[detector](*maps.values(), STRIDES)
    head = "gfl" if detector == "bckd" else detector
    truth = GroundTruth.from_lists(data["gt_bboxes"], data["gt_labels"])
    padded = torch.tensor([shape[:2] for shape in data["pad_shapes"]])
    assignment = assign(head, output, truth, padded)
    terms = supervised_terms(head, output, assignment, detector)
    check_losses(terms, data["losses"], data["total"])
    reference = dict(zip(maps, data["grad"], strict=True))
    check_gradients("total", sum(terms.values()), maps, reference)


def as_leaves(maps: list[Tensor]) -> list[Tensor]:
    """Copies that take a gradient."""
    return [x.clone().requires_grad_() for x in maps]


class TestDetectionMatching:
    """The matching above accepts ties and nothing else."""

    boxes = torch.tensor(
        [[0.0, 0, 9, 9, 0.9], [5.0, 0, 20, 9, 0.5], [30.0, 0, 50, 9, 0.500004], [1, 1, 4, 4, 0.2]]
    )
    labels = torch.tensor([0, 1, 1, 0])

    def found(self, order: list[int]) -> Detections:
        boxes = self.boxes[order]
        return Detections(boxes[:, :4], boxes[:, 4], self.labels[order])

    @pytest.mark.parametrize("order", [[0, 1, 2, 3], [0, 2, 1, 3]])
    def test_ties_may_change_places(self, order: list[int]) -> None:
        check_detections(self.found(order), self.boxes, self.labels, cap=100)

    @pytest.mark.parametrize("order", [[1, 0, 2, 3], [0, 1, 3, 2], [0, 1, 2, 2], [0, 1, 2]])
    def test_anything_else_fails(self, order: list[int]) -> None:
        with pytest.raises(AssertionError):
            check_detections(self.found(order), self.boxes, self.labels, cap=100)

    def test_labels_count(self) -> None:
        wrong = replace(self.found([0, 1, 2, 3]), labels=torch.tensor([0, 1, 0, 0]))
        with pytest.raises(AssertionError, match="not in the file"):
            check_detections(wrong, self.boxes, self.labels, cap=100)
