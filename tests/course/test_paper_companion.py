"""The page "paper says, official code does, we measured": its functions, claims and questions."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
PAGE = (NOTEBOOKS / "paper_companion.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith("| claim ")
]


def test_every_row_is_whole() -> None:
    assert len(ROWS) > 20
    assert all(len(row) == 6 and all(row) for row in ROWS)


@pytest.mark.parametrize(
    ("name", "path"), sorted(set(re.findall(r"\[`([\w.]+)`\]\((.*?)\)", PAGE)))
)
def test_a_function_is_where_the_page_says(name: str, path: str) -> None:
    text = (NOTEBOOKS / path).read_text(encoding="utf-8")
    assert re.search(rf"^ *(def|class) {name.rpartition('.')[2]}\b", text, re.MULTILINE)


def test_each_claim_leads_to_a_cell_that_asserts() -> None:
    """At least one of the cells of each row has an assert, and no link of a row leads to prose."""
    for row in ROWS:
        asserts = []
        for notebook, place in re.findall(r"\((\w+\.ipynb)#cell-id=([\w-]+)\)", row[4]):
            cells = json.loads((NOTEBOOKS / notebook).read_text(encoding="utf-8"))["cells"]
            (cell,) = (cell for cell in cells if cell["id"] == place)
            assert cell["cell_type"] == "code", (notebook, place)
            asserts.append("assert" in "".join(cell["source"]))
        assert any(asserts), row[0]


def test_ten_questions_each_with_an_answer_that_leads_somewhere() -> None:
    questions = re.split(r"^### ", PAGE.partition("## Ten hard questions")[2], flags=re.MULTILINE)
    assert [text.split(".")[0] for text in questions[1:]] == [str(n) for n in range(1, 11)]
    for text in questions[1:]:
        question, _, answer = text.partition("\n")
        assert question.endswith("?") and "](" in answer, question
