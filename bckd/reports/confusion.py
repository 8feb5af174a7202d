"""A confusion matrix in HTML: with its numbers where it is small, else as a map of squares."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np

READABLE = 12  # classes whose numbers have room
TOLD = 12  # confusions that are told of a large one
_CELL, _NAMES = 9, 130  # pixels of a square, and of the names beside the squares


def confusion_html(matrix: Sequence[Sequence[int]], class_names: Sequence[str]) -> str:
    """The matrix of the classes that have an object or a detection.

    Args:
        matrix: (K + 1, K + 1): rows are the objects' classes, columns the detections'; the last of
            both is the background.
        class_names: K.
    """
    counts = np.array(matrix, dtype=np.int64)
    counts = counts.reshape(len(class_names) + 1, len(class_names) + 1)
    used = (counts.sum(axis=0) + counts.sum(axis=1)) > 0
    used[-1] = True
    counts = counts[used][:, used]
    names = [name for name, is_used in zip(class_names, used, strict=False) if is_used]
    if not names:
        return "<p>There is neither an object nor a detection.</p>"
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    if len(names) <= READABLE:
        return _numbers(counts, shares, names)
    return _squares(counts, shares, names) + _largest(counts, names)


def _numbers(counts: np.ndarray, shares: np.ndarray, names: list[str]) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in ["object", *names, "missed"])
    rows = []
    for name, row, part in zip([*names, "none (false)"], counts, shares, strict=True):
        cells = "".join(
            f'<td style="background:rgb(0 130 200 / {0.55 * share:.2f})">{count or ""}</td>'
            for count, share in zip(row.tolist(), part.tolist(), strict=True)
        )
        rows.append(f"<tr><td>{html.escape(name)}</td>{cells}</tr>")
    return f"<div class=wide><table class=matrix><tr>{head}</tr>{''.join(rows)}</table></div>"


def _squares(counts: np.ndarray, shares: np.ndarray, names: list[str]) -> str:
    rows, columns = [*names, "none (false)"], [*names, "missed"]
    side = _NAMES + _CELL * len(rows)
    parts = []
    for y, name in enumerate(rows):
        at = f'x="{_NAMES - 4}" y="{_CELL * y + 8}" text-anchor="end"'
        parts.append(f"<text {at}>{html.escape(name)}</text>")
        for x in np.flatnonzero(counts[y]).tolist():
            said = html.escape(f"{name} taken for {columns[x]}: {counts[y, x]}")
            parts.append(
                f'<rect x="{_NAMES + _CELL * x}" y="{_CELL * y}" width="{_CELL}" height="{_CELL}" '
                f'opacity="{0.12 + 0.88 * shares[y, x]:.2f}"><title>{said}</title></rect>'
            )
    width = _NAMES + _CELL * len(columns)
    end = side - _NAMES
    return (
        f'<div class="wide"><svg class="squares" style="min-width:{width}px" '
        f'viewBox="0 0 {width} {end}" role="img" aria-label="confusion matrix: rows are classes '
        f"of objects, columns those of detections in the same order, then missed; the darker, the "
        f'larger the share of the row">{"".join(parts)}</svg></div>'
    )


def _largest(counts: np.ndarray, names: list[str]) -> str:
    """The confusions of two classes that happen most often, in words."""
    pairs = counts[:-1, :-1].copy()
    np.fill_diagonal(pairs, 0)
    order = np.argsort(-pairs, axis=None, kind="stable")[:TOLD]
    told = [
        f"{names[row]} taken for {names[column]} ({pairs[row, column]})"
        for row, column in zip(*np.unravel_index(order, pairs.shape), strict=True)
        if pairs[row, column]
    ]
    if not told:
        return "<p>No class is taken for another.</p>"
    return f"<p>Most often: {html.escape('; '.join(told))}.</p>"
