"""The figure of the paper's question shows the numbers of the published runs."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex

from bckd.course.evidence_picture import FROM_STARTS
from bckd.course.question_picture import (
    BESIDE,
    DOTS,
    GAP,
    METHODS,
    NO_LABELS,
    PAIRS,
    UNLABELLED,
    compared,
    error_parts,
    question,
    regimes,
    swaps_without_labels,
)
from bckd.studies.evidence import load_studies
from bckd.studies.noise import difference_on_images
from bckd.studies.statistics import Line, paired, values
from bckd.studies.swap_table import gains_of_parts
from bckd.training.run_log import read_lines
from bckd.viz.methods import METHOD_COLOURS, style_of

RESULTS = Path(__file__).parents[2] / "notebooks" / "results"
COMMON = FROM_STARTS | NO_LABELS | BESIDE
LACKING = {
    "none": {*NO_LABELS, "photographs-shared-none-pseudo"},
    "softmax": {"fine-one"},
    "pseudo-labels": FROM_STARTS.keys() - {"photographs-shared-tenth-swept"}
    | {"photographs-shared-tenth-pseudo"},
}
SWAPS = read_lines(RESULTS / "base_swaps.jsonl")
UNLABELLED_SWAPS = swaps_without_labels(RESULTS)


@pytest.fixture(scope="module")
def lines() -> dict[str, list[Line]]:
    return load_studies(RESULTS)


@pytest.mark.parametrize("reference", LACKING)
def test_regimes_are_differences_by_seed_and_the_last_ones_of_common_starts(
    reference: str, lines: dict[str, list[Line]]
) -> None:
    found = regimes(lines, reference)
    compared_in = COMMON.keys() - LACKING[reference]
    last = [title for name, title in COMMON.items() if name in compared_in]
    assert list(found)[-len(last) :] == last
    for name, title in COMMON.items():
        if name in compared_in:
            pair = compared(name, reference)
            assert found[title] == difference_on_images(lines[name], *pair)
            assert pair[0].startswith("BCKD") and (reference in pair[1])
            assert (" + " in pair[0]) == (name in BESIDE)
    if reference in {line["method"] for line in lines["base"]}:
        expected = paired(values(lines["base"], "BCKD"), values(lines["base"], reference))
        assert found["six classes, 1200 steps"] == expected
    # Softmax KD has no loss there.
    assert ("one class, 1200 steps" in found) == (reference == "none")


def test_a_score_error_is_a_constant_and_the_rest() -> None:
    rest, constant = error_parts(SWAPS, "softmax")
    runs = [run for run in SWAPS if run["method"] == "softmax"]
    assert rest + constant == pytest.approx(sum(x["score_error"] for x in runs) / len(runs))
    assert constant > rest, "most of a softmax student's error is the constant"


def test_every_panel_has_its_rows(lines: dict[str, list[Line]]) -> None:
    where, pairs, errors, parts = question(lines, SWAPS, UNLABELLED_SWAPS).axes
    rows = [text.get_text() for text in where.get_yticklabels()]
    drawn = [(*x.get_xydata()[0], x.get_marker()) for x in where.lines if len(x.get_xdata()) == 1]
    expected = [
        (100 * found.mean, rows.index(title) + GAP * (place - 1), style_of(name, LACKING)["marker"])
        for place, name in enumerate(LACKING)
        for title, found in regimes(lines, name).items()
    ]
    assert {x[:2] for x in drawn} == {x[:2] for x in expected} and len(drawn) == len(expected)
    assert [x[2] for x in drawn] == [x[2] for x in expected]
    assert len({*rows}) == len(rows)
    names = [text.get_text() for text in pairs.get_yticklabels()]
    assert len(names) == len(PAIRS) and names[-1] == "BCKD - (softmax + L_loc)"
    mean = difference_on_images(lines["fine"], "BCKD", "softmax", "AP75").mean
    marks = [x.get_xdata()[0] for x in pairs.lines if x.get_marker() == "D"]
    assert marks[0] == pytest.approx(100 * mean)
    bars = [(bar.get_x() + bar.get_width(), to_hex(bar.get_edgecolor())) for bar in errors.patches]
    for n, method in enumerate(METHODS):
        end, colour = bars[2 * n + 1]
        assert end == pytest.approx(sum(error_parts(SWAPS, method)))
        assert colour == METHOD_COLOURS[method].lower()
    marks = [x.get_xydata()[0] for x in parts.lines if len(x.get_xdata()) == 1]
    gains = [gains_of_parts(UNLABELLED_SWAPS, name) for name in UNLABELLED]
    assert [text.get_text() for text in parts.get_yticklabels()] == [*UNLABELLED]
    assert [tuple(x) for x in marks] == [
        (pytest.approx(100 * gain.mean), row + GAP * (place - 1))
        for row, found in enumerate(gains)
        for place, gain in enumerate(found.values())
    ]
    level = {name: found["level"].mean for name, found in zip(UNLABELLED, gains, strict=True)}
    assert min(level["softmax"], level["softmax + L_loc"]) > 4 * level["BCKD without L_loc"]


def test_the_committed_one_is_of_the_committed_results(lines: dict[str, list[Line]]) -> None:
    """To the looks that another version of matplotlib or of a font may give it."""
    file = BytesIO()
    question(lines, SWAPS, UNLABELLED_SWAPS).savefig(file, format="png", dpi=DOTS)
    file.seek(0)
    drawn, committed = (
        plt.imread(x)[..., :3] for x in (file, RESULTS.parent / "figures" / "question.png")
    )
    assert drawn.shape == committed.shape
    assert np.abs(drawn - committed).mean() < 0.01
