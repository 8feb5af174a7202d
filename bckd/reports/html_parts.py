"""What all pages share: their look, for a desk or a phone, by day or night, tables and pictures."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Sequence

from matplotlib.figure import Figure
from PIL import Image

STYLE = """
:root { color-scheme: light dark; --text: #1d2430; --dim: #5b6472; --back: #fff; --card: #f3f5f8;
  --line: #d5dae1; --fill: #0072b2; --c0: #0072b2; --c1: #b87800; --c2: #00805c; --c3: #b0578a;
  --c4: #2f8fc4; --c5: #c65200; --c6: #7d7400; --c7: #444; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e9ee; --dim: #a2abb8; --back: #14171c;
  --card: #1e2229; --line: #3a414c; --fill: #4aa8e0; --c0: #4aa8e0; --c1: #f0b040; --c2: #2cc79a;
  --c3: #e29ac4; --c4: #8fd0f5; --c5: #f58a4a; --c6: #f0e442; --c7: #ccc; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back);
  max-width: 75rem; margin: 0 auto; padding: 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; margin: .2rem 0; } h2 { font-size: 1.1rem; margin: 1.8rem 0 .6rem; }
p { margin: .3rem 0; } .dim { color: var(--dim); font-size: .9rem; }
progress { width: 100%; height: .8rem; accent-color: var(--fill); }
.tiles, .curves, .seen { display: grid; gap: .6rem; }
.tiles { grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); margin-top: .6rem; }
.tiles div { background: var(--card); border-radius: .5rem; padding: .5rem .8rem; }
.tiles b { display: block; font-size: 1.2rem; font-variant-numeric: tabular-nums; }
.curves { grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); }
figure { margin: 0; } figcaption { font-size: .9rem; }
.curves figure { background: var(--card); border-radius: .5rem; padding: .5rem; }
svg { width: 100%; height: auto; display: block; } svg text { fill: var(--dim); font-size: 11px; }
.grid { stroke: var(--line); } .line { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem .9rem; font-size: .85rem; }
.legend i { display: inline-block; width: .8em; height: .8em; border-radius: 2px;
  margin-right: .3em; }
.wide { overflow-x: auto; } .zero { stroke: var(--dim); } svg text.name { fill: var(--text); }
.plots { max-width: 34rem; } td small { display: block; color: var(--dim); }
.squares rect { fill: var(--fill); } svg.squares text { font-size: 8px; }
.matrix td:not(:first-child) { border: 1px solid var(--line); }
.wide > img { width: 100%; min-width: 36rem; border-radius: .4rem; }
details { margin: .5rem 0; } summary { cursor: pointer; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem;
  white-space: nowrap; overflow-wrap: normal; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); text-align: right; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
.seen { grid-template-columns: repeat(var(--columns), 1fr); margin-bottom: 1.2rem; }
.seen img { width: 100%; display: block; border-radius: .3rem; }
@media (max-width: 40rem) { table { font-size: .8rem; } th, td { padding: .2rem .3rem; }
  th, td:first-child { white-space: normal; }
  .seen { grid-template-columns: 1fr 1fr; }
  .seen figure:first-child:nth-last-child(odd) { grid-column: 1 / -1; } }
""" + "".join(
    f".line.c{n} {{ stroke: var(--c{n}); }} circle.c{n} {{ fill: var(--c{n}); }} "
    f"i.c{n} {{ background: var(--c{n}); }}\n"
    for n in range(8)
)


def document(title: str, parts: Iterable[str], head: str = "") -> str:
    """A whole page, which needs nothing else.

    Args:
        title: as text.
        parts: of its body, as HTML.
        head: further elements of its head.
    """
    body = "\n".join(parts)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">{head}
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title><style>{STYLE}</style></head><body>
{body}
</body></html>
"""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table that scrolls in its own box; all cells are text, the first of a row is its name.

    What follows a line break in a cell is set small below the rest.
    """
    titles = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    cells = ("".join(f"<td>{_cell(cell)}</td>" for cell in row) for row in rows)
    body = "".join(f"<tr>{row}</tr>" for row in cells)
    return f"<div class=wide><table><tr>{titles}</tr>{body}</table></div>"


def _cell(text: str) -> str:
    first, _, below = text.partition("\n")
    return html.escape(first) + (f"<small>{html.escape(below)}</small>" if below else "")


def jpeg_figure(data: str, title: str, file: str, below: str = "") -> str:
    """A picture with its title.

    Args:
        data: a JPEG file in base64.
        file: that the picture is of.
        below: what else stands under it.
    """
    what = f"{title} of {file}"
    more = f"<br><span class=dim>{html.escape(below)}</span>" if below else ""
    return (
        f'<figure><img alt="{html.escape(what)}" src="data:image/jpeg;base64,{data}">'
        f"<figcaption>{html.escape(title)}{more}</figcaption></figure>"
    )


def image_in_base64(picture: Image.Image) -> str:
    """A picture as the JPEG file that `jpeg_figure` takes."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    return base64.b64encode(buffer.getvalue()).decode()


def figure_in_page(figure: Figure, text: str) -> str:
    """A figure of matplotlib, on white by day and night, which scrolls in its own box.

    Args:
        text: what it shows, for those who don't see it.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, facecolor="white")
    data = base64.b64encode(buffer.getvalue()).decode()
    image = f'<img alt="{html.escape(text)}" src="data:image/png;base64,{data}">'
    return f'<div class="wide">{image}</div>'
