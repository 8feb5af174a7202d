"""The drawing of the method says what the losses say, and the committed files are its."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from bckd.course import method_drawing as drawing

FIGURES = Path(__file__).parents[2] / "notebooks" / "figures"
SVG = "{http://www.w3.org/2000/svg}"


def groups(text: str) -> list[ElementTree.Element]:
    return ElementTree.fromstring(text).findall(f"{SVG}g")


def test_its_numbers_are_those_of_the_losses() -> None:
    teacher, student = (torch.tensor(x) for x in (drawing.TEACHER_LOGITS, drawing.student_logits()))
    torch.testing.assert_close(torch.tensor(drawing.softmax(teacher.tolist())), teacher.softmax(0))
    torch.testing.assert_close(torch.tensor(drawing.sigmoid(student.tolist())), student.sigmoid())
    divergence = torch.nn.functional.kl_div(
        student.log_softmax(0), teacher.softmax(0), reduction="sum"
    )
    assert drawing.softmax_loss() == pytest.approx(float(divergence), abs=1e-6)
    gap = (teacher.sigmoid() - student.sigmoid()).abs()
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(
        student, teacher.sigmoid(), reduction="none"
    )
    assert drawing.binary_loss() == pytest.approx(float((gap * entropy).sum()), rel=1e-5)
    assert abs(drawing.softmax_loss()) < 1e-12 < 1 < drawing.binary_loss()


def test_it_shows_them() -> None:
    words = "".join(ElementTree.fromstring(drawing.method_drawing()).itertext())
    assert "softmax KD = 0.00" in words and f"L_cls = {drawing.binary_loss():.2f}" in words
    for score in (
        *drawing.softmax(drawing.TEACHER_LOGITS),
        *drawing.sigmoid(drawing.student_logits()),
    ):
        assert f"{score:.2f}" in words


@pytest.mark.parametrize("part", drawing.PARTS)
def test_a_part_stays_while_the_others_fade(part: str) -> None:
    shown = [group.get("opacity") for group in groups(drawing.method_drawing(part))]
    place = drawing.PARTS.index(part)
    assert shown.pop(place) == "1" and set(shown) == {"0.2"}
    assert {group.get("opacity") for group in groups(drawing.method_drawing())} == {"1"}


def test_it_needs_nothing_else_and_has_two_sets_of_colours() -> None:
    text = drawing.method_drawing()
    assert re.findall(r"https?://[^\"]+", text) == ["http://www.w3.org/2000/svg"]
    light, dark = text.split("@media (prefers-color-scheme: dark)")
    for name, pair in drawing.COLOURS.items():
        assert (
            f".{name}-fill{{fill:{pair[0]}}}" in light and f".{name}-fill{{fill:{pair[1]}}}" in dark
        )


def test_nothing_lies_outside_the_page() -> None:
    for element in ElementTree.fromstring(drawing.method_drawing()).iter(f"{SVG}rect"):
        x, y, width, height = (float(element.get(k, 0)) for k in ("x", "y", "width", "height"))
        assert x >= 0 and y >= 0 and x + width <= drawing.WIDTH and y + height <= drawing.HEIGHT


@pytest.mark.parametrize("part", [None, *drawing.PARTS])
def test_the_committed_files_are_these(part: str | None) -> None:
    name = "method.svg" if part is None else f"method-{part}.svg"
    assert (FIGURES / name).read_text(encoding="utf-8") == drawing.method_drawing(part)
