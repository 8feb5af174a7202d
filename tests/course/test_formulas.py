"""The page of formulas: each is written down once more, in plain Python, and equals the package."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, stdev

import pytest
import torch
from latex2mathml.converter import convert
from torch import Tensor

from bckd.assigners.atss import assign_atss
from bckd.evaluation.average_precision import score
from bckd.evaluation.error_analysis import analyse_errors
from bckd.geometry import box_similarity, grid, with_anchors
from bckd.losses import (
    binary_classification,
    iou_localisation,
    localisation_distribution,
    softmax_classification,
)
from bckd.losses.focal import distribution_focal_loss, quality_focal_loss
from bckd.structures import Assignment, DenseOutput, GroundTruth
from tests.squares import squares

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
PAGE = (NOTEBOOKS / "formulas.md").read_text(encoding="utf-8")
Box = Sequence[float]
TEACHER, STUDENT = [2.0, -0.5, -2.5], [0.3, 0.4, -4.0]
RIGHT, LEFT = [10.0, 10.0, 50.0, 40.0], [20.0, 5.0, 44.0, 70.0]
APART, WITHIN = [70.0, 60.0, 90.0, 75.0], [15.0, 20.0, 30.0, 35.0]


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def softmax(logits: Sequence[float], temperature: float = 1) -> list[float]:
    powers = [math.exp(x / temperature) for x in logits]
    return [x / sum(powers) for x in powers]


def bce(p_s: float, p_t: float) -> float:
    return -p_t * math.log(p_s) - (1 - p_t) * math.log(1 - p_s)


def area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def shared(a: Box, b: Box) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(wide, 0) * max(high, 0)


def hull(a: Box, b: Box) -> list[float]:
    return [min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])]


def iou(a: Box, b: Box) -> float:
    return shared(a, b) / (area(a) + area(b) - shared(a, b))


def giou(a: Box, b: Box) -> float:
    union, around = area(a) + area(b) - shared(a, b), area(hull(a, b))
    return iou(a, b) - (around - union) / around


def gradient(loss: Tensor, leaf: Tensor) -> list[float]:
    return torch.autograd.grad(loss, leaf)[0].flatten().tolist()


Pair = tuple[DenseOutput, DenseOutput, Assignment]


@pytest.fixture
def pair(
    dense_output: Callable[..., DenseOutput], assignment_of: Callable[..., Assignment]
) -> Pair:
    """Student, teacher, and an assignment with two positives among the locations."""
    student, teacher = dense_output(seed=1), dense_output(seed=2)
    return student, teacher, assignment_of(student, {(0, 3): 1, (1, 20): 2})


@pytest.fixture
def location(
    output_of: Callable[..., DenseOutput], assignment_of: Callable[..., Assignment]
) -> Pair:
    """Student and teacher at one location, a positive one."""
    bins = torch.zeros(1, 1, 4, 6)
    student, teacher = (
        output_of(torch.tensor([[logits]]), bins, grid([(1, 1)], [8]))
        for logits in (STUDENT, TEACHER)
    )
    return student, teacher, assignment_of(student, {(0, 0): 0})


def rows(values: Tensor) -> list[list[float]]:
    """Values of all images and locations, one after the other."""
    return values.detach().double().flatten(0, 1).tolist()


class TestLosses:
    """Sums over all locations, as the page has them."""

    def test_softmax_kd(self, pair: Pair) -> None:
        student, teacher, assignment = pair
        T, total = 2.0, 0.0
        for l_s, l_t in zip(rows(student.cls_logits), rows(teacher.cls_logits), strict=True):
            q_s, q_t = softmax(l_s, T), softmax(l_t, T)
            kl = sum(t * math.log(t / s) for s, t in zip(q_s, q_t, strict=True))
            total += T**2 / len(l_s) * kl
        found = softmax_classification(
            student, teacher, assignment, temperature=T, gate_levels=False
        )
        assert found.item() == pytest.approx(total / 2, rel=1e-5)

    @pytest.mark.parametrize("beta", [0.0, 1.0, 2.0])
    def test_l_cls(self, pair: Pair, beta: float) -> None:
        student, teacher, assignment = pair
        total = 0.0
        for l_s, l_t in zip(rows(student.cls_logits), rows(teacher.cls_logits), strict=True):
            for p_s, p_t in zip(map(sigmoid, l_s), map(sigmoid, l_t), strict=True):
                total += abs(p_t - p_s) ** beta * bce(p_s, p_t)
        found = binary_classification(student, teacher, assignment, beta=beta, gate_levels=False)
        assert found.item() == pytest.approx(total / 2, rel=1e-5)

    @pytest.mark.parametrize("kind", ["iou", "giou"])
    def test_l_loc(self, pair: Pair, kind: str) -> None:
        student, teacher, assignment = pair
        total, u = 0.0, {"iou": iou, "giou": giou}[kind]
        columns = (student.cls_logits, teacher.cls_logits, student.boxes, teacher.boxes)
        for l_s, l_t, b_s, b_t in zip(*map(rows, columns), strict=True):
            gaps = [abs(sigmoid(t) - sigmoid(s)) for s, t in zip(l_s, l_t, strict=True)]
            total += max(gaps) * (1 - u(b_s, b_t))
        found = iou_localisation(student, teacher, assignment, kind=kind, gate_levels=False)
        assert found.item() == pytest.approx(total / 2, rel=1e-5)

    def test_ld(self, pair: Pair) -> None:
        student, teacher, assignment = pair
        assert student.box_logits is not None and teacher.box_logits is not None
        T, total = 10.0, 0.0
        for n, i in assignment.positive.nonzero().tolist():
            weight = max(map(sigmoid, student.cls_logits[n, i].tolist())) + 0.0002
            for z_s, z_t in zip(student.box_logits[n, i], teacher.box_logits[n, i], strict=True):
                q_s, q_t = softmax(z_s.tolist(), T), softmax(z_t.tolist(), T)
                kl = sum(t * math.log(t / s) for s, t in zip(q_s, q_t, strict=True))
                total += weight * T**2 / len(z_s) * kl
        found = localisation_distribution(student, teacher, assignment)
        assert found.item() == pytest.approx(total / 4, rel=1e-4)


class TestGradients:
    """One location, one positive: the derivations against autograd."""

    def test_softmax_kd(self, location: Pair) -> None:
        student, teacher, assignment = location
        leaf = student.cls_logits
        T, K = 2.0, len(STUDENT)
        q = zip(softmax(STUDENT, T), softmax(TEACHER, T), strict=True)
        expected = [T / K * (q_s - q_t) for q_s, q_t in q]
        loss = softmax_classification(student, teacher, assignment, temperature=T)
        assert gradient(loss, leaf) == pytest.approx(expected, rel=1e-5)
        assert sum(expected) == pytest.approx(0, abs=1e-12)

    @pytest.mark.parametrize("detached", [False, True])
    @pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
    def test_l_cls(
        self,
        location: Pair,
        beta: float,
        detached: bool,
    ) -> None:
        student, teacher, assignment = location
        leaf = student.cls_logits
        expected = []
        for p_s, p_t in zip(map(sigmoid, STUDENT), map(sigmoid, TEACHER), strict=True):
            d = p_s - p_t
            first = abs(d) ** beta * d
            slope = beta * abs(d) ** (beta - 1) * math.copysign(1, d) * p_s * (1 - p_s)
            expected.append(first + (0 if detached else slope * bce(p_s, p_t)))
            assert expected[-1] * d > 0  # to the teacher's score, for every class
        loss = binary_classification(
            student, teacher, assignment, beta=beta, detach_weight=detached
        )
        assert gradient(loss, leaf) == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize("other", [LEFT, APART, WITHIN], ids=["across", "apart", "within"])
    @pytest.mark.parametrize("kind", ["iou", "giou"])
    def test_box_side(self, kind: str, other: Box) -> None:
        """The right side of the student's box."""
        student = torch.tensor(RIGHT, dtype=torch.double, requires_grad=True)
        found = box_similarity(student, torch.tensor(other, dtype=torch.double), kind)
        h, x = RIGHT[3] - RIGHT[1], RIGHT[2]
        within = shared(RIGHT, other) > 0 and other[0] < x < other[2]
        slope_i = min(RIGHT[3], other[3]) - max(RIGHT[1], other[1]) if within else 0.0
        slope_u = h - slope_i
        around = hull(RIGHT, other)
        slope_c = around[3] - around[1] if x == around[2] else 0.0
        both, C = shared(RIGHT, other), area(around)
        U = area(RIGHT) + area(other) - both
        expected = (slope_i * U - both * slope_u) / U**2
        if other is APART:
            assert expected == 0
        if kind == "giou":
            expected += (slope_u * C - U * slope_c) / C**2
            assert expected != 0
        assert gradient(found, student)[2] == pytest.approx(expected, abs=1e-12)


