"""How well detectors find objects, and what they cost: parts of the page of `bckd report`."""

from __future__ import annotations

from bckd.evaluation.resampling import MEASURES
from bckd.reports.findings import Findings
from bckd.reports.html_parts import table
from bckd.reports.intervals import interval_plot
from bckd.reports.wording import folded, interval_text, note

OPEN = 20  # classes that are listed at once; more are folded away


def measures(findings: Findings) -> str:
    """COCO's measures of each detector, with intervals."""
    rows = [[x.name, *(interval_text(x.measures[m]) for m in MEASURES)] for x in findings.detectors]
    plotted = {"AP": {x.name: x.measures["AP"] for x in findings.detectors}}
    plotted["AP50"] = {x.name: x.measures["AP50"] for x in findings.detectors}
    return (
        f"<h2>Average precision</h2>{table(['', *MEASURES], rows)}"
        f'<div class="plots">{interval_plot("AP and AP50 in percent, with intervals", plotted)}'
        "</div>"
        + note(
            "In percent, by COCO's definition (IoU .50 to .95, 100 detections an image and class); "
            "APs, APm, APl: objects below 32 x 32 pixels, up to 96 x 96, above. AR100 is the mean "
            "recall. Below each number: an interval of 95 % by the bootstrap over images "
            f"({findings.resamplings:,} resamples, seed {findings.seed}, bias-corrected)."
        )
    )


def differences(findings: Findings) -> str:
    """Of each pair, judged on the same images."""
    if not findings.differences:
        return ""
    rows = [
        [f"{x.first} less {x.second}", *(interval_text(x.measures[m], "+") for m in MEASURES)]
        for x in findings.differences
    ]
    return f"<h2>Differences</h2>{table(['', *MEASURES], rows)}" + note(
        "In percentage points. Both are judged on the same resampled images (paired "
        "bootstrap), so that hard and easy images cancel. An interval with 0 in it: these "
        "images don't tell the two apart."
    )


def limits(findings: Findings) -> str:
    """What these intervals say, and what they don't."""
    pairs = len(findings.differences)
    several = (
        f" There are {pairs} differences here: of twenty intervals of 95 % one misses by chance "
        "alone."
        if pairs > 1
        else ""
    )
    return note(
        "What an interval says: how far the number would move if other images of the same kind "
        "had been annotated. What it does not say: how far it would move if the detector were "
        "trained again with another seed, which is often as much; what happens on images of "
        "another kind; or whether annotations are right. Methods of training are compared by "
        f"several seeds of each (bckd study).{several}"
    ) + (
        note("With so few images the intervals themselves are rough.")
        if findings.data.images < 50
        else ""
    )


def costs(findings: Findings) -> str:
    """Parameters, operations and time of an image."""
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
    return f"<h2>What they cost</h2>{table(head, rows)}" + note(
        f"On {machine.device} ({threads}, {machine.precision}, torch {machine.torch}): one "
        "image at a time, from pixels to detections, without decoding; median and quartiles. "
        "A multiplication and an addition are two FLOP; convolutions and matrix products count."
    )


def classes(findings: Findings) -> str:
    """AP of each class, and how the detectors differ there."""
    data = findings.data
    names = data.classes
    without = [name for name in data.objects if name not in names]
    rows = [
        [
            name,
            f"{data.objects[name]:,}",
            *(interval_text(x.per_class[name]) for x in findings.detectors),
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
    absent = note(f"No object here of {', '.join(without)}.") if without else ""
    many = f"AP of {len(names)} classes"
    return f"<h2>Classes</h2>{folded(many, content, len(names) > OPEN)}{absent}"
