"""What a line of the results holds of a run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bckd.recipes.presets import PRESETS
from bckd.studies import cells


@pytest.mark.parametrize(("records", "kept"), [(4, [0, 1, 2, 3]), (40, list(range(3, 40, 4)))])
def test_gradients_of_the_whole_run_are_kept(
    monkeypatch: pytest.MonkeyPatch, records: int, kept: list[int]
) -> None:
    """Ten records at most, evenly spaced, the last one among them; numbers of four digits."""
    log = [{"step": n, "gradients": {"qfl": {"foreground": n + 1 / 3}}} for n in range(records)]
    log.insert(1, {"step": 0, "metrics": {"AP": 0.5}})
    monkeypatch.setattr(cells, "read_log", lambda out: log)
    found = cells._gradients(replace(PRESETS["scenes"][1]))
    assert [record["step"] for record in found] == kept
    last = found[-1]["gradients"]["qfl"]["foreground"]
    assert last == float(f"{kept[-1] + 1 / 3:.4g}")


def test_the_pull_is_kept_where_the_log_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logs of earlier versions have none."""
    old = {"step": 0, "gradients": {"qfl": {"foreground": 1.0}}}
    new = {**old, "step": 1, "pull": {"qfl": 2 / 3, "iou": 1 / 3}}
    monkeypatch.setattr(cells, "read_log", lambda out: [old, new])
    found = cells._gradients(replace(PRESETS["scenes"][1]))
    assert found == [old, {**new, "pull": {"qfl": 0.6667, "iou": 0.3333}}]
