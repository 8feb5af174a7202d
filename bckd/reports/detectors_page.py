"""The page of `bckd report`: what was found of some detectors, one HTML file, a part a function."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from bckd.evaluation.error_analysis import TIDE_ERRORS
from bckd.evaluation.operating_points import OperatingPoint
from bckd.evaluation.resampling import MEASURES, RECALLS, Interval
from bckd.reports.confusion import confusion_html
from bckd.reports.curves import Line, curve
from bckd.reports.findings import DetectorFindings, Difference, Findings, Trained
from bckd.reports.html_parts import document, jpeg_figure, table
from bckd.reports.intervals import interval_plot
from bckd.reports.titles import TITLES, in_order

CURVES = 12  # classes whose precision has a curve of its own: those with the most objects
OPEN = 20  # classes that are listed at once; more are folded away
ERRORS = {
    "Cls": "wrong class",
    "Loc": "badly placed",
    "Both": "wrong class and badly placed",
    "Dupe": "found twice",
    "Bkg": "nothing there",
    "Miss": "missed",
}


@dataclass(frozen=True)
class Picture:
    """A JPEG picture in base64, its title, and what stands below it."""

    title: str
    data: str
    below: str = ""


@dataclass(frozen=True)
class Gallery:
    """Pictures of some images: by file name, those that stand side by side.

    Attributes:
        note: what is to be seen.
    """

    title: str
    note: str
    rows: dict[str, list[Picture]]


def detectors_page(findings: Findings, galleries: Sequence[Gallery] = ()) -> str:
    """The page, as HTML that needs nothing else."""
    names = ", ".join(x.name for x in findings.detectors)
    parts = [
        _head(findings, names),
        _measures(findings),
        _differences(findings),
        _limits(findings),
        _costs(findings),
        _classes(findings),
        _precision(findings),
        _points(findings),
        _confusion(findings),
        _errors(findings),
        *map(_gallery, galleries),
        _training(findings),
        _made(findings),
    ]
    return document(f"Report: {names}", parts)


def percent(share: float | None) -> str:
    """A share in percent; "-" where it is unknown."""
    return "-" if share is None else f"{100 * share:.1f}"


def _interval(one: Interval, sign: str = "") -> str:
    if one.value is None or one.low is None or one.high is None:
        return "-"
    value, low, high = (f"{100 * x:{sign}.1f}" for x in (one.value, one.low, one.high))
    return f"{value}\n{low} to {high}"


def _note(text: str) -> str:
    return f'<p class="dim">{html.escape(text)}</p>'


def _folded(what: str, content: str, folded: bool) -> str:
    return f"<details><summary>{html.escape(what)}</summary>{content}</details>" * folded or content


def _head(findings: Findings, names: str) -> str:
    data, machine = findings.data, findings.machine
    objects = sum(data.objects.values())
    sentences = [_said(x) for x in findings.differences]
    best = max(findings.detectors, key=lambda x: x.measures["AP"].value or 0)
    if not sentences:
        one = best.measures["AP"]
        sentences = [
            "There is nothing to find in these images, so AP is unknown."
            if one.value is None
            else f"{best.name} has {percent(one.value)} AP; on other images of the same kind it "
            f"would have between {percent(one.low)} and {percent(one.high)} (95 %)."
        ]
    said = "".join(f"<p>{html.escape(x)}</p>" for x in sentences)
    return (
        f"<h1>{html.escape(names)}</h1>"
        + _note(
            f"{data.annotations}: {data.images:,} images with {objects:,} objects of "
            f"{len(data.classes):,} classes. bckd {machine.bckd}, {machine.date}."
        )
        + said
    )


def _said(difference: Difference) -> str:
    one = difference.measures["AP"]
    if one.value is None or one.low is None or one.high is None:
        return f"{difference.first} and {difference.second}: AP is unknown."
    numbers = f"{100 * one.value:+.1f} AP ({100 * one.low:+.1f} to {100 * one.high:+.1f})"
    told = f"{difference.first} less {difference.second}: {numbers}"
    if one.low <= 0 <= one.high:
        return f"{told}; these images don't tell which is better."
    return f"{told}; {difference.first if one.value > 0 else difference.second} is better here."


def _measures(findings: Findings) -> str:
    rows = [[x.name, *(_interval(x.measures[m]) for m in MEASURES)] for x in findings.detectors]
    plotted = {"AP": {x.name: x.measures["AP"] for x in findings.detectors}}
    plotted["AP50"] = {x.name: x.measures["AP50"] for x in findings.detectors}
    return (
        f"<h2>Average precision</h2>{table(['', *MEASURES], rows)}"
        f'<div class="plots">{interval_plot("AP and AP50 in percent, with intervals", plotted)}'
        "</div>"
        + _note(
            "In percent, by COCO's definition (IoU .50 to .95, 100 detections an image and class); "
            "APs, APm, APl: objects below 32 x 32 pixels, up to 96 x 96, above. AR100 is the mean "
            "recall. Below each number: an interval of 95 % by the bootstrap over images "
            f"({findings.resamplings:,} resamples, seed {findings.seed}, bias-corrected)."
        )
    )


def _differences(findings: Findings) -> str:
    if not findings.differences:
        return ""
    rows = [
        [f"{x.first} less {x.second}", *(_interval(x.measures[m], "+") for m in MEASURES)]
        for x in findings.differences
    ]
    return f"<h2>Differences</h2>{table(['', *MEASURES], rows)}" + _note(
        "In percentage points. Both are judged on the same resampled images (paired "
        "bootstrap), so that hard and easy images cancel. An interval with 0 in it: these "
        "images don't tell the two apart."
    )


def _limits(findings: Findings) -> str:
    pairs = len(findings.differences)
    several = (
        f" There are {pairs} differences here: of twenty intervals of 95 % one misses by chance "
        "alone."
        if pairs > 1
        else ""
    )
    return _note(
        "What an interval says: how far the number would move if other images of the same kind "
        "had been annotated. What it does not say: how far it would move if the detector were "
        "trained again with another seed, which is often as much; what happens on images of "
        "another kind; or whether annotations are right. Methods of training are compared by "
        f"several seeds of each (bckd study).{several}"
    ) + (
        _note("With so few images the intervals themselves are rough.")
        if findings.data.images < 50
        else ""
    )


def _costs(findings: Findings) -> str:
    rows = []
    for x in findings.detectors:
        costs = x.costs
        low, high = costs.fastest_half
        rows.append(
            [
                x.name,
                f"{costs.parameters / 1e6:.3g} M",
                f"{costs.gflop:.3g}",
                f"{costs.milliseconds:.3g}\n{low:.3g} to {high:.3g}",
                f"{costs.canvas[1]} x {costs.canvas[0]}",
            ]
        )
    machine = findings.machine
    head = ["", "parameters", "GFLOP", "ms an image", "pixels"]
    threads = f"{machine.threads} thread{'s' * (machine.threads != 1)}"
    return f"<h2>What they cost</h2>{table(head, rows)}" + _note(
        f"On {machine.device} ({threads}, {machine.precision}, torch {machine.torch}): one "
        "image at a time, from pixels to detections, without decoding; median and quartiles. "
        "A multiplication and an addition are two FLOP; convolutions and matrix products count."
    )


def _classes(findings: Findings) -> str:
    data = findings.data
    names = data.classes
    without = [name for name in data.objects if name not in names]
    rows = [
        [
            name,
            f"{data.objects[name]:,}",
            *(_interval(x.per_class[name]) for x in findings.detectors),
        ]
        for name in names
    ]
    head = ["class", "objects", *(x.name for x in findings.detectors)]
    plots = [
        interval_plot(
            "AP in percent by class",
            {name: {x.name: x.per_class[name] for x in findings.detectors} for name in names},
        )
    ]
    own = findings.detectors[0].name
    shown = [x for x in findings.differences if len(findings.differences) <= 3 or x.first == own]
    plots.append(
        interval_plot(
            "difference of AP by class, percentage points",
            {
                name: {f"{x.first} less {x.second}": x.per_class[name] for x in shown}
                for name in names
            }
            if shown
            else {},
            first=1,
        )
    )
    content = table(head, rows) + f'<div class="curves">{"".join(plots)}</div>'
    note = _note(f"No object here of {', '.join(without)}.") if without else ""
    many = f"AP of {len(names)} classes"
    return f"<h2>Classes</h2>{_folded(many, content, len(names) > OPEN)}{note}"


def _precision(findings: Findings) -> str:
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
        + _note(
            "Precision in percent over recall from 0 to 1, as COCO takes it: at each recall the "
            f"best precision there or beyond.{some}"
        )
    )


def _point(point: OperatingPoint) -> list[str]:
    threshold = "-" if point.threshold is None else f"{point.threshold:.2f}"
    return [threshold, percent(point.precision), percent(point.recall), percent(point.f1)]


def _points(findings: Findings) -> str:
    head = ["", "threshold", "precision", "recall", "F1"]
    parts = [table(head, [[x.name, *_point(x.point)] for x in findings.detectors])]
    names = findings.data.classes
    for x in findings.detectors:
        rows = [[name, *_point(x.points[name])] for name in names]
        each = table(["class", *head[1:]], rows)
        parts.append(_folded(f"{x.name}: the best threshold of each class", each, True))
    return f"<h2>Best thresholds</h2>{''.join(parts)}" + _note(
        "The score from which on detections are kept such that F1 is highest, at IoU .5: one "
        "for all classes, and one for each. They are picked on these very images, so on others "
        "they will do somewhat worse. Precision, recall and F1 in percent."
    )


def _confusion(findings: Findings) -> str:
    parts = []
    for number, x in enumerate(findings.detectors):
        if x.point.threshold is None:
            parts.append(f"<p>{html.escape(x.name)} has no detection that is right.</p>")
            continue
        matrix = confusion_html(x.confusion, list(findings.data.objects))
        title = f"{x.name}, scores from {x.point.threshold:.2f} on"
        first = f"<p>{html.escape(title)}</p>{matrix}"
        parts.append(_folded(title, matrix, True) if number else first)
    note = _note(
        "Rows: classes of the objects; columns: of the detections that lie on them (IoU from .5 "
        "on, whatever the class; of several the surest one). The last column are objects without a "
        "detection, the last row detections without an object, and those on one that a surer "
        "detection has taken. Scores from the best threshold for all classes on."
    )
    return f"<h2>Confusion</h2>{''.join(parts)}{note}"


def _errors(findings: Findings) -> str:
    head = ["", *(ERRORS[kind] for kind in TIDE_ERRORS), "calibration error"]
    rows = [
        [x.name, *(percent(x.errors[kind]) for kind in TIDE_ERRORS), percent(x.calibration_error)]
        for x in findings.detectors
    ]
    return f"<h2>Errors</h2>{table(head, rows)}" + _note(
        "AP50 in percentage points that would be gained if all errors of one kind were mended "
        "(TIDE, Bolya et al., ECCV 2020); they don't sum to what is missing. Calibration error: "
        "how far a score is from the share of right detections, in percent."
    )


def _gallery(gallery: Gallery) -> str:
    rows = []
    for file, pictures in gallery.rows.items():
        cells = "".join(jpeg_figure(x.data, x.title, file, x.below) for x in pictures)
        rows.append(
            f'<p class="dim">{html.escape(file)}</p>'
            f'<div class="seen" style="--columns:{min(max(len(pictures), 3), 5)}">{cells}</div>'
        )
    if not rows:
        return ""
    return f"<h2>{html.escape(gallery.title)}</h2>{_note(gallery.note)}{''.join(rows)}"


def _training(findings: Findings) -> str:
    logs: dict[str, Trained] = {
        x.name: x.made.trained for x in findings.detectors if x.made.trained is not None
    }
    if not logs:
        return ""
    last = max([1, *(max([x.steps, *_all_steps(x)]) for x in logs.values())])
    names = [x.name for x in findings.detectors]  # colours are theirs everywhere
    none: Line = ([], [])
    drawn = []
    scores: dict[str, Line] = {
        name: (logs[name].AP[0], [100 * y for y in logs[name].AP[1]]) if name in logs else none
        for name in names
    }
    drawn.append(curve("AP, %", scores, last, plain=True))
    for term in in_order(term for log in logs.values() for term in log.terms):
        lines = {name: logs[name].terms.get(term, none) if name in logs else none for name in names}
        drawn.append(curve(TITLES.get(term, term), lines, last))
    absent = [name for name in names if name not in logs]
    note = "Unweighted loss terms and AP over the steps, from the runs' logs."
    note += f" There is no log of {', '.join(absent)}." if absent else ""
    return f'<h2>Training</h2><div class="curves">{"".join(drawn)}</div>{_note(note)}'


def _all_steps(log: Trained) -> list[int]:
    return [int(step) for steps, _ in (log.AP, *log.terms.values()) for step in steps]


def _made(findings: Findings) -> str:
    """How the weights came to be: where the recipes differ first."""
    recipes = {x.name: x.made.recipe for x in findings.detectors if x.made.recipe is not None}
    parts = ["<h2>How they were made</h2>"]
    fields = list(dict.fromkeys(field for recipe in recipes.values() for field in recipe))
    rows = [[field, *(recipe.get(field, "-") for recipe in recipes.values())] for field in fields]
    head = ["setting", *recipes]
    if len(recipes) > 1:
        differing = [row for row in rows if len(set(row[1:])) > 1]
        parts.append("<p>Settings in which they differ:</p>")
        parts.append(table(head, differing) if differing else "<p>none</p>")
    if rows:
        parts.append(_folded(f"all {len(rows)} settings", table(head, rows), True))
    parts.append(_weights(findings.detectors))
    machine = findings.machine
    parts.append(
        _note(
            f"This report: bckd {machine.bckd}, torch {machine.torch}, Python {machine.python}, "
            f"{machine.date}."
        )
    )
    return "".join(parts)


def _weights(detectors: Sequence[DetectorFindings]) -> str:
    """What the files of weights say themselves."""
    facts = [
        {"asked for as": x.source, "SHA-256": (x.made.sha256 or "-")[:12], **x.made.record}
        for x in detectors
    ]
    fields = dict.fromkeys(field for each in facts for field in each)
    rows = [[field, *(each.get(field, "-") for each in facts)] for field in fields]
    without = [x.name for x in detectors if x.made.recipe is None]
    note = _note(f"No recipe lies beside the weights of {', '.join(without)}.") if without else ""
    return table(["weights", *(x.name for x in detectors)], rows) + note
