"""The figure for a slide: in every regime AP minus BCKD's, with intervals.

    python -m bckd.course.evidence_picture notebooks/figures/evidence.png

It needs the committed results of the studies.
"""

from __future__ import annotations

import sys
from pathlib import Path

from matplotlib.figure import Figure

from bckd.studies.evidence import evidence_map, load_studies
from bckd.studies.noise import difference_on_images
from bckd.studies.options import PUBLISHED
from bckd.studies.statistics import Difference, Line, methods_of
from bckd.system.files import write_atomically
from bckd.viz.study_gains import difference_map

RIVALS = ("none", "softmax", "L_cls", "L_loc", "softmax + L_loc")
COMMON_STARTS = "600 more steps from six trained students"
# The last rows: studies from common starts, by name, in words.
FROM_STARTS = {
    "fine": COMMON_STARTS,
    "fine-confirm": "600 more from eight fresh ones, fresh images",
    "fine-twelve": "600 more from six, twelve classes",
    "fine-one": "600 more from six, one class",
    "fine-neu": "600 more from six, NEU",
    "photographs": "300 more from four, VOC2007, MobileNetV2",
    "photographs-shared": "300 more from six, VOC2007, teacher's backbone",
    "photographs-shared-confirm": "300 more from twelve fresh ones, VOC2007",
    "photographs-shared-narrow": "300 more from six, VOC2007, narrow students",
    "photographs-shared-tenth-swept": "300 more from six, VOC2007, a tenth labelled",
}
DOTS = 100  # an inch


def slide_rows(lines: dict[str, list[Line]]) -> dict[str, dict[str, Difference]]:
    """By regime and rival, AP minus BCKD's in 0..1; the runs from common starts are the last rows.

    Args:
        lines: by study, as `load_studies` gives them.
    """
    last = {
        title: {
            rival: difference_on_images(lines[name], rival, "BCKD")
            for rival in RIVALS
            if rival in methods_of(lines[name])
        }
        for name, title in FROM_STARTS.items()
    }
    return evidence_map(lines, RIVALS, "BCKD") | last


def slide(lines: dict[str, list[Line]]) -> Figure:
    """The figure of `slide_rows`."""
    return difference_map(slide_rows(lines), "BCKD")


if __name__ == "__main__":
    drawing = slide(load_studies(PUBLISHED))
    write_atomically(Path(sys.argv[1]), lambda part: drawing.savefig(part, format="png", dpi=DOTS))
