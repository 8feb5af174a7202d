"""The drawn task of the notebook on a reader's own data, and what is wrong with its labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bckd.course import smears
from bckd.course.smears import HEIGHT, RADII, WIDTH, draw_smear, write_export
from bckd.datasets.boxes import CLIPPED, CORNERS, NO_AREA, RENUMBERED
from bckd.inspection.checking import check
from bckd.inspection.layouts import find_parts
from bckd.inspection.notes import TRAINED_ON


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder for the export of a few pictures."""
    monkeypatch.setattr(smears, "SEEDS", {"train": range(30), "val": range(1000, 1006)})
    return tmp_path


def test_a_seed_is_a_picture_whose_cells_lie_within_it() -> None:
    for seed in range(4):
        picture, cells = draw_smear(seed)
        again, same = draw_smear(seed)
        assert np.array_equal(np.asarray(picture), np.asarray(again)) and cells == same
        assert picture.size == (WIDTH, HEIGHT)
        for name, (x, y, width, height) in cells:
            assert min(x, y) >= 0 and x + width <= WIDTH + 0.1 and y + height <= HEIGHT + 0.1
            assert 0 < max(width, height) <= 2 * 1.25 * RADII[name][1] + 0.1
    assert np.asarray(draw_smear(4)[0]).tobytes() != np.asarray(again).tobytes()


def test_a_cell_is_darker_than_what_surrounds_it() -> None:
    picture, cells = draw_smear(0)
    values = np.asarray(picture.convert("L")).astype(float)
    for _, (x, y, width, height) in cells:
        inner = values[int(y) : int(y + height) + 1, int(x) : int(x + width) + 1]
        assert inner.min() < np.median(values) - 10


def test_an_unspoilt_export_has_no_fault(few: Path) -> None:
    write_export(few, spoilt=False)
    found = check(find_parts(few))
    assert not found.faults()
    assert not any(
        findings.oddities for findings in (*(x.findings for x in found.parts), *found.pairs)
    )


def test_what_is_spoilt_is_found(few: Path) -> None:
    write_export(few)
    found = check(find_parts(few))
    train, val = (part.findings for part in found.parts)
    places = train.oddities
    assert [len(places[kind]) for kind in (CLIPPED, NO_AREA, RENUMBERED)] == [5, 3, 24]
    assert CORNERS in val.faults and found.faults() == [CORNERS]
    (pair,) = found.pairs
    assert len(pair.oddities[TRAINED_ON]) == 1
    assert any(
        "'Platelet' (there is 'platelet')" in x for row in pair.oddities.values() for x in row
    )
