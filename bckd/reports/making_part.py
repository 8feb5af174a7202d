"""How detectors came to be, by logs, recipes and files: parts of the page of `bckd report`."""

from __future__ import annotations

from collections.abc import Sequence

from bckd.reports.curves import Line, curve
from bckd.reports.findings import DetectorFindings, Findings, Trained
from bckd.reports.html_parts import table
from bckd.reports.titles import TITLES, in_order
from bckd.reports.wording import folded, note


def training(findings: Findings) -> str:
    """Loss terms and AP over the steps, of those with a log."""
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
    below = "Unweighted loss terms and AP over the steps, from the runs' logs."
    below += f" There is no log of {', '.join(absent)}." if absent else ""
    return f'<h2>Training</h2><div class="curves">{"".join(drawn)}</div>{note(below)}'


def _all_steps(log: Trained) -> list[int]:
    return [int(step) for steps, _ in (log.AP, *log.terms.values()) for step in steps]


def making(findings: Findings) -> str:
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
        parts.append(folded(f"all {len(rows)} settings", table(head, rows), True))
    parts.append(_weights(findings.detectors))
    machine = findings.machine
    parts.append(
        note(
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
    untold = note(f"No recipe lies beside the weights of {', '.join(without)}.") if without else ""
    return table(["weights", *(x.name for x in detectors)], rows) + untold
