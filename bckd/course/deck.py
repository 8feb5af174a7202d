"""Twelve slides with speaker notes, in one HTML file that asks no server for anything.

    python -m bckd.course.deck runs/deck.html

Pictures are the course's own: drawings of the method, the figure of the evidence, and what cells
of the saved notebooks show. Arrow keys turn the slides, "n" shows the notes, printing gives one
slide a page.
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path

from bckd.course.deck_slides import SLIDES, Slide
from bckd.course.notebook_pictures import picture_of
from bckd.system.errors import InputError
from bckd.system.files import write_text

NOTEBOOKS = Path("notebooks")  # as seen from the repository
HERE = Path(__file__)
KINDS = {".svg": "image/svg+xml", ".png": "image/png"}
PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{style}</style></head>
<body>
{slides}
<div class="bar"><button id="back" aria-label="Back">←</button>
<button id="on" aria-label="On">→</button>
<button id="notes" aria-pressed="false">Notes</button>
<span role="status"></span><span class="keys">← → turn, n notes</span></div>
<script>
{script}</script>
</body></html>
"""


def deck(slides: Sequence[Slide] = SLIDES, notebooks: Path = NOTEBOOKS) -> str:
    """The slides as one page of HTML.

    Args:
        notebooks: the folder below which the pictures are.

    Raises:
        InputError: a picture is not there.
    """
    return PAGE.format(
        title=escape(slides[0].title),
        style=HERE.with_suffix(".css").read_text(encoding="utf-8"),
        slides="\n".join(
            _section(number, len(slides), slide, _address(notebooks, slide.picture))
            for number, slide in enumerate(slides, start=1)
        ),
        script=HERE.with_suffix(".js").read_text(encoding="utf-8"),
    )


def _section(number: int, count: int, slide: Slide, picture: str) -> str:
    lines = "".join(f"<li>{escape(line)}</li>" for line in slide.lines)
    return (
        f'<section class="slide{" wide" * slide.wide}" aria-label="Slide {number} of {count}">\n'
        f'<h2 tabindex="-1">{escape(slide.title)}</h2>\n'
        f'<div class="body"><ul>{lines}</ul>'
        f'<figure><img alt="{escape(slide.shows)}" src="{picture}"></figure></div>\n'
        f'<aside class="notes">{escape(slide.notes)}</aside>\n</section>'
    )


def _address(notebooks: Path, picture: str) -> str:
    """A picture's content as an address."""
    name, _, cell = picture.partition("#")
    path = notebooks / name
    if not path.is_file():
        raise InputError(f"{path}, which a slide shows, does not exist")
    content = picture_of(path, cell) if cell else path.read_bytes()
    kind = KINDS.get(path.suffix, "image/png")
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


if __name__ == "__main__":
    write_text(Path(sys.argv[1]), deck())
