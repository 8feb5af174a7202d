"""Texts of the course as HTML: formulas, headings with anchors, pictures, links within the book."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

from bckd.course.book_links import address_in_book
from bckd.system.extras import extra

with extra("notebooks", "the book"):
    from latex2mathml.converter import convert
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath


class PageText:
    """Turns the texts of one page into HTML, one after the other.

    Formulas become MathML, which browsers draw themselves. Pictures of the text's folder are
    put into the page. A link to what the book has no page of is left out, its words are not.
    """

    def __init__(self, folder: Path, page: str, pages: Collection[str]) -> None:
        """Args:
        folder: of the texts' file; pictures lie in it or below.
        page: address of the page in the book.
        pages: addresses of all pages.
        """
        self._folder, self._page, self._pages = folder, page, pages
        self._anchors: Counter[str] = Counter()

    def html(self, text: str) -> str:
        """One text; its headings' anchors differ from those of the texts before it."""
        renderer = _Renderer(self, escape=False, embed_images=True, path=str(self._folder))
        return MarkdownWithMath(renderer=renderer).render(text)

    def anchor(self, heading: str) -> str:
        """The anchor of the next heading, as GitHub makes it: `a-heading`, then `a-heading-1`."""
        words = html.unescape(re.sub(r"<[^>]*>", "", heading)).lower()
        anchor = re.sub(r"[^\w\- ]", "", words).strip().replace(" ", "-")
        before = self._anchors[anchor]
        self._anchors[anchor] += 1
        return f"{anchor}-{before}" if before else anchor

    def address(self, url: str) -> str | None:
        """See `address_in_book`."""
        return address_in_book(url, self._page, self._pages)


class _Renderer(IPythonRenderer):
    """nbconvert's, but for formulas, headings and links."""

    def __init__(self, text: PageText, **options: Any) -> None:
        super().__init__(**options)
        self._text = text

    def inline_math(self, body: str) -> str:
        return convert(body)

    def block_math(self, body: str) -> str:
        return convert(body, display="block")

    def heading(self, text: str, level: int, **attrs: Any) -> str:
        anchor = self._text.anchor(text)
        link = f'<a class="book-anchor" href="#{anchor}" aria-label="Link to this section">#</a>'
        return f'<h{level} id="{anchor}">{text}{link}</h{level}>\n'

    def link(self, text: str, url: str, title: str | None = None) -> str:
        address = self._text.address(url)
        if address is None:
            return f'<span class="book-outside" title="In the repository">{text}</span>'
        return super().link(text, address, title)
