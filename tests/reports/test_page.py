"""The page of a run: what it says of how far the run is, and that it needs nothing else."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import pytest

from bckd.reports.curves import POINTS, curve
from bckd.reports.page import Seen, Story, duration, page


def line(step: int, **changes: Any) -> dict[str, Any]:
    terms = {"qfl": 0.5, "mine": 0.25}
    record = {
        "step": step,
        "loss": 1.0,
        "unweighted": terms,
        "weighted": {"qfl": 0.5, "mine": 0.5},
        "images_per_second": 120.4,
        "data_wait": 0.03,
        "learning_rate": 0.01,
        "seconds_left": 7500.0,
        "memory": 31_200_000_000,
    }
    return {**record, **changes}


RECORDS = [line(19), line(39), {"step": 39, "metrics": {"AP": 0.25}}, line(59)]
STORY = Story(
    name="a <run>",
    steps=120,
    records=RECORDS,
    running=True,
    end="",
    told=datetime(2026, 5, 4, 12, 0, tzinfo=UTC),
    seen=Seen(60, {"b&w.jpg": {"objects": "AAAA", "student": "BBBB"}}),
)


class Tags(HTMLParser):
    """What a page opens and closes, and the addresses that it names."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "line", "polyline", "circle"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("line", "polyline", "circle"):
            assert self.open.pop() == tag


def test_it_is_whole_and_needs_nothing_else() -> None:
    tags = Tags(page(STORY))
    assert tags.open == []
    assert tags.addresses and all(x.startswith("data:image/jpeg;base64,") for x in tags.addresses)
    assert not re.search(r"https?://|url\(|@import|<script", page(STORY))


def test_it_says_how_far_the_run_is_and_when_it_ends() -> None:
    said = page(STORY)
    for words in ("60 of 120", "2 h 5 min", "04 May, 14:05", "120", "31.2 GB", "3 %", "25.0"):
        assert f"<b>{words}</b>" in said, words
    assert "a &lt;run&gt;" in said and "b&amp;w.jpg" in said


def test_a_browser_asks_again_for_a_run_that_goes_on_alone() -> None:
    assert 'http-equiv="refresh"' in page(STORY)
    assert 'http-equiv="refresh"' not in page(STORY, refreshing=False)
    ended = page(replace(STORY, running=False, end="It ended: no space. Last written"))
    assert 'http-equiv="refresh"' not in ended
    assert "It ended: no space" in ended and "time left" not in ended


def test_a_log_of_nothing_yet_and_of_numbers_that_are_none() -> None:
    Tags(page(replace(STORY, records=[], seen=Seen(0, {}))))
    null = line(19, loss=None, learning_rate=None, weighted={"qfl": None}, memory=None)
    Tags(page(replace(STORY, records=[null, {"step": 19, "metrics": {"AP": None}}])))


def test_a_log_of_an_earlier_version_lacks_some_of_it() -> None:
    earlier = {name: x for name, x in line(19).items() if name not in ("seconds_left", "memory")}
    said = page(replace(STORY, records=[earlier]))
    assert "time left" not in said and "20 of 120" in said


def test_shares_of_the_gradient_stand_beside_their_terms() -> None:
    gradients = {"qfl": {"foreground": 1.0, "background": 2.0}, "mine": {"foreground": 1.0}}
    said = page(replace(STORY, records=[line(19, gradients=gradients)]))
    assert "<td>75 %</td>" in said and "<td>25 %</td>" in said and "--log-gradients" not in said
    assert "--log-gradients" in page(STORY)


@pytest.mark.parametrize("values", [[0.0, 0.0], [1e-6, 1e6], [-1.0, 5.0], [3.0], [1e9, 1e9 + 1]])
def test_any_values_make_a_curve_within_its_frame(values: list[float]) -> None:
    drawn = curve("x", {"x": (range(len(values)), values)}, 10)
    (points,) = re.findall(r'points="([^"]*)"', drawn)
    for point in points.split():
        x, y = map(float, point.split(","))
        assert 0 <= x <= 340 and 0 <= y <= 190
    assert "<text" in drawn


def test_a_long_line_keeps_its_mean_in_few_points() -> None:
    lines = {"long": (range(10_000), [0.0, 2.0] * 5000), "whole": ([0, 1], [0.0, 2.0])}
    drawn = curve("x", lines, 10_000, plain=True)
    points, ends = re.findall(r'points="([^"]*)"', drawn)
    long, whole = ([float(x.split(",")[1]) for x in each.split()] for each in (points, ends))
    assert len(long) == POINTS
    middle, height = sum(whole) / 2, max(whole) - min(whole)
    assert all(abs(y - middle) < height / 20 for y in long)
    assert curve("x", {"x": ([], [])}, 10) == ""


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 s"), (61, "1 min 1 s"), (3600, "1 h"), (90061, "1 d 1 h")]
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words
