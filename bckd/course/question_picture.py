"""The figure of the paper's question: where, by how much and why its own protocol is better.

    python -m bckd.course.question_picture notebooks/figures/question.png

It stands on the page notebooks/the_question.md.

It needs the committed results of the studies.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bckd.course.evidence_picture import FROM_STARTS
from bckd.studies.evidence import evidence_map, load_studies
from bckd.studies.methods import PSEUDO
from bckd.studies.noise import difference_on_images
from bckd.studies.options import PUBLISHED
from bckd.studies.ranking import difference_name
from bckd.studies.statistics import Difference, Line, methods_of
from bckd.studies.swap_table import gains_of_parts
from bckd.system.files import write_atomically
from bckd.training.run_log import read_lines
from bckd.viz.methods import METHOD_COLOURS, name_of, style_of
from bckd.viz.rows import interval, row_panel
from bckd.viz.style import figure

DOTS = 100  # an inch
# Pairs whose difference is a question: the whole method, each of its terms, the term on top.
PAIRS = (
    ("BCKD", "softmax"),
    ("L_cls", "softmax"),
    ("BCKD", "L_cls"),
    ("softmax + L_loc", "softmax"),
    ("BCKD", "softmax + L_loc"),
)
REFERENCES = ("none", "softmax", PSEUDO)  # what BCKD is compared with, by regime
GAP = 0.27  # of a row, between its references
NO_LABELS = {"photographs-shared-none": "300 more from six, VOC2007, none labelled"}
# Where images without labels have pseudo-labels with both.
BESIDE = {
    "photographs-shared-tenth-pseudo": "the same, a tenth labelled, pseudo-labels with both",
    "photographs-shared-none-pseudo": "the same, none labelled, pseudo-labels with both",
}
MEASURES = {"AP": ("o", "0.1"), "AP75": ("D", "0.55")}  # marker and grey
UNLABELLED = ("softmax", "softmax + L_loc", "BCKD without L_loc", "BCKD")
PARTS = {
    "level": ("#4D4D4D", "D", "level: the highest logit"),
    "pattern": ("#9A9A00", "o", "pattern: the others, seen from it"),
    "boxes": ("#01665E", "s", "boxes"),
}
METHODS = ("none", "softmax", "softmax + L_loc", "L_cls", "BCKD")


def question(
    lines: Mapping[str, list[Line]], swaps: Sequence[Line], unlabelled: Sequence[Line]
) -> Figure:
    """Four panels: BCKD minus its references by regime; pairs of terms; score errors; swaps.

    Args:
        lines: by study, as `load_studies` gives them; `fine` among them.
        swaps: of `base`, from students with one constant taken out of their logits.
        unlabelled: swaps of students that learnt without labels.
    """
    drawing = figure(9.5, 11.2)
    panels = drawing.subplot_mosaic(
        [["where", "where"], ["pairs", "errors"], ["parts", "parts"]],
        height_ratios=(2, 1, 0.65),
        width_ratios=(1.35, 1),
    )
    _where(panels["where"], {name: regimes(lines, name) for name in REFERENCES})
    _pairs(panels["pairs"], lines["fine"])
    _errors(panels["errors"], swaps)
    _parts(panels["parts"], unlabelled)
    return drawing


def regimes(lines: Mapping[str, list[Line]], reference: str) -> dict[str, Difference]:
    """AP of BCKD minus a reference's by regime that has it, in 0..1; from common starts last."""
    found = evidence_map({**lines}, ("BCKD",), reference)
    by_regime = {title: row["BCKD"] for title, row in found.items() if row}
    common = {
        title: difference_on_images(lines[name], *pair)
        for name, title in (FROM_STARTS | NO_LABELS | BESIDE).items()
        if (pair := compared(name, reference))[1] in methods_of(lines[name])
    }
    return by_regime | common


def compared(study: str, reference: str) -> tuple[str, str]:
    """What stands for BCKD and for a reference in a study from common starts."""
    if study not in BESIDE:
        return "BCKD", reference
    beside = f"softmax + {PSEUDO}" if reference == "softmax" else reference
    return f"BCKD + {PSEUDO}", beside


def error_parts(swaps: Sequence[Line], method: str) -> tuple[float, float]:
    """A student's mean score error without one constant of its logits, and what that adds."""
    runs = [run for run in swaps if run["method"] == method]
    rest = sum(run["recentred"]["score_error"] for run in runs) / len(runs)
    return rest, sum(run["score_error"] for run in runs) / len(runs) - rest


def _where(axes: Axes, found: Mapping[str, Mapping[str, Difference]]) -> None:
    titles = list(dict.fromkeys(title for by_regime in found.values() for title in by_regime))
    for place, (name, by_regime) in enumerate(found.items()):
        style = style_of(name, REFERENCES)
        look = style["color"], style["marker"]
        for count, (title, difference) in enumerate(by_regime.items()):
            y = titles.index(title) + GAP * (place - 1)
            interval(axes, difference, y, *look, f"minus {name_of(name)}" if count == 0 else "")
    axes.legend(fontsize=9, loc="center right", bbox_to_anchor=(1, 0.25))
    row_panel(axes, titles, "where: AP of BCKD minus another's, points")


def _pairs(axes: Axes, lines: list[Line]) -> None:
    for place, (field, (marker, grey)) in enumerate(MEASURES.items()):
        for row, pair in enumerate(PAIRS):
            found = difference_on_images(lines, *pair, field)
            label = field if row == 0 else ""
            interval(axes, found, row - 0.15 + 0.3 * place, grey, marker, label)
    below: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.1), "ncols": 2}
    axes.legend(fontsize=9, frameon=False, **below)
    names = [difference_name(*pair) for pair in PAIRS]
    row_panel(axes, names, "by how much: from common starts, points")


def _errors(axes: Axes, swaps: Sequence[Line]) -> None:
    for row, method in enumerate(METHODS):
        rest, constant = error_parts(swaps, method)
        axes.barh(row, rest, color=METHOD_COLOURS[method], height=0.6)
        axes.barh(
            row, constant, left=rest, color="none", edgecolor=METHOD_COLOURS[method], hatch="///",
            height=0.6, linewidth=1.2,
        )  # fmt: skip
    row_panel(axes, [name_of(name) for name in METHODS], "why, labels: score error")
    axes.set_xlabel("hatched: one constant\n(two seeds)", fontsize=9)


def _parts(axes: Axes, swaps: Sequence[Line]) -> None:
    for row, name in enumerate(UNLABELLED):
        for place, (part, gain) in enumerate(gains_of_parts(swaps, name).items()):
            colour, marker, label = PARTS[part]
            y = row + GAP * (place - 1)
            interval(axes, gain, y, colour, marker, label if row == 0 else "")
    below: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.13), "ncols": 3}
    axes.legend(fontsize=9, frameon=False, **below)
    row_panel(
        axes, UNLABELLED, "why, no labels: AP gained where a part of the output is the teacher's"
    )


def swaps_without_labels(results: Path) -> list[Line]:
    """Of the students that learnt on photographs without labels."""
    names = ("photographs-shared-none", "photographs-shared-none-apart")
    return [line for name in names for line in read_lines(results / f"{name}_swaps.jsonl")]


if __name__ == "__main__":
    drawing = question(
        load_studies(PUBLISHED),
        read_lines(PUBLISHED / "base_swaps.jsonl"),
        swaps_without_labels(PUBLISHED),
    )
    write_atomically(Path(sys.argv[1]), lambda part: drawing.savefig(part, format="png", dpi=DOTS))
