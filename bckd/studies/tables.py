"""The tables of a study as Markdown; AP in percent, differences in points of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import combinations

from bckd.studies.difference_text import interval_text, mean_text, p_value_text, points
from bckd.studies.noise import difference_on_starts, noise_of
from bckd.studies.statistics import (
    Difference,
    Line,
    best_scale,
    failed,
    holm,
    methods_of,
    paired,
    scales_of,
    summarise,
    values,
)
from bckd.system.errors import InputError

# Title and number format of the fields of a comparison; others are printed as ".3f".
FIELDS = {
    "score_error": ("score error", ".4f"),
    "logit_shift": ("logit shift", "+z.2f"),
    "shift_spread": ("shift spread", ".2f"),
    "class_agreement": ("class agreement", ".3f"),
    "foreground_error": ("foreground error", ".4f"),
    "background_error": ("background error", ".4f"),
    "foreground_shift": ("foreground shift", "+z.2f"),
    "background_shift": ("background shift", "+z.2f"),
    "calibration_error": ("calibration error", ".3f"),
}
# The methods that the others are tested against. A study has one family of tests, each method
# against each of these, once: Holm's rule counts them all, whichever of them a table shows.
REFERENCES = ("none", "BCKD")
COMPARED = ("score_error", "logit_shift", "shift_spread", "class_agreement", "calibration_error")
# The error types of TIDE, with the words for figures.
TIDE = {
    "Cls": "class",
    "Loc": "box",
    "Both": "class and box",
    "Dupe": "duplicate",
    "Bkg": "background",
    "Miss": "missed",
}


def sweep_table(lines: Iterable[Line]) -> str:
    """One row a method, one column a scale: mean AP (number of seeds), the chosen scale bold.

    No distillation, where the sweep has it, is what every row tends to at "x 0". A failed run
    counts as AP 0, and is told.
    """
    lines = [line for line in lines if line["part"] == "sweep"]
    methods = [name for name in methods_of(lines, "sweep") if name != "none"]
    zero = [_sweep_cell(lines, "none", s, False) for s in scales_of(lines, "none")]
    scales = sorted({line["scale"] for line in lines if line["method"] != "none"})
    rows = []
    for method in methods:
        best = best_scale(lines, method)
        own = scales_of(lines, method)
        cells = [_sweep_cell(lines, method, s, s == best) if s in own else "-" for s in scales]
        rows.append([method, *zero, *cells])
    head = ["method", *("x 0" for _ in zero), *(f"x {scale:.4g}" for scale in scales)]
    return table(head, rows)


def comparison_table(lines: Iterable[Line], fields: Sequence[str] = COMPARED) -> str:
    """One row a method: scale, mean AP +- standard error, the AP of every seed, means of fields.

    The mean is over the runs that did not fail; those that did are told among the seeds.

    Args:
        lines: of one study and one number of steps; the sweep in it is passed over.
        fields: more fields of a line, by the names of `bckd.studies.statistics.values`.

    Raises:
        InputError: a run lacks a field, or a method has two scales or two runs of a seed.
    """
    lines = [line for line in lines if line["part"] == "comparison"]
    rows = []
    for method in methods_of(lines):
        seeds = values(lines, method).values()
        (scale,) = scales_of(lines, method, "comparison")  # `values` accepts no second one
        found = summarise(100 * ap for ap in seeds)
        each = ", ".join("failed" if math.isnan(ap) else f"{100 * ap:.1f}" for ap in seeds)
        error = "" if math.isnan(found.error) else f" +- {found.error:.1f}"
        means = [_mean(lines, method, field) for field in fields]
        rows.append([method, f"{scale:g}", _number(found.mean, ".1f") + error, each, *means])
    titles = [_format_of(field)[0] for field in fields]
    head = ["method", "scale", "AP, mean +- standard error", "AP of every seed", *titles]
    return table(head, rows)


def difference_table(
    lines: Iterable[Line], reference: str, shown: Sequence[str] | None = None
) -> str:
    """Every method's AP minus the reference's, paired by seed.

    The intervals hold for each row alone; the p values are adjusted for the whole family of the
    study (`adjusted_p_values`), so they do not depend on `shown`.

    Args:
        lines: of one study and one number of steps, all methods; the sweep in it is passed over.
        reference: a method of the comparison.
        shown: the methods that get a row; None for all.

    Raises:
        InputError: the comparison has no run of the reference or of a method to be shown.
    """
    lines = [line for line in lines if line["part"] == "comparison"]
    methods = methods_of(lines)
    for name in (reference, *(shown or ())):
        if name not in methods:
            raise InputError(f"the comparison has no run of {name!r}; it has {methods}")
    adjusted = adjusted_p_values(lines, reference)
    rows = []
    for method in methods:
        if method == reference or (shown is not None and method not in shown):
            continue
        d = difference(lines, method, reference)
        cells = (
            ["-", "-", "0"] if d is None else [mean_text(d.mean), interval_text(d), str(d.count)]
        )
        cells[2] += _failures(lines, method, reference)
        rows.append([method, *cells, p_value_text(adjusted[method])])
    head = [f"AP minus {reference}", "mean", "95% interval", "pairs", "p, Holm-adjusted"]
    return table(head, rows)


def adjusted_p_values(lines: Iterable[Line], reference: str) -> dict[str, float]:
    """By method: p of AP minus the reference's, adjusted by Holm's rule; nan without pairs.

    The family is that of the study: every method against each of `REFERENCES`, each pair once.
    Against another reference it is every method against that one.

    Args:
        lines: of one study and one number of steps, all methods; the sweep in it is passed over.
        reference: a method of the comparison.
    """
    lines = [line for line in lines if line["part"] == "comparison"]
    methods = methods_of(lines)
    references = REFERENCES if reference in REFERENCES else (reference,)
    pairs = {frozenset((m, r)) for r in references if r in methods for m in methods if m != r}
    found = {pair: difference(lines, *pair) for pair in pairs}
    family = [math.nan if d is None else d.p_value for d in found.values()]
    adjusted = dict(zip(found, holm(family), strict=True))
    return {m: adjusted[frozenset((m, reference))] for m in methods if m != reference}


def map_table(lines_of_studies: dict[str, list[Line]], pairs: Sequence[tuple[str, str]]) -> str:
    """One row a regime, one column a pair of methods: the AP difference [95% interval].

    Args:
        lines_of_studies: the lines of one study by the title of its row.
        pairs: a column "BCKD - none" for ("BCKD", "none").
    """
    rows = []
    for title, lines in lines_of_studies.items():
        rows.append([title, *(_map_cell(lines, a, b) for a, b in pairs)])
    return table(["regime", *(f"{a} - {b}" for a, b in pairs)], rows)


def noise_table(lines: Iterable[Line], starts: int) -> str:
    """One row a pair of methods: their AP difference, and what moves it, as standard deviations.

    The interval is over starts and over the images judged on (`difference_on_starts`).

    Args:
        lines: of a study with so many common starts, two or more runs from each.
    """
    lines = [line for line in lines if line["part"] == "comparison"]
    rows = []
    for reference, method in combinations(methods_of(lines), 2):
        found = difference_on_starts(lines, starts, method, reference)
        noise = noise_of(lines, starts, method, reference)
        parts = (noise.start, noise.order, noise.images, noise.runs)
        cells = [
            mean_text(found.mean),
            interval_text(found),
            *(f"{100 * part:.1f}" for part in parts),
        ]
        rows.append([f"{method} - {reference}", *cells])
    sources = ("starts", "order of images", "images judged on", "a run in all")
    return table(["difference", "mean", "95% interval", *sources], rows)


def error_table(lines: Iterable[Line]) -> str:
    """One row a method: the AP50 points lost to each of TIDE's error types, mean over seeds.

    Source: D. Bolya et al., TIDE: a general toolbox for identifying object detection errors,
    2020; a type's number is the AP50 gained when its errors alone are put right.
    """
    lines = [line for line in lines if line["part"] == "comparison"]
    rows = [
        [method, *(_mean(lines, method, f"tide.{kind}") for kind in TIDE)]
        for method in methods_of(lines)
    ]
    return table(["method", *TIDE], rows)


def difference(lines: Iterable[Line], method: str, reference: str) -> Difference | None:
    """AP of a method minus the reference's in the comparison, or None without a common seed.

    The unit is that of AP, 0..1.
    """
    lines = list(lines)
    ours, theirs = (values(lines, name) for name in (method, reference))
    common = [s for s in ours if s in theirs and math.isfinite(ours[s] + theirs[s])]
    return paired(ours, theirs) if common else None


def _sweep_cell(lines: list[Line], method: str, scale: float, best: bool) -> str:
    found = summarise(values(lines, method, part="sweep", scale=scale).values())
    mean = f"{100 * found.mean:.1f}"
    mean = f"**{mean}**" if best else mean
    runs = [x for x in lines if (x["method"], x["scale"]) == (method, scale) and failed(x)]
    note = f", {len(runs)} failed" if runs else ""
    return f"{mean} ({found.count}{note})"


def _map_cell(lines: list[Line], method: str, reference: str) -> str:
    present = methods_of(lines)
    if method not in present or reference not in present:
        return "-"
    found = difference(lines, method, reference)
    note = _failures(lines, method, reference)
    if found is None:
        return f"-{note}"
    return f"{points(found)}{note}"


def _failures(lines: list[Line], method: str, reference: str) -> str:
    """The note on failed runs of two methods in the comparison, empty without one."""
    runs = [x for x in lines if x["part"] == "comparison" and x["method"] in (method, reference)]
    count = sum(failed(run) for run in runs)
    return f" ({count} failed)" if count else ""


def _mean(lines: list[Line], method: str, field: str) -> str:
    mean = summarise(values(lines, method, field).values()).mean
    percent = field.startswith(("AP", "per_class.", "tide."))
    return _number(100 * mean if percent else mean, _format_of(field)[1])


def _format_of(field: str) -> tuple[str, str]:
    percent = field.startswith(("AP", "per_class.", "tide."))
    return FIELDS.get(field, (field, ".1f" if percent else ".3f"))


def _number(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown with the first column to the left and the numbers to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(x.replace('|', chr(92) + '|') for x in y)} |" for y in lines)
