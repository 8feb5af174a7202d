"""Pictures of notebooks in few colours: smaller, hardly to be told apart."""

from __future__ import annotations

import base64
from io import BytesIO

import nbformat
import numpy as np
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from bckd.course.light_pictures import COLOURS, light, lighten
from bckd.viz.style import figure


def png(picture: Image.Image) -> bytes:
    written = BytesIO()
    picture.save(written, "PNG")
    return written.getvalue()


def drawn() -> bytes:
    """A figure with a map in all of a scale's colours, and its bar."""
    page = figure(4, 3)
    axes = page.subplots()
    shown = axes.imshow(np.random.default_rng(0).random((60, 80)), cmap="magma")
    page.colorbar(shown)
    written = BytesIO()
    page.savefig(written, format="png")
    return written.getvalue()


def pixels(picture: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(picture)).convert("RGB")).astype(int)


def test_a_figure_takes_fewer_bytes_and_looks_the_same() -> None:
    before = drawn()
    after = light(before)
    assert len(after) < 0.6 * len(before)
    assert len(Image.open(BytesIO(after)).getcolors(COLOURS) or []) > 100
    gap = np.abs(pixels(after) - pixels(before))
    assert gap.mean() < 2 and gap.max() <= 32


def test_what_would_grow_stays() -> None:
    flat = png(Image.new("1", (400, 400)))
    assert light(flat) == flat


def test_in_a_notebook() -> None:
    figures = [new_output("display_data", {"image/png": base64.b64encode(drawn()).decode()})]
    words = [new_output("stream", text="12")]
    notebook = new_notebook(
        cells=[new_markdown_cell("a"), new_code_cell("b", outputs=[*figures, *words])]
    )
    before = nbformat.writes(notebook)
    lighten(notebook)
    picture, text = notebook.cells[1].outputs
    assert text == words[0]
    assert base64.b64decode(picture.data["image/png"]) == light(drawn())
    assert len(nbformat.writes(notebook)) < len(before)
