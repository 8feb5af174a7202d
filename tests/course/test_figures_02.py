"""Figures of the course's second notebook."""

from __future__ import annotations

import numpy as np
import pytest

from bckd.course.figures_02 import line_panels, shift_histogram
from bckd.system.errors import InputError


class TestLinePanels:
    def test_a_name_looks_the_same_in_every_panel(self) -> None:
        one, two = ([1, 2], [3.0, 4.0]), ([1, 2, 4], [0.0, 1.0, 2.0])
        drawing = line_panels({"loss": {"a": one, "b": two}, "error": {"b": one}}, "step")
        assert [axes.get_title() for axes in drawing.axes] == ["loss", "error"]
        assert {axes.get_xlabel() for axes in drawing.axes} == {"step"}
        (a, b), (again,) = (axes.lines for axes in drawing.axes)
        assert b.get_xydata().tolist() == [[1, 0], [2, 1], [4, 2]]
        assert again.get_xydata().tolist() == [[1, 3], [2, 4]]
        assert (b.get_color(), b.get_linestyle()) == (again.get_color(), again.get_linestyle())
        assert (a.get_color(), a.get_linestyle()) != (b.get_color(), b.get_linestyle())
        assert [axes.get_ylim()[0] for axes in drawing.axes] == pytest.approx([-0.12, -0.12])
        (legend,) = drawing.legends
        assert [text.get_text() for text in legend.get_texts()] == ["a", "b"]

    def test_values_below_zero_are_shown(self) -> None:
        drawing = line_panels({"gain": {"a": ([1, 2], [-3.0, 4.0])}}, "step")
        assert drawing.axes[0].get_ylim()[0] < -3

    def test_logarithmic_axes(self) -> None:
        series = {"a": ([1, 2, 80], [0.0, 1e-9, 1.0])}
        drawing = line_panels({"loss": series, "error": series}, "classes", ["loss"], log_x=True)
        loss, error = drawing.axes
        assert (loss.get_yscale(), error.get_yscale()) == ("log", "linear")
        assert np.isnan(loss.lines[0].get_ydata()[0])
        assert error.lines[0].get_ydata().tolist() == [0.0, 1e-9, 1.0]
        assert loss.get_xscale() == "log"
        assert [text.get_text() for text in loss.get_xticklabels()] == ["1", "2", "80"]
        assert not drawing.legends

    @pytest.mark.parametrize(
        ("panels", "log", "message"),
        [
            ({}, (), "no panel"),
            ({"loss": {}}, ("error",), "'error', which is no panel"),
            ({"loss": {"a": ([1], [1, 2])}}, (), "1 x and 2 y"),
        ],
    )
    def test_what_does_not_fit(self, panels: dict, log: tuple[str, ...], message: str) -> None:
        with pytest.raises(InputError, match=message):
            line_panels(panels, "step", log)


class TestShiftHistogram:
    def test_shares_of_each_kind(self) -> None:
        shifts = {"softmax": np.array([2.0, 2.0, -1.0]), "BCKD": np.array([0.0, 0.1, 0.2])}
        kinds = {"objects": np.array([0, 0, 1], bool), "background": np.array([1, 1, 0], bool)}
        drawing = shift_histogram(shifts, kinds)
        assert [axes.get_title() for axes in drawing.axes] == ["objects", "background"]
        for axes, where in zip(drawing.axes, kinds.values(), strict=True):
            for patch, values in zip(axes.patches, shifts.values(), strict=True):
                share, edges, _ = patch.get_data()
                middles = (edges[1:] + edges[:-1]) / 2
                assert share.sum() == pytest.approx(1)
                assert (share * middles).sum() == pytest.approx(values[where].mean(), abs=0.07)

    def test_what_does_not_fit(self) -> None:
        shifts = {"softmax": np.zeros(3)}
        with pytest.raises(InputError, match=r"'all' has shape \(2,\); expected \(3,\)"):
            shift_histogram(shifts, {"all": np.ones(2, bool)})
        with pytest.raises(InputError, match="no location is of the kind 'none'"):
            shift_histogram(shifts, {"none": np.zeros(3, bool)})
