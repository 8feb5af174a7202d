"""The page of a run: one HTML file that needs nothing else, for a desk or a phone, by day or night.

It is a function of what lies in the folder of a run, so that it can be made of any run at any time.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bckd.evaluation.gradient_shares import parts_of_gradient
from bckd.reports.curves import Line, curve
from bckd.reports.html_parts import document, jpeg_figure, table
from bckd.reports.titles import TITLES, in_order

Record = dict[str, Any]  # a line of the log
REFRESH = 30  # seconds after which a browser asks for the page again, while its run trains


@dataclass(frozen=True)
class Seen:
    """What was seen of some images after so many steps.

    Attributes:
        images: by file name, JPEG pictures in base64 by title.
    """

    step: int
    images: dict[str, dict[str, str]]


@dataclass(frozen=True)
class Story:
    """What a page tells of a run.

    Attributes:
        name: of its folder.
        steps: that it is to have.
        records: its log.
        running: whether it goes on, as far as its folder says.
        end: how it ended, in a sentence; "" where nothing says so.
        told: when its folder last changed.
        seen: without images where none were kept.
    """

    name: str
    steps: int
    records: Sequence[Record]
    running: bool
    end: str
    told: datetime
    seen: Seen


def page(story: Story, refreshing: bool = True) -> str:
    """The page, as HTML.

    Args:
        refreshing: a browser asks for the page of a run that goes on again and again.
    """
    again = refreshing and story.running
    refresh = f'<meta http-equiv="refresh" content="{REFRESH}">' if again else ""
    title = f"{story.name}, {_percent(_share_done(story))}"
    parts = [_head(story), _curves(story), _terms(story), _images(story)]
    return document(title, parts, refresh)


def _head(story: Story) -> str:
    """How far the run is, and how it does."""
    done, lines = _steps_done(story), _step_lines(story)
    last = lines[-1] if lines else {}
    tiles = {"step": f"{done:,} of {story.steps:,}"}
    left = last.get("seconds_left")
    if left is not None and story.running:
        tiles["time left"] = duration(left)
        tiles["ends about"] = f"{story.told + timedelta(seconds=left):%d %b, %H:%M}"
    if "images_per_second" in last:
        tiles["images a second"] = number(last["images_per_second"])
    if last.get("memory") is not None:
        tiles["most memory"] = f"{last['memory'] / 1e9:.1f} GB"
    if "data_wait" in last:
        tiles["waiting for data"] = _percent(last["data_wait"])
    unreadable = [why for line in story.records for why in line.get("unreadable", ())]
    if unreadable:
        tiles["unreadable images"] = f"{len(set(unreadable))}"
    scores = _scores(story)
    if scores:
        best = max(scores, key=lambda x: x[1])
        tiles["AP, last"] = f"{100 * scores[-1][1]:.1f}"
        if best[1] > scores[-1][1]:
            tiles[f"AP, best, at {best[0]:,}"] = f"{100 * best[1]:.1f}"
    cells = "".join(
        f"<div><span class=dim>{html.escape(what)}</span><b>{html.escape(text)}</b></div>"
        for what, text in tiles.items()
    )
    state = "Last heard from" if story.running else story.end or "Not finished; last written"
    share = _share_done(story)
    return (
        f"<h1>{html.escape(story.name)}</h1>"
        f'<p class="dim">{html.escape(state)} {story.told:%d %B %Y, %H:%M:%S %Z}</p>'
        f'<progress value="{share:.4f}" max="1">{_percent(share)}</progress>'
        f'<div class="tiles">{cells}</div>'
    )


def _curves(story: Story) -> str:
    lines, scores = _step_lines(story), _scores(story)
    steps = [x["step"] for x in lines]
    drawn = []
    if scores:
        ap: Line = ([x for x, _ in scores], [100 * y for _, y in scores])
        drawn.append(curve("AP, %", {"AP": ap}, story.steps, plain=True))
    losses = _values(lines, "loss")
    drawn.append(curve("loss, the weighted sum", {"loss": (steps, losses)}, story.steps))
    for term in in_order(x for line in lines for x in line.get("unweighted", {})):
        values = [_number(line.get("unweighted", {}).get(term)) for line in lines]
        drawn.append(curve(TITLES.get(term, term), {term: (steps, values)}, story.steps))
    shares = {
        TITLES.get(term, term): (steps, [100 * _shares(line).get(term, math.nan) for line in lines])
        for term in in_order(x for line in lines for x in _shares(line))
    }
    drawn.append(curve("share of the class logits' gradient, %", shares, story.steps, plain=True))
    rates = _values(lines, "learning_rate")
    drawn.append(curve("learning rate", {"rate": (steps, rates)}, story.steps, plain=True))
    if not any(drawn):
        return "<p>There is no line in its log yet.</p>"
    return f'<h2>Curves</h2><div class="curves">{"".join(drawn)}</div>'


def _terms(story: Story) -> str:
    """The last line of the log, term by term."""
    lines = _step_lines(story)
    if not lines or "weighted" not in lines[-1]:
        return ""
    last = lines[-1]
    shares, whole = _shares(last), _number(last.get("loss"))
    head = ["term", "unweighted", "weighted", "of the loss"] + ["of the gradient"] * bool(shares)
    rows = []
    for term in in_order(last["weighted"]):
        weighted = _number(last["weighted"][term])
        row = [TITLES.get(term, term), number(_number(last["unweighted"].get(term)))]
        row += [number(weighted), _percent(weighted / whole) if whole else ""]
        row += [_percent(shares[term]) if term in shares else "none"] * bool(shares)
        rows.append(row)
    note = "" if shares else " --log-gradients adds each term's share of the gradient."
    return (
        f"<h2>Loss terms</h2>{table(head, rows)}"
        f'<p class="dim">Means of the steps up to {last["step"] + 1:,} since the line before in '
        f"the log; gradients are those on the class logits.{note}</p>"
    )


def _images(story: Story) -> str:
    seen = story.seen
    if not seen.images:
        return ""
    columns = max(len(pictures) for pictures in seen.images.values())
    rows = []
    for file, pictures in seen.images.items():
        cells = "".join(jpeg_figure(data, title, file) for title, data in pictures.items())
        rows.append(f'<p class="dim">{html.escape(file)}</p><div class="seen">{cells}</div>')
    steps = f"{seen.step:,} step{'s' * (seen.step != 1)}"
    return (
        f'<h2>What it sees after {steps}</h2><div style="--columns:{columns}">'
        f'{"".join(rows)}</div><p class="dim">Boxes with a score of at least 0.3, coloured by '
        f"class; the highest class score at every place, from 0 (dark) to 1 (yellow).</p>"
    )


def _step_lines(story: Story) -> list[Record]:
    return [x for x in story.records if "loss" in x]


def _scores(story: Story) -> list[tuple[int, float]]:
    """(steps done, AP) of every evaluation that has one."""
    found = [
        (min(x["step"] + 1, story.steps), _number(x["metrics"].get("AP")))
        for x in story.records
        if isinstance(x.get("metrics"), dict)
    ]
    return [(step, ap) for step, ap in found if math.isfinite(ap)]


def _shares(line: Record) -> dict[str, float]:
    sizes = line.get("gradients", {})
    return parts_of_gradient(
        {name: {k: _number(x) for k, x in places.items()} for name, places in sizes.items()}
    )


def _values(lines: Sequence[Record], name: str) -> list[float]:
    return [_number(line.get(name)) for line in lines]


def _number(value: Any) -> float:
    """A number of the log, which has null for what is none."""
    return math.nan if value is None else float(value)


def _steps_done(story: Story) -> int:
    told = (x["step"] + 1 for x in story.records if "loss" in x or "metrics" in x)
    return min(max(told, default=0), story.steps)


def _share_done(story: Story) -> float:
    return _steps_done(story) / story.steps


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if math.isfinite(share) else "unknown"


def number(value: float) -> str:
    """Three digits or so."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """Days, hours, minutes or seconds: the largest two."""
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    rest, words = round(seconds), list[str]()
    for name, size in units:
        count, rest = divmod(rest, size)
        if count or (size == 1 and not words):
            words.append(f"{count} {name}")
        elif words:
            break
    return " ".join(words[:2])
