"""Training curves."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes

from bckd.viz.curves import training_curves
from bckd.viz.methods import METHOD_COLOURS


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


@pytest.mark.parametrize("order", [("none", "softmax", "BCKD"), ("BCKD", "none", "softmax")])
def test_a_method_has_its_colour_in_any_order(order: tuple[str, ...]) -> None:
    figure = training_curves({method: log(8, "qfl") for method in order})
    (panel,) = titled(figure.axes).values()
    assert [line.get_color() for line in panel.lines] == [METHOD_COLOURS[m] for m in order]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["no distillation" if m == "none" else m for m in order]


@pytest.mark.parametrize("factor", [1.5, 2.2, 25, 30, 5000])
def test_ticks_are_plain_numbers_and_do_not_overlap(factor: float) -> None:
    records = [{"step": n, "unweighted": {"qfl": 0.3 * factor ** (n / 9)}} for n in range(10)]
    figure = training_curves({"BCKD": records}, smooth=1)
    figure.draw_without_rendering()
    (panel,) = titled(figure.axes).values()
    labels = [x for x in panel.get_yticklabels() if x.get_text()]
    low, high = panel.get_ylim()
    shown = [x for x in labels if low <= x.get_position()[1] <= high]
    assert len(shown) > 1 and all(float(x.get_text()) > 0 for x in shown)
    boxes = sorted((x.get_window_extent() for x in shown), key=lambda box: box.y0)
    assert all(a.y1 <= b.y0 for a, b in zip(boxes, boxes[1:], strict=False))


@pytest.mark.filterwarnings("error")
def test_a_term_that_is_0_throughout_has_a_linear_axis() -> None:
    records = [{"step": n, "unweighted": {"qfl": 0.0}} for n in range(5)]
    (panel,) = titled(training_curves({"BCKD": records}).axes).values()
    assert panel.get_yscale() == "linear"


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


@pytest.mark.parametrize(
    ("terms", "titles"),
    [
        (("focal", "l1"), {"focal loss", "L1 loss of the deltas"}),
        (("focal", "log_iou", "centerness"), {"focal loss", "-log IoU", "centerness loss"}),
        (("focal", "my_own"), {"focal loss", "my_own"}),
    ],
)
def test_every_familys_terms_have_a_panel(terms: tuple[str, ...], titles: set[str]) -> None:
    assert set(titled(training_curves({"run": log(4, *terms)}).axes)) == titles
