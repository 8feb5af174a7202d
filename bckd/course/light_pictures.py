"""Pictures of notebooks in at most 256 colours, a third of the bytes of matplotlib's.

    python -m bckd.course.light_pictures notebooks/01_score_maps.ipynb

Notebooks are committed so, and pages of the book are written so.
"""

from __future__ import annotations

import base64
import sys
from io import BytesIO
from pathlib import Path

from PIL import Image

from bckd.system.extras import extra
from bckd.system.files import write_text

with extra("notebooks", "pictures of notebooks"):
    import nbformat
    from nbformat import NotebookNode

COLOURS = 256


def lighten(notebook: NotebookNode) -> None:
    """Each PNG output in fewer colours, where that takes fewer bytes; in place."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                picture = base64.b64decode(data["image/png"])
                data["image/png"] = base64.b64encode(light(picture)).decode("ascii")


def light(picture: bytes) -> bytes:
    """A PNG file in at most 256 colours; as it was, where that is smaller.

    The colours cover the range of the picture's, so that the rare ones of a colour bar stay.
    """
    with Image.open(BytesIO(picture)) as opened:
        few = opened.convert("RGB").quantize(
            COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
        )
    written = BytesIO()
    few.save(written, "PNG", optimize=True)
    return min(picture, written.getvalue(), key=len)


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        notebook = nbformat.read(path, as_version=4)
        lighten(notebook)
        write_text(path, nbformat.writes(notebook) + "\n")
