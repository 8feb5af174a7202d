"""What stands under which heading of a page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from html.parser import HTMLParser

HEADING = re.compile(r"h[1-3]")
PASSED_OVER = re.compile(r"book-anchor|jp-\w+Prompt|jp-Collapser")  # signs beside the text


@dataclass(frozen=True)
class Section:
    """A heading of a page and the text below it, up to the next heading.

    Attributes:
        level: 1 to 3, as in `<h1>` to `<h3>`.
        anchor: the heading's `id`.
    """

    level: int
    anchor: str
    heading: str
    text: str


def sections_of(page: str) -> list[Section]:
    """The sections of a page's HTML; what stands before the first heading is left out."""
    reader = _Reader()
    reader.feed(page)
    return [
        Section(one.level, one.anchor, _line(one.heading), _line(one.text)) for one in reader.found
    ]


def contents_list(sections: Sequence[Section]) -> str:
    """The second and third headings of a page as a list of links, the third set in."""
    lines = [
        f'<li class="level-{one.level}"><a href="#{one.anchor}">{escape(one.heading)}</a></li>'
        for one in sections
        if one.level > 1
    ]
    return f"<ul>{''.join(lines)}</ul>" if lines else ""


def _line(parts: list[str]) -> str:
    return " ".join("".join(parts).split())


@dataclass
class _Found:
    """A section whose texts are being read."""

    level: int
    anchor: str
    heading: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)


class _Reader(HTMLParser):
    """Collects the texts, but for scripts, styles and the signs beside cells and headings."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[_Found] = []
        self._skipped: str | None = None  # the element that is passed over
        self._in_heading = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """A heading with a name begins a section; code and styles are passed over."""
        values = dict(attrs)
        if tag in ("script", "style", "noscript") or PASSED_OVER.search(values.get("class") or ""):
            self._skipped = tag
        elif HEADING.fullmatch(tag) and values.get("id"):
            self.found.append(_Found(int(tag[1]), str(values["id"])))
            self._in_heading = True

    def handle_endtag(self, tag: str) -> None:
        """The heading, or what is passed over, ends."""
        if tag == self._skipped:
            self._skipped = None
        elif HEADING.fullmatch(tag):
            self._in_heading = False
        elif self.found and tag in ("p", "li", "td", "th", "div", "pre"):
            self.found[-1].text.append(" ")  # words of two paragraphs stay two

    def handle_data(self, data: str) -> None:
        if self.found and self._skipped is None:
            one = self.found[-1]
            (one.heading if self._in_heading else one.text).append(data)
