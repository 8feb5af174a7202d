"""The drawing of the method: one page, as vector graphics, for light and dark pages.

    python -m bckd.course.method_drawing notebooks/figures

writes `method.svg` and, with a part of it in view and the rest faded, `method-PART.svg`. The
location that it reads is one at which softmax distillation sees nothing: the student's logits are
the teacher's minus a constant. Its shares, scores and losses are computed, not drawn by hand.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from xml.etree import ElementTree

from bckd.system.files import write_text

WIDTH, HEIGHT = 980, 470
PARTS = ("networks", "maps", "softmax", "binary", "boxes")
TEACHER_LOGITS = (2.0, -0.5, -2.5)
SHIFT = 3.0  # by which the student's logits are below
CLASSES = ("circle", "square", "triangle")

# Colours by role: on a light page and on a dark one.
COLOURS = {
    "ink": ("#1a1a1a", "#eeeeee"),
    "faint": ("#8c8c8c", "#9a9a9a"),
    "paper": ("#ffffff", "#161616"),
    "teacher": ("#00795a", "#35c69b"),
    "student": ("#a34500", "#f08a4b"),
    "softmax": ("#b57700", "#e69f00"),
    "binary": ("#0072b2", "#62b5ea"),
    "box": ("#8f3f6e", "#e59cc7"),
}
TEACHER_Y, STUDENT_Y = 110, 330  # of the two rows' middles
COLUMNS = {
    "image": 20,
    "pyramid": 170,
    "maps": 300,
    "logits": 436,
    "softmax": 556,
    "binary": 716,
    "boxes": 866,
}


def softmax(logits: Sequence[float]) -> list[float]:
    """Shares of classes."""
    powers = [math.exp(x) for x in logits]
    return [x / sum(powers) for x in powers]


def sigmoid(logits: Sequence[float]) -> list[float]:
    """A score a class."""
    return [1 / (1 + math.exp(-x)) for x in logits]


def student_logits() -> tuple[float, ...]:
    """The teacher's, minus a constant."""
    return tuple(x - SHIFT for x in TEACHER_LOGITS)


def softmax_loss() -> float:
    """Divergence of the shares, at temperature 1."""
    pairs = zip(softmax(TEACHER_LOGITS), softmax(student_logits()), strict=True)
    return sum(t * math.log(t / s) for t, s in pairs)


def binary_loss() -> float:
    """L_cls of the location: |p_t - p_s| times the cross-entropy, over the classes."""
    pairs = zip(sigmoid(TEACHER_LOGITS), sigmoid(student_logits()), strict=True)
    return sum(-abs(t - s) * (t * math.log(s) + (1 - t) * math.log(1 - s)) for t, s in pairs)


def method_drawing(part: str | None = None) -> str:
    """The drawing as an SVG file's text.

    Args:
        part: one of `PARTS`, which stays while the others fade; None: all of it.
    """
    page = _Page(part)
    _networks(page)
    _maps(page)
    _reading(page, "softmax", softmax, "softmax: shares", "they add up to 1")
    _reading(page, "binary", sigmoid, "sigmoid: scores", "each class by itself")
    _losses(page)
    _boxes(page)
    _gradient(page)
    return page.text()


class _Page:
    """An SVG under way: elements go to the group of their part."""

    def __init__(self, part: str | None) -> None:
        self.root = ElementTree.Element(
            "svg",
            xmlns="http://www.w3.org/2000/svg",
            viewBox=f"0 0 {WIDTH} {HEIGHT}",
            role="img",
        )
        self.add("title", self.root).text = "How BCKD distils a detector"
        self.add("desc", self.root).text = DESCRIPTION
        self.add("style", self.root).text = _style()
        marker = self.add(
            "marker",
            self.add("defs", self.root),
            id="tip",
            viewBox="0 0 6 6",
            refX=5,
            refY=3,
            markerWidth=6,
            markerHeight=6,
            orient="auto-start-reverse",
        )
        self.add("path", marker, d="M0 0 L6 3 L0 6 z", **{"class": "ink-fill"})
        self.add("rect", self.root, width=WIDTH, height=HEIGHT, **{"class": "paper-fill"})
        self.groups = {
            name: self.add("g", self.root, opacity=1 if part in (None, name) else 0.2)
            for name in PARTS
        }

    def add(self, tag: str, parent: ElementTree.Element, **values: object) -> ElementTree.Element:
        """An element with these attributes."""
        texts = {name.replace("_", "-"): _number(value) for name, value in values.items()}
        return ElementTree.SubElement(parent, tag, texts)

    def rectangle(
        self, part: str, x: float, y: float, width: float, height: float, look: str
    ) -> None:
        """A rectangle of that class."""
        self.add("rect", self.groups[part], x=x, y=y, width=width, height=height, **{"class": look})

    def path(self, part: str, d: str, look: str) -> None:
        """A path of that class."""
        self.add("path", self.groups[part], d=d, **{"class": look})

    def words(
        self,
        part: str,
        x: float,
        y: float,
        text: str,
        look: str = "ink-fill",
        anchor: str = "start",
    ) -> None:
        """A line of text."""
        self.add(
            "text", self.groups[part], x=x, y=y, text_anchor=anchor, **{"class": look}
        ).text = text

    def arrow(self, part: str, *points: tuple[float, float], look: str = "arrow") -> None:
        """A line through points with a tip at its end."""
        self.path(part, "M" + " L".join(f"{x:g} {y:g}" for x, y in points), look)

    def text(self) -> str:
        """The whole file."""
        ElementTree.indent(self.root)
        return ElementTree.tostring(self.root, encoding="unicode") + "\n"


