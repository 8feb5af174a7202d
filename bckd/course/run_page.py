"""The page of a run in a notebook."""

from __future__ import annotations

import html
from pathlib import Path

from bckd.system.extras import extra
from bckd.training.live_report import run_report

with extra("notebooks", "a run's page in a notebook"):
    from IPython.display import HTML


def run_page(folder: Path | str, height: int = 700) -> HTML:
    """What the `report.html` of a run shows, as it is now, of one of its images.

    The run may have ended or not; showing it again shows how far it is by then.

    Args:
        height: in pixels, in which the page scrolls.

    Raises:
        InputError: the folder holds no run.
    """
    content = html.escape(run_report(folder, images=1, refreshing=False))
    style = f"width: 100%; height: {height}px; border: 0"
    frame = f'<iframe title="a run" style="{style}" srcdoc="{content}"></iframe>'
    return HTML(f"<div>{frame}</div>")  # type: ignore[no-untyped-call]  # IPython's, without types