class TestDetectorsOwnLosses:
    def test_qfl(self, dense_output: Callable[..., DenseOutput]) -> None:
        output = dense_output(seed=1)
        labels = torch.full(output.cls_logits.shape[:2], 3)
        labels[0, 5] = 1
        quality = torch.full(labels.shape, 0.7)
        found = quality_focal_loss(output, labels, quality)
        for place, targets in (((0, 5), (0, 0.7, 0)), ((1, 2), (0, 0, 0))):
            p = map(sigmoid, output.cls_logits[place].tolist())
            expected = sum(abs(y - x) ** 2 * bce(x, y) for x, y in zip(p, targets, strict=True))
            assert found[place].item() == pytest.approx(expected, rel=1e-5)

    def test_dfl(self) -> None:
        z, y, k = [0.2, 1.5, -0.3, 0.8], 1.3, 1
        P = softmax(z)
        expected = -(k + 1 - y) * math.log(P[k]) - (y - k) * math.log(P[k + 1])
        found = distribution_focal_loss(torch.tensor(z), torch.tensor(y))
        assert found.item() == pytest.approx(expected, rel=1e-5)

    def test_atss(self) -> None:
        locations = with_anchors(grid([(8, 8), (4, 4)], [8, 16]), [(3.0, 3.0)])
        g, size = [9.0, 9.0, 45.0, 41.0], torch.tensor([[64, 64]])
        truth = GroundTruth.from_lists([torch.tensor([g])], [torch.tensor([0])])
        middle, candidates, start = ((g[0] + g[2]) / 2, (g[1] + g[3]) / 2), [], 0
        for count in locations.counts:
            places = range(start, start + count)
            away = {i: math.dist(locations.centres[i].tolist(), middle) for i in places}
            candidates += sorted(places, key=away.__getitem__)[:9]
            start += count
        assert locations.anchors is not None
        overlaps = {i: iou(locations.anchors[i].tolist(), g) for i in candidates}
        threshold = mean(overlaps.values()) + stdev(overlaps.values())
        centres = {i: locations.centres[i].tolist() for i in candidates}
        expected = {
            i
            for i in candidates
            if overlaps[i] >= threshold
            and g[0] < centres[i][0] < g[2]
            and g[1] < centres[i][1] < g[3]
        }
        found = assign_atss(locations, truth, size, num_classes=1).positive[0]
        assert expected and set(found.nonzero().flatten().tolist()) == expected


