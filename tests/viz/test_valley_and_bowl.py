"""Valley and bowl: its Python side, and the figure that stands in for it."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest

from bckd.system.errors import InputError
from bckd.viz.descent import descend
from bckd.viz.explorers.valley_and_bowl import ValleyAndBowl
from bckd.viz.protocol_figure import protocol_values
from bckd.viz.style import ROLE_COLOURS
from bckd.viz.valley_figure import CELLS, loss_landscapes, valley_figure


class TestExplorer:
    def test_state_has_all_values_without_a_browser(self) -> None:
        explorer = ValleyAndBowl([1.0, -3.0], [0.5, 4.0], ["cat", "dog"])
        for name, value in vars(protocol_values([1.0, -3.0], [0.5, 4.0])).items():
            assert explorer.state[name] == (list(value) if isinstance(value, tuple) else value)
        assert explorer.state["names"] == ["cat", "dog"]
        assert explorer.state["trained"] == 0
        assert explorer.state["by_softmax"] == explorer.state["by_binary"] == [0.5, 4.0]
        json.dumps(explorer.state, allow_nan=False)

    def test_the_first_sight_shows_a_student_that_both_losses_see(self) -> None:
        state = ValleyAndBowl().state
        assert state["softmax_loss"] > 0.5 and state["binary_loss"] > 0.5

    @pytest.mark.parametrize(
        ("teacher", "student", "sentence"),
        [
            ([0.0] * 3, [0.0] * 3, "the landscapes are of 2 classes, not of 3"),
            ([0.0, 9.0], [0.0, 0.0], "a logit of the teacher is 9.0; expected -8 to 8"),
            ([0.0, 0.0], [-8.1, 0.0], "a logit of the student is -8.1; expected -8 to 8"),
            ([0.0, math.nan], [0.0, 0.0], "a logit of the teacher is nan; expected a finite"),
            ([0.0, 0.0], [0.0], "the teacher has 2 logits and the student 1"),
        ],
    )
    def test_refusals(self, teacher: list, student: list, sentence: str) -> None:
        names = ["a", "b", "c"][: len(teacher)]
        with pytest.raises(InputError, match=re.escape(sentence)):
            ValleyAndBowl(teacher, student, names)

    def test_names_are_one_a_class(self) -> None:
        with pytest.raises(InputError, match="1 names were given for 2 classes"):
            ValleyAndBowl(names=["only"])

    def test_static_page_is_small_and_needs_nothing_else(self) -> None:
        html = ValleyAndBowl(names=["<b>", "'"]).static_html()
        assert len(html.encode()) < 70_000
        assert not re.search(r"https?:|\bsrc=|\bhref=|@import|url\(", html)
        assert "<b>" not in html, "names are data, not markup"


class TestFigure:
    def test_landscapes_hold_the_losses(self) -> None:
        axis, softmax, binary = loss_landscapes((2.0, -2.0), reach=8.0)
        assert softmax.shape == binary.shape == (CELLS + 1, CELLS + 1)
        for row, column in ((0, 0), (10, 33), (40, 12), (CELLS, CELLS)):
            values = protocol_values((2.0, -2.0), (axis[column], axis[row]))
            assert softmax[row, column] == pytest.approx(values.softmax_loss, abs=1e-12)
            assert binary[row, column] == pytest.approx(values.binary_loss, abs=1e-12)

    def test_a_valley_is_level_along_the_diagonal_and_a_bowl_is_not(self) -> None:
        axis, softmax, binary = loss_landscapes((2.0, -2.0), reach=8.0)
        for offset in (-10, 0, 16):
            assert np.ptp(np.diagonal(softmax, offset)) < 1e-12
            assert np.ptp(np.diagonal(binary, offset)) > 0.5

    def test_both_paths_and_all_scores_are_drawn(self) -> None:
        drawing = valley_figure((2.0, -2.0), (3.0, 3.0))
        descent = descend((2.0, -2.0), (3.0, 3.0))
        ends = (descent.softmax[-1], descent.binary[-1])
        valley, bowl, scores = drawing.axes
        for axes in (valley, bowl):
            paths = [line.get_xydata() for line in axes.lines if len(line.get_xydata()) > 3]
            found = {tuple(np.round(path[-1], 6)) for path in paths}
            assert found == {tuple(np.round(end, 6)) for end in ends}
        heights = [bar.get_height() for bar in scores.patches]
        expected = [1 / (1 + math.exp(-x)) for logits in ((2, -2), (3, 3), *ends) for x in logits]
        assert heights == pytest.approx(expected)
        labels = [text.get_text() for text in scores.get_legend().get_texts()]
        assert labels == ["teacher", "student", "by softmax KD", "by L_cls"]
        drawing.draw_without_rendering()

    def test_roles_have_their_colours(self) -> None:
        assert len(set(ROLE_COLOURS.values())) == len(ROLE_COLOURS)
