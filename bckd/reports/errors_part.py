"""Where detectors are right and wrong, and from which score on: parts of the page."""

from __future__ import annotations

import html

from bckd.evaluation.error_analysis import TIDE_ERRORS
from bckd.evaluation.operating_points import OperatingPoint
from bckd.evaluation.resampling import RECALLS
from bckd.reports.confusion import confusion_html
from bckd.reports.curves import Line, curve
from bckd.reports.findings import Findings
from bckd.reports.html_parts import table
from bckd.reports.wording import folded, note, percent

CURVES = 12  # classes whose precision has a curve of its own: those with the most objects
ERRORS = {
    "Cls": "wrong class",
    "Loc": "badly placed",
    "Both": "wrong class and badly placed",
    "Dupe": "found twice",
    "Bkg": "nothing there",
    "Miss": "missed",
}


def precision(findings: Findings) -> str:
    """Precision over recall, of all classes and of the most frequent ones."""
    recalls = RECALLS.tolist()

    def drawn(title: str, lines: dict[str, list[float]]) -> str:
        values: dict[str, Line] = {
            name: (recalls, [100 * y for y in line]) for name, line in lines.items()
        }
        ends = (0.0, 100.0)
        return curve(title, values, 1, plain=True, over="recall from 0 to 1", ends=ends)

    def of_class(name: str) -> dict[str, list[float]]:
        return {x.name: x.precision_per_class.get(name, []) for x in findings.detectors}

    overall = [
        drawn(title, {x.name: x.precision.get(iou, []) for x in findings.detectors})
        for iou, title in (("0.5", "all classes, IoU .5"), ("0.75", "all classes, IoU .75"))
    ]
    names = sorted(findings.data.classes, key=lambda name: -findings.data.objects[name])
    chosen = names[:CURVES] if len(names) > 1 else []
    classes = [drawn(f"{name}, IoU .5", of_class(name)) for name in chosen]
    some = f" Of {len(names)} classes the {CURVES} with the most objects." * (len(names) > CURVES)
    if not any(overall):
        return ""
    return (
        f'<h2>Precision over recall</h2><div class="curves">{"".join(overall + classes)}</div>'
        + note(
            "Precision in percent over recall from 0 to 1, as COCO takes it: at each recall the "
            f"best precision there or beyond.{some}"
        )
    )


def _point(point: OperatingPoint) -> list[str]:
    threshold = "-" if point.threshold is None else f"{point.threshold:.2f}"
    return [threshold, percent(point.precision), percent(point.recall), percent(point.f1)]


def points(findings: Findings) -> str:
    """The score from which on F1 is highest, of all classes and of each."""
    head = ["", "threshold", "precision", "recall", "F1"]
    parts = [table(head, [[x.name, *_point(x.point)] for x in findings.detectors])]
    names = findings.data.classes
    for x in findings.detectors:
        rows = [[name, *_point(x.points[name])] for name in names]
        each = table(["class", *head[1:]], rows)
        parts.append(folded(f"{x.name}: the best threshold of each class", each, True))
    return f"<h2>Best thresholds</h2>{''.join(parts)}" + note(
        "The score from which on detections are kept such that F1 is highest, at IoU .5: one "
        "for all classes, and one for each. They are picked on these very images, so on others "
        "they will do somewhat worse. Precision, recall and F1 in percent."
    )


def confusion(findings: Findings) -> str:
    """Which class is taken for which."""
    parts = []
    for number, x in enumerate(findings.detectors):
        if x.point.threshold is None:
            parts.append(f"<p>{html.escape(x.name)} has no detection that is right.</p>")
            continue
        matrix = confusion_html(x.confusion, list(findings.data.objects))
        title = f"{x.name}, scores from {x.point.threshold:.2f} on"
        first = f"<p>{html.escape(title)}</p>{matrix}"
        parts.append(folded(title, matrix, True) if number else first)
    below = note(
        "Rows: classes of the objects; columns: of the detections that lie on them (IoU from .5 "
        "on, whatever the class; of several the surest one). The last column are objects without a "
        "detection, the last row detections without an object, and those on one that a surer "
        "detection has taken. Scores from the best threshold for all classes on."
    )
    return f"<h2>Confusion</h2>{''.join(parts)}{below}"


def errors(findings: Findings) -> str:
    """What each kind of error costs."""
    head = ["", *(ERRORS[kind] for kind in TIDE_ERRORS), "calibration error"]
    rows = [
        [x.name, *(percent(x.errors[kind]) for kind in TIDE_ERRORS), percent(x.calibration_error)]
        for x in findings.detectors
    ]
    return f"<h2>Errors</h2>{table(head, rows)}" + note(
        "AP50 in percentage points that would be gained if all errors of one kind were mended "
        "(TIDE, Bolya et al., ECCV 2020); they don't sum to what is missing. Calibration error: "
        "how far a score is from the share of right detections, in percent."
    )
