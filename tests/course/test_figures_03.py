"""Curves of the binary loss against its formula; what the other figures show."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bckd.course.figures_03 import binary_curve, binary_curves, gate_curves, share_bars
from bckd.system.errors import InputError


class TestBinaryCurve:
    @pytest.mark.parametrize("beta", [0.0, 1.0, 2.0])
    @pytest.mark.parametrize("detached", [False, True])
    def test_is_the_formula(self, beta: float, detached: bool) -> None:
        target, scores = 0.7, np.array([0.05, 0.4, 0.9])
        losses, gradients = binary_curve(target, scores, beta, detached)
        bce = -(target * np.log(scores) + (1 - target) * np.log(1 - scores))
        gap = np.abs(target - scores)
        assert losses == pytest.approx(gap**beta * bce)
        own = gap**beta * (scores - target)
        slope = 0 if beta == 0 else beta * gap ** (beta - 1)
        through = slope * np.sign(scores - target) * scores * (1 - scores) * bce
        assert gradients == pytest.approx(own if detached else own + through)

    def test_without_detaching_the_gradient_jumps_at_equality(self) -> None:
        _, (before, after) = binary_curve(0.3, [0.3 - 1e-7, 0.3 + 1e-7])
        entropy = -(0.3 * math.log(0.3) + 0.7 * math.log(0.7))
        assert after == pytest.approx(0.3 * 0.7 * entropy, rel=1e-4)
        assert before == pytest.approx(-after, rel=1e-4)

    @pytest.mark.parametrize(("target", "score"), [(0.0, 0.5), (0.5, 1.0)])
    def test_no_logit(self, target: float, score: float) -> None:
        with pytest.raises(InputError, match="strictly between 0 and 1"):
            binary_curve(target, [score])


def test_binary_curves_has_a_column_a_target() -> None:
    drawing = binary_curves([0.7, 0.05, 0.5])
    assert len(drawing.axes) == 6
    above, below = drawing.axes[0], drawing.axes[3]
    assert above.get_title() == "teacher's score 0.7"
    assert [line.get_linestyle() for line in above.lines] == ["-", "-", "-", ":"]
    # beta 0 has no weight to detach
    assert [line.get_linestyle() for line in below.lines[:5]] == ["-", "-", "--", "-", "--"]


def test_binary_curves_enlarges_the_neighbourhood_of_a_low_score() -> None:
    high, low = binary_curves([0.7, 0.05]).axes[2:]
    assert not high.child_axes
    (window,) = low.child_axes
    left, right = window.get_xlim()
    assert left < 0.05 < right < 0.2
    line = max(window.lines, key=lambda line: len(line.get_xdata()))
    assert list(line.get_xdata()) == list(low.lines[0].get_xdata()), "the same curves"


class TestShareBars:
    def test_bars_fill_the_width(self) -> None:
        panels = {"loss": {"a": 0.25, "b": 1.0}, "gradient": {"a": 0.5, "b": 0.0}}
        drawing = share_bars(panels)
        for axes, shares in zip(drawing.axes, panels.values(), strict=True):
            widths = [bar.get_width() for bar in axes.patches]
            assert widths[:2] == [100 * share for share in shares.values()]
            assert [sum(pair) for pair in zip(widths[:2], widths[2:], strict=True)] == [100, 100]

    def test_no_share(self) -> None:
        with pytest.raises(InputError, match="a share is 1.5"):
            share_bars({"loss": {"a": 1.5}})


def test_gate_curves_has_a_line_a_level() -> None:
    drawing = gate_curves({"stride 8": {1: 0.1, 4: 0.0}, "stride 32": {1: 0.6, 4: 0.25}})
    (axes,) = drawing.axes
    assert [line.get_label() for line in axes.lines] == ["stride 8", "stride 32"]
    assert list(axes.lines[1].get_ydata()) == [60, 25]
