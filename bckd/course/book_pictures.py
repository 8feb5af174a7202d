"""What a page says of its pictures to those who do not see them."""

from __future__ import annotations

import re

from bckd.system.extras import extra

with extra("notebooks", "the book"):
    from nbformat import NotebookNode

LONGEST = 300  # characters; a description is no essay
LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
MARKS = re.compile(r"[*`$]|^#+ |^> |^- ", re.MULTILINE)


def describe_pictures(notebook: NotebookNode) -> None:
    """Give each PNG output its description: what the text before it ends with; in place.

    Texts of the course introduce each figure. One without a text before it is "a figure".
    """
    said = ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            said = introduction(cell.source)
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output.metadata.alt = f"Figure: {said}" if said else "A figure"


def introduction(text: str) -> str:
    """The last paragraph of a Markdown text without its marks: its last sentences, if it is long.

    A table is no paragraph.
    """
    paragraphs = [part for part in re.split(r"\n\s*\n", text.strip()) if not part.startswith("|")]
    last = paragraphs[-1] if paragraphs else ""
    plain = " ".join(MARKS.sub("", LINK.sub(r"\1", last)).split())
    while len(plain) > LONGEST and ". " in plain:
        plain = plain.partition(". ")[2]
    return plain[:LONGEST]
