"""Search within the book: one page that holds the texts of all pages and looks through them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bckd.course.book_sections import Section

SCRIPT = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Search the book</title>
<style>
:root {{ color-scheme: light; }}
body {{ max-width: 46rem; margin: 0 auto; padding: 1rem; font: 16px/1.5 system-ui, sans-serif; }}
input {{ width: 100%; box-sizing: border-box; padding: 8px 12px; font: inherit; }}
ol {{ list-style: none; padding: 0; }}
li {{ margin: 1.1em 0; }}
li p {{ margin: 0.1em 0; overflow-wrap: anywhere; }}
.where {{ font-size: 0.85em; opacity: 0.75; }}
</style></head>
<body>
<p><a href="index.html">The course</a></p>
<h1>Search the book</h1>
<input type="search" aria-label="Words to look for" autofocus>
<p role="status"></p>
<ol></ol>
<script type="application/json">{sections}</script>
<script>
{script}
</script>
</body></html>
"""


@dataclass(frozen=True)
class SearchedPage:
    """A page whose sections can be found."""

    address: str
    title: str
    sections: Sequence[Section]


def search_page(pages: Sequence[SearchedPage]) -> str:
    """The HTML of the search page: works from a file, without a server.

    `search.html?words=a+shift` shows what it finds for these words.
    """
    sections = [
        {
            "page": page.title,
            "address": f"{page.address}#{section.anchor}",
            "heading": section.heading,
            "text": section.text,
        }
        for page in pages
        for section in page.sections
    ]
    # "</script>" inside a text would end the element.
    text = json.dumps(sections, ensure_ascii=False).replace("<", "\\u003c")
    return PAGE.format(sections=text, script=SCRIPT)