class TestMeasures:
    """Three objects of one class; hits and misses in a known order."""

    FOUND = ((0, True, 0.95), (1, False, 0.85), (1, True, 0.62), (2, False, 0.61), (0, False, 0.3))

    def test_ap_and_ece(self, tmp_path: Path) -> None:
        annotations = squares(tmp_path, {"square": [60, 60, 60]})
        results = [
            {
                "image_id": image,
                "category_id": 0,
                "bbox": [1, 1, 60, 60] if hit else [300, 300, 60, 60],
                "score": value,
            }
            for image, hit, value in self.FOUND
        ]
        hits = [hit for _, hit, _ in self.FOUND]
        points = [
            (sum(hits[:n]) / 3, sum(hits[:n]) / n) for n in range(1, len(hits) + 1)
        ]  # recall, precision

        def best(r: float) -> float:
            return max((precision for recall, precision in points if recall >= r), default=0)

        expected = sum(best(k / 100) for k in range(101)) / 101
        assert score(results, annotations).AP == pytest.approx(expected)

        bins: dict[int, list[tuple[float, bool]]] = {}
        for _, hit, value in self.FOUND:
            bins.setdefault(int(10 * value), []).append((value, hit))
        ece = sum(
            len(b) / len(hits) * abs(mean(s for s, _ in b) - mean(h for _, h in b))
            for b in bins.values()
        )
        assert analyse_errors(results, annotations).calibration_error == pytest.approx(ece)


class TestPage:
    FORMULAS = re.findall(r"\$\$(.+?)\$\$", PAGE, re.DOTALL) + re.findall(
        r"(?<!\$)\$([^$]+)\$(?!\$)", re.sub(r"\$\$.+?\$\$", "", PAGE, flags=re.DOTALL)
    )

    def test_formulas_become_mathml(self) -> None:
        """What a converter does not know it leaves as a command with its backslash."""
        assert len(self.FORMULAS) > 60
        for formula in self.FORMULAS:
            assert "\\" not in convert(formula), formula

    def test_no_formula_breaks_a_table(self) -> None:
        for line in PAGE.splitlines():
            if line.startswith("|"):
                assert all("|" not in x for x in re.findall(r"\$[^$]*\$", line)), line

    @pytest.mark.parametrize(
        ("terms", "notebook", "cell"),
        re.findall(
            r"^\| ([^|]+) \| [^|]+ \| \[[^\]]*\]\((\w+\.ipynb)#cell-id=([\w-]+)\)", PAGE, re.M
        ),
    )
    def test_a_term_stands_where_the_glossary_says(
        self, terms: str, notebook: str, cell: str
    ) -> None:
        cells = json.loads((NOTEBOOKS / notebook).read_text(encoding="utf-8"))["cells"]
        (text,) = ("".join(one["source"]).lower() for one in cells if one["id"] == cell)
        for term in re.split(r", | \(|\)", terms):
            assert term.lower() in text, term