DESCRIPTION = (
    "An image goes through a large teacher and a small student. Each gives, by way of a pyramid of "
    "maps, a map of logits a class. One location is read in two ways. As a softmax, student and "
    "teacher have the same shares and the loss is zero, though the student's logits are lower by a "
    "constant. As sigmoids, each class has a score of its own, the student's are too low, and the "
    "binary loss L_cls is above zero. Their boxes are compared by IoU, L_loc. The gradient of "
    "these losses flows back to the student alone."
)


def _style() -> str:
    def rules(dark: bool) -> str:
        return "".join(
            f".{name}-fill{{fill:{pair[dark]}}}.{name}-line{{stroke:{pair[dark]};fill:none}}"
            for name, pair in COLOURS.items()
        )

    return (
        "text{font:13px sans-serif}.small{font-size:11px}"
        ".big{font-size:15px;font-weight:bold}.loss{font-weight:bold}"
        ".arrow{fill:none;stroke-width:1.4;marker-end:url(#tip)}"
        ".back{fill:none;stroke-width:2;stroke-dasharray:6 4;marker-end:url(#tip)}"
        + rules(False)
        + f".arrow,.back{{stroke:{COLOURS['ink'][0]}}}"
        + "@media (prefers-color-scheme: dark){"
        + rules(True)
        + f".arrow,.back{{stroke:{COLOURS['ink'][1]}}}"
        + "}"
    )


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _networks(page: _Page) -> None:
    """The image, and the pyramids of both."""
    part, x = "networks", COLUMNS["image"]
    middle = (TEACHER_Y + STUDENT_Y) / 2
    page.rectangle(part, x, middle - 50, 100, 100, "faint-line")
    page.add("circle", page.groups[part], cx=x + 34, cy=middle - 12, r=18, **{"class": "ink-line"})
    page.rectangle(part, x + 58, middle + 4, 28, 28, "ink-line")
    page.words(part, x + 50, middle + 70, "image", anchor="middle")
    left, widest = COLUMNS["pyramid"], 84
    for who, y, size in (("teacher", TEACHER_Y, 1.0), ("student", STUDENT_Y, 0.6)):
        page.arrow(part, (x + 104, middle + (y - middle) * 0.25), (left - 4, y))
        for level, width in enumerate((widest, 56, 30)):
            top, lean, high = y + (26 - 24 * level) * size, 10 * size, 14 * size
            start = left + (widest - width * size) / 2
            sides = f"M{start + lean:g} {top - high:g} h{width * size:g} l{-lean:g} {high:g}"
            page.path(part, f"{sides} h{-width * size:g} z", f"{who}-line")
        page.words(part, left + 46, y - 50, who, f"{who}-fill big", "middle")
        page.words(part, left + 46, y + 44, "pyramid", "faint-fill small", "middle")
        page.arrow(part, (left + 98, y), (COLUMNS["maps"] - 6, y))


def _maps(page: _Page) -> None:
    """K maps of logits of each, and one location's column of them."""
    part, left, side = "maps", COLUMNS["maps"], 62
    for who, y, logits in (
        ("teacher", TEACHER_Y, TEACHER_LOGITS),
        ("student", STUDENT_Y, student_logits()),
    ):
        for number in reversed(range(len(CLASSES))):
            x, top = left + 12 * number, y - 36 + 9 * (1 - number)
            page.rectangle(part, x, top, side, side, "paper-fill")
            page.rectangle(part, x, top, side, side, f"{who}-line")
            page.rectangle(part, x + 24, top + 24, 10, 10, f"{who}-fill")
        page.words(part, left + 42, y + 58, "a map a class", "faint-fill small", "middle")
        page.arrow(part, (left + 92, y), (COLUMNS["logits"] - 8, y))
        for number, (name, logit) in enumerate(zip(CLASSES, logits, strict=True)):
            row = y - 18 + 22 * number
            page.words(part, COLUMNS["logits"], row, name, "ink-fill small")
            page.words(part, COLUMNS["logits"] + 82, row, f"{logit:+.1f}", f"{who}-fill", "end")
        page.words(part, COLUMNS["logits"] + 40, y - 42, "logits", "faint-fill small", "middle")


