"""What was measured, as a table for a terminal, beside what was measured before."""

from __future__ import annotations

from dataclasses import asdict

from bckd.bench.results import Line, Results
from bckd.bench.timing import Spread

Cells = list[str]


def table_of(results: Results, before: Results | None = None) -> str:
    """A row a line, with how much faster it is than the same line before.

    A time is followed by its quartiles. Ratios above 1 are faster; one is marked with * where the
    quartiles of both do not overlap.
    """
    old = {} if before is None else {(x.part, x.name): x for x in before.lines}
    header = ["", "", "ms", "quartiles", "images/s", "TFLOP/s", "of peak", "memory"]
    rows = [header + (["faster"] if before else [])]
    part = ""
    for line in results.lines:
        cells = _cells(line, results.machine.peak)
        if before is not None:
            then = old.get((line.part, line.name))
            cells.append("" if then is None else _ratio(line.seconds, then.seconds))
        rows.append([line.part if line.part != part else "", *cells])
        part = line.part
    return "\n".join([*_about(results), "", *_aligned(rows), *_notes(results, before)])


def faster(now: Spread, then: Spread) -> tuple[float, bool]:
    """How many times as fast it is now, and whether the quartiles of both are apart."""
    apart = now.upper < then.lower or then.upper < now.lower
    return then.median / now.median, apart


def _ratio(now: Spread, then: Spread) -> str:
    ratio, apart = faster(now, then)
    return f"{ratio:.2f}{'*' if apart else ' '}"


def _about(results: Results) -> list[str]:
    m, s = results.machine, results.settings
    cuda = f", CUDA {m.cuda}" if m.cuda else ""
    return [
        f"{m.device}; PyTorch {m.torch}{cuda}, {m.threads} threads on {m.cores} cores; "
        f"bckd {m.bckd}; {m.date}",
        f"{s.preset}, teacher {s.teacher}: {s.batch_size} images of {s.height} x {s.width} a step, "
        f"{s.precision}{', compiled' if s.compile else ''}; peak {m.peak / 1e12:.3g} TFLOP/s",
    ]


def _cells(line: Line, peak: float) -> Cells:
    seconds = line.seconds
    speed = "" if line.images is None else _number(line.images / seconds.median)
    rate = None if line.flop is None else line.flop / seconds.median
    return [
        line.name,
        _number(1e3 * seconds.median),
        f"{_number(1e3 * seconds.lower)} to {_number(1e3 * seconds.upper)}",
        speed,
        "" if rate is None else f"{rate / 1e12:.3g}",
        "" if rate is None else f"{rate / peak:.0%}",
        "" if line.memory is None else f"{line.memory / 1e9:.2f} GB",
    ]


def _number(value: float) -> str:
    """With four digits, or all before the point where these are more."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _aligned(rows: list[Cells]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        words = [f"{cell:<{w}}" for cell, w in zip(row[:2], widths, strict=False)]
        numbers = [f"{cell:>{w}}" for cell, w in zip(row[2:], widths[2:], strict=True)]
        lines.append("  ".join(words + numbers).rstrip())
    return lines


def _notes(results: Results, before: Results | None) -> list[str]:
    notes = [f"{left.part}: {left.why}" for left in results.left_out]
    if before is not None:
        notes.append(f"faster: than on {before.machine.date}; *: the quartiles do not overlap")
        notes += _differences(results, before)
    return ["", *notes] if notes else []


def _differences(results: Results, before: Results) -> list[str]:
    """What else than the time differs between the two, a sentence each."""
    skipped = {"date", "peak"}
    now = asdict(results.machine) | asdict(results.settings)
    then = asdict(before.machine) | asdict(before.settings)
    return [
        f"{name} was {then[name]}, is {value}"
        for name, value in now.items()
        if name not in skipped and value != then[name]
    ]
