from __future__ import annotations

import pytest

from bckd.studies import runner
from tests.processes import quick_context


@pytest.fixture(autouse=True)
def quick_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a study's runs, which by themselves load PyTorch for seconds each."""
    monkeypatch.setattr(runner, "get_context", quick_context)