def _reading(
    page: _Page,
    part: str,
    read: Callable[[Sequence[float]], list[float]],
    title: str,
    subtitle: str,
) -> None:
    """Bars of what both say at the location, read one way."""
    left, longest = COLUMNS[part], 76
    for who, y, logits in (
        ("teacher", TEACHER_Y, TEACHER_LOGITS),
        ("student", STUDENT_Y, student_logits()),
    ):
        for number, value in enumerate(read(logits)):
            row = y - 28 + 22 * number
            page.rectangle(part, left, row, longest, 12, "faint-line")
            page.rectangle(part, left, row, longest * value, 12, f"{who}-fill")
            page.words(part, left + longest + 6, row + 11, f"{value:.2f}", "ink-fill small")
    page.words(part, left + 40, 30, title, "ink-fill big", "middle")
    page.words(part, left + 40, 48, subtitle, "faint-fill small", "middle")


def _losses(page: _Page) -> None:
    """Between the rows, what each reading compares."""
    middle = (TEACHER_Y + STUDENT_Y) / 2
    for part, name, value, remark in (
        ("softmax", "softmax KD", softmax_loss(), "sees no difference"),
        ("binary", "L_cls", binary_loss(), "too low, class by class"),
    ):
        x = COLUMNS[part] + 40
        _between(page, part, x)
        page.rectangle(part, x - 71, middle - 26, 142, 52, "paper-fill")
        page.rectangle(part, x - 71, middle - 26, 142, 52, f"{part}-line")
        page.words(part, x, middle - 5, f"{name} = {abs(value):.2f}", f"{part}-fill loss", "middle")
        page.words(part, x, middle + 14, remark, "ink-fill small", "middle")


def _between(page: _Page, part: str, x: float) -> None:
    """Arrows from both rows to what compares them."""
    middle = (TEACHER_Y + STUDENT_Y) / 2
    page.arrow(part, (x, TEACHER_Y + 46), (x, middle - 30))
    page.arrow(part, (x, STUDENT_Y - 40), (x, middle + 30))


def _boxes(page: _Page) -> None:
    """The boxes of the location, and what compares them."""
    part, left = "boxes", COLUMNS["boxes"]
    middle = (TEACHER_Y + STUDENT_Y) / 2
    page.words(part, left + 40, 30, "boxes", "ink-fill big", "middle")
    page.words(part, left + 40, 48, "of the same location", "faint-fill small", "middle")
    page.rectangle(part, left + 12, TEACHER_Y - 32, 56, 60, "teacher-line")
    page.rectangle(part, left + 24, STUDENT_Y - 24, 48, 56, "student-line")
    _between(page, part, left + 40)
    page.rectangle(part, left - 12, middle - 26, 104, 52, "paper-fill")
    page.rectangle(part, left - 12, middle - 26, 104, 52, "box-line")
    page.words(part, left + 40, middle - 5, "L_loc", "box-fill loss", "middle")
    page.words(part, left + 40, middle + 14, "1 - IoU", "ink-fill small", "middle")


def _gradient(page: _Page) -> None:
    """What flows back: to the student, from the losses that are above 0."""
    low, start = HEIGHT - 38, (TEACHER_Y + STUDENT_Y) / 2 + 12
    student, corner = COLUMNS["pyramid"] + 46, COLUMNS["binary"] + 126
    page.path(
        "binary",
        f"M{COLUMNS['binary'] + 111} {start:g} H{corner} V{low} H{student} V{STUDENT_Y + 54}",
        "back",
    )
    page.path(
        "boxes", f"M{COLUMNS['boxes'] + 92} {start:g} H{WIDTH - 12} V{low} H{corner + 4}", "back"
    )
    text = "what flows back, to the student alone; labels teach it beside this"
    page.words("binary", 500, low + 20, text, "ink-fill small", "middle")


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    write_text(folder / "method.svg", method_drawing())
    for name in PARTS:
        write_text(folder / f"method-{name}.svg", method_drawing(name))
