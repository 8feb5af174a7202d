"""Training curves."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes

from bckd.viz.curves import training_curves


def log(steps: int, *terms: str) -> list[dict]:
    records = [
        {"step": step, "unweighted": {term: 1.0 + step + n for n, term in enumerate(terms)}}
        for step in range(steps)
    ]
    return [*records, {"step": steps, "metrics": {"AP": 0.5}}]


def titled(panels: list[Axes]) -> dict[str, Axes]:
    return {panel.get_title(): panel for panel in panels if panel.get_title()}


def test_one_panel_a_term_and_one_line_a_run() -> None:
    figure = training_curves(
        {"alone": log(8, "qfl", "giou", "dfl"), "taught": log(8, "qfl", "giou", "dfl", "binary")}
    )
    panels = titled(figure.axes)
    assert set(panels) == {
        "quality focal loss",
        "GIoU loss",
        "distribution focal loss",
        "L_cls (binary)",
    }
    lines = {title: [line.get_label() for line in p.lines] for title, p in panels.items()}
    assert lines["quality focal loss"] == ["alone", "taught"]
    assert lines["L_cls (binary)"] == ["taught"]
    assert all(panel.get_xlabel() == "step" for panel in panels.values())
    assert sum(panel.axison for panel in figure.axes) == 4, "unused panels are empty"
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["alone", "taught"]


def test_a_run_keeps_its_colour() -> None:
    figure = training_curves({"alone": log(8, "qfl"), "taught": log(8, "qfl", "binary")})
    panels = titled(figure.axes)
    colours = [line.get_color() for line in panels["quality focal loss"].lines]
    assert len(set(colours)) == 2
    assert panels["L_cls (binary)"].lines[0].get_color() == colours[1]


@pytest.mark.parametrize(("steps", "smooth"), [(9, 3), (9, 1), (2, 5), (1, 5)])
def test_values_are_running_means(steps: int, smooth: int) -> None:
    figure = training_curves({"run": log(steps, "qfl")}, smooth=smooth)
    (line,) = titled(figure.axes)["quality focal loss"].lines
    width = min(smooth, steps)
    values = 1.0 + np.arange(steps)
    expected = [values[n : n + width].mean() for n in range(steps - width + 1)]
    assert line.get_ydata() == pytest.approx(expected)
    assert line.get_xdata().tolist() == list(range(width - 1, steps))


@pytest.mark.parametrize(
    "term", ["qfl", "giou", "dfl", "binary", "iou", "softmax", "ld", "ld_region"]
)
def test_every_term_of_the_trainer_is_drawn(term: str) -> None:
    figure = training_curves({"run": log(3, "qfl", term)})
    assert len(titled(figure.axes)) == len({"qfl", term})
