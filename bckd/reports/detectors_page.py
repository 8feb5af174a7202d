"""The page of `bckd report`: what was found of some detectors, one HTML file."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from bckd.reports.errors_part import confusion, errors, points, precision
from bckd.reports.findings import Difference, Findings
from bckd.reports.html_parts import document, jpeg_figure
from bckd.reports.making_part import making, training
from bckd.reports.scores_part import classes, costs, differences, limits, measures
from bckd.reports.wording import note, percent


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
        measures(findings),
        differences(findings),
        limits(findings),
        costs(findings),
        classes(findings),
        precision(findings),
        points(findings),
        confusion(findings),
        errors(findings),
        *map(_gallery, galleries),
        training(findings),
        making(findings),
    ]
    return document(f"Report: {names}", parts)


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
        + note(
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
    return f"<h2>{html.escape(gallery.title)}</h2>{note(gallery.note)}{''.join(rows)}"
