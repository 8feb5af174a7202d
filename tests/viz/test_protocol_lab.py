"""The protocol lab's Python side and the figure that stands in for it."""

from __future__ import annotations

import json
import math
import re

import pytest
from matplotlib.figure import Figure

from bckd.system.errors import InputError
from bckd.viz.explorers.protocol_lab import TEMPERATURES, ProtocolLab
from bckd.viz.protocol_figure import CLASS_NAMES, MAX_CLASSES, protocol_figure, protocol_values
from bckd.viz.style import ROLE_COLOURS

TEACHER, STUDENT = (2.0, -2.0, -4.0, -3.0), (0.5, -1.0, -2.0, -3.5)


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def bars(figure: Figure, title: str) -> list[float]:
    (axes,) = [a for part in figure.subfigs for a in part.axes if title in a.get_title()]
    return [bar.get_height() for bar in axes.patches]


class TestValues:
    def test_by_hand(self) -> None:
        """The formulas of the docstrings, written out for two classes."""
        values = protocol_values([1.0, -1.0], [0.0, 2.0], temperature=2.0)
        teacher, student = sigmoid(1.0), sigmoid(-1.0)  # of class 0 at T = 2: gaps 2 / 2, -2 / 2
        assert values.teacher_probabilities == pytest.approx((teacher, 1 - teacher))
        assert values.student_probabilities == pytest.approx((student, 1 - student))
        divergence = teacher * math.log(teacher / student) + (1 - teacher) * math.log(
            (1 - teacher) / (1 - student)
        )
        assert values.softmax_loss == pytest.approx(4 * divergence / 2)
        assert values.softmax_gradient == pytest.approx((student - teacher, teacher - student))
        assert values.teacher_scores == pytest.approx((sigmoid(1.0), sigmoid(-1.0)))
        expected = 0.0
        for target, score in zip(values.teacher_scores, values.student_scores, strict=True):
            bce = -target * math.log(score) - (1 - target) * math.log(1 - score)
            expected += abs(target - score) * bce
        assert values.binary_loss == pytest.approx(expected)

    @pytest.mark.parametrize("detach", [False, True])
    @pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
    def test_gradients_are_slopes(self, temperature: float, detach: bool) -> None:
        values = protocol_values(TEACHER, STUDENT, temperature=temperature, detach_weight=detach)
        for index in range(len(STUDENT)):
            ends = []
            for step in (1e-5, -1e-5):
                moved = [logit + step * (j == index) for j, logit in enumerate(STUDENT)]
                ends.append(protocol_values(TEACHER, moved, temperature=temperature))
            slope = (ends[0].softmax_loss - ends[1].softmax_loss) / 2e-5
            assert values.softmax_gradient[index] == pytest.approx(slope, abs=1e-7)
            slope = (ends[0].binary_loss - ends[1].binary_loss) / 2e-5
            gap = values.student_scores[index] - values.teacher_scores[index]
            expected = abs(gap) * gap if detach else slope
            assert values.binary_gradient[index] == pytest.approx(expected, abs=1e-7)

    def test_a_shift_is_seen_by_one_loss_only(self) -> None:
        values = protocol_values(TEACHER, [logit + 3 for logit in TEACHER])
        assert values.softmax_loss == pytest.approx(0, abs=1e-12)
        assert values.softmax_gradient == pytest.approx([0] * 4, abs=1e-12)
        assert values.binary_loss > 1

    def test_one_class(self) -> None:
        values = protocol_values([2.0], [-2.0])
        assert (values.softmax_loss, values.softmax_gradient) == (0, (0,))
        assert values.binary_loss > 1


BAD = [
    ([], [], "0 classes were given; expected 1 to 8"),
    ([0.0] * 9, [0.0] * 9, "9 classes were given; expected 1 to 8"),
    ([0.0, 1.0], [0.0], "the teacher has 2 logits and the student 1"),
    ([0.0, math.nan], [0.0, 1.0], "a logit of the teacher is nan; expected a finite number"),
    ([0.0, 1.0], [0.0, -math.inf], "a logit of the student is -inf; expected a finite number"),
]


