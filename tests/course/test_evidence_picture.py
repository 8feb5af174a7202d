"""The figure for a slide is that of the committed results."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from bckd.course.evidence_picture import DOTS, FROM_STARTS, RIVALS, slide, slide_rows
from bckd.studies.evidence import REGIMES, load_studies
from bckd.studies.noise import difference_on_images
from bckd.studies.statistics import values

ROOT = Path(__file__).parents[2]


def test_its_last_rows_are_of_common_starts() -> None:
    lines = load_studies(ROOT / "notebooks" / "results")
    rows = slide_rows(lines)
    assert [*rows][len(REGIMES) :] == [*FROM_STARTS.values()]
    for name, title in FROM_STARTS.items():
        assert [*rows[title]] == [x for x in RIVALS if values(lines[name], x)]
        expected = difference_on_images(lines[name], "none", "BCKD")
        assert rows[title]["none"] == expected


def test_the_committed_one_is_of_the_committed_results() -> None:
    """To the looks that another version of matplotlib or of a font may give it."""
    file = BytesIO()
    slide(load_studies(ROOT / "notebooks" / "results")).savefig(file, format="png", dpi=DOTS)
    file.seek(0)
    drawn, committed = (
        plt.imread(x)[..., :3] for x in (file, ROOT / "notebooks" / "figures" / "evidence.png")
    )
    assert drawn.shape == committed.shape
    assert np.abs(drawn - committed).mean() < 0.01
