"""Numbers and notes as the page of `bckd report` has them."""

from __future__ import annotations

import html

from bckd.evaluation.resampling import Interval


def percent(share: float | None) -> str:
    """A share in percent; "-" where it is unknown."""
    return "-" if share is None else f"{100 * share:.1f}"


def interval_text(one: Interval, sign: str = "") -> str:
    """In percent, with its ends below; "-" where it is unknown."""
    if one.value is None or one.low is None or one.high is None:
        return "-"
    value, low, high = (f"{100 * x:{sign}.1f}" for x in (one.value, one.low, one.high))
    return f"{value}\n{low} to {high}"


def note(text: str) -> str:
    """A sentence below what it is about, in small print."""
    return f'<p class="dim">{html.escape(text)}</p>'


def folded(what: str, content: str, folded: bool) -> str:
    """HTML behind a line that opens it, where it is to be folded."""
    return f"<details><summary>{html.escape(what)}</summary>{content}</details>" * folded or content