@pytest.mark.parametrize("call", [protocol_values, protocol_figure, ProtocolLab])
@pytest.mark.parametrize(("teacher", "student", "sentence"), BAD)
def test_bad_logits(call: type, teacher: list, student: list, sentence: str) -> None:
    with pytest.raises(InputError, match=re.escape(sentence)):
        call(teacher, student)


@pytest.mark.parametrize("call", [protocol_figure, ProtocolLab])
def test_bad_names(call: type) -> None:
    with pytest.raises(InputError, match="1 names were given for 2 classes"):
        call([0.0, 1.0], [0.0, 1.0], ["only"])


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_bad_temperature(temperature: float) -> None:
    for call in (protocol_values, protocol_figure, ProtocolLab):
        with pytest.raises(InputError, match=f"the temperature is {temperature}; expected"):
            call([0.0], [0.0], temperature=temperature)


class TestFigure:
    def test_bars_are_the_values(self) -> None:
        figure = protocol_figure(TEACHER, STUDENT, temperature=4.0)
        values = protocol_values(TEACHER, STUDENT, temperature=4.0)
        assert bars(figure, "class logits") == [*TEACHER, *STUDENT]
        assert bars(figure, "probabilities, T = 4") == pytest.approx(
            values.teacher_probabilities + values.student_probabilities
        )
        assert bars(figure, "sigmoid") == pytest.approx(
            values.teacher_scores + values.student_scores
        )
        assert bars(figure, f"softmax KD = {values.softmax_loss:.4f}") == pytest.approx(
            values.softmax_gradient
        )
        assert bars(figure, f"L_cls = {values.binary_loss:.4f}") == pytest.approx(
            values.binary_gradient
        )

    @pytest.mark.parametrize("count", [1, 2, MAX_CLASSES])
    def test_any_number_of_classes(self, count: int) -> None:
        figure = protocol_figure([1.0] * count, [0.0] * count)
        for part in figure.subfigs:
            for axes in part.axes:
                labels = [label.get_text() for label in axes.get_xticklabels()]
                assert labels == list(CLASS_NAMES[:count])
        figure.canvas.draw()

    def test_roles_have_their_colours(self) -> None:
        figure = protocol_figure([1.0], [0.0], ["screw"])
        (legend,) = [a.get_legend() for a in figure.subfigs[0].axes]
        assert [text.get_text() for text in legend.get_texts()] == ["teacher", "student"]
        handles = [handle.get_facecolor() for handle in legend.get_patches()]
        figure_colours = [
            "#{:02X}{:02X}{:02X}".format(*(round(255 * c) for c in h[:3])) for h in handles
        ]
        assert figure_colours == [ROLE_COLOURS["teacher"], ROLE_COLOURS["student"]]


class TestLab:
    @pytest.mark.parametrize("temperature", TEMPERATURES)
    @pytest.mark.parametrize("detach", [False, True])
    def test_state_has_all_values_without_a_browser(self, temperature: float, detach: bool) -> None:
        lab = ProtocolLab(TEACHER, STUDENT, temperature=temperature, detach_weight=detach)
        values = protocol_values(TEACHER, STUDENT, temperature=temperature, detach_weight=detach)
        for name, value in vars(values).items():
            assert lab.state[name] == (list(value) if isinstance(value, tuple) else value)
        assert lab.state["trained"] == 0
        assert lab.state["by_softmax"] == lab.state["by_binary"] == list(STUDENT)
        assert lab.state["names"] == list(CLASS_NAMES[:4])
        assert (lab.state["teacher"], lab.state["student"]) == (list(TEACHER), list(STUDENT))
        json.dumps(lab.state, allow_nan=False)

    def test_other_temperatures_are_refused(self) -> None:
        with pytest.raises(InputError, match="the temperature is 3; expected one of 1, 2, 4"):
            ProtocolLab(temperature=3)

    def test_static_page_is_small_and_needs_nothing_else(self) -> None:
        html = ProtocolLab(names=["é", "<b>", "'", '"']).static_html()
        assert len(html.encode()) < 60_000
        assert not re.search(r"https?:|\bsrc=|\bhref=|@import|url\(", html)
        assert "<b>" not in html, "names are data, not markup"
