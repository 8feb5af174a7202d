"""Valley and bowl in a browser: dragging, training both, and the numbers behind the pictures."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from bckd.viz.descent import STEPS, descend
from bckd.viz.explorers.valley_and_bowl import ValleyAndBowl
from bckd.viz.protocol_figure import ProtocolValues, protocol_values

TEACHER, STUDENT = [2.0, -2.0], [3.0, 3.0]
WIDTHS = (390, 1200)


def check_values(state: dict[str, Any]) -> ProtocolValues:
    """The state holds what bckd.losses computes from its logits."""
    values = protocol_values(state["teacher"], state["student"], temperature=state["temperature"])
    for key, expected in vars(values).items():
        assert state[key] == pytest.approx(expected, abs=1e-6), key
    return values


def score_rows(page: Any) -> dict[str, list[str]]:
    """Texts of the table's cells by the owner of the scores."""
    rows = page.locator(".scores tbody tr").all()
    return {
        row.locator("th").inner_text().strip(): row.locator("td").all_inner_texts() for row in rows
    }


def train(page: Any) -> None:
    page.get_by_role("button", name="Train both", exact=True).click()
    page.locator(".mark", has_text="right").first.wait_for()


def drag(page: Any, target: Any, right: float, up: float) -> None:
    target.scroll_into_view_if_needed()
    box = target.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + right / 2, y - up / 2)
    page.mouse.move(x + right, y - up)
    page.mouse.up()


@pytest.fixture
def explorer(open_explorer: Callable[..., Any]) -> Any:
    return open_explorer(ValleyAndBowl(TEACHER, STUDENT), still=True)


def test_losses_and_gradients_are_the_packages_at_a_grid_of_points(explorer: Any) -> None:
    """Both sides of the diagonal, both ends of the axes, and two teachers."""
    students = list(itertools.product((-8.0, -3.3, 0.0, 1.7, 8.0), repeat=2))
    teachers = [TEACHER, [-7.5, 6.0]]
    states = explorer.evaluate(
        """([teachers, students]) => {
          const model = document.querySelector("[data-bckd]").model;
          return teachers.flatMap((teacher) => students.map((student) => {
            model.set("state", { ...model.get("state"), teacher, student });
            return model.get("state");
          }));
        }""",
        [teachers, students],
    )
    assert len(states) == len(teachers) * len(students)
    for state in states:
        check_values(state)


@pytest.mark.parametrize("width", WIDTHS)
def test_trained_by_softmax_scores_are_wrong_and_by_l_cls_right(
    open_explorer: Callable[..., Any], state_of: Callable[[Any], dict], width: int
) -> None:
    page = open_explorer(ValleyAndBowl(TEACHER, STUDENT), width=width, still=True)
    train(page)  # at once: who asks for less motion sees the end
    state = state_of(page)
    assert state["trained"] == STEPS
    descent = descend(TEACHER, STUDENT)
    assert state["by_softmax"] == pytest.approx(descent.softmax[-1], abs=1e-6)
    assert state["by_binary"] == pytest.approx(descent.binary[-1], abs=1e-6)
    floor = protocol_values(TEACHER, state["by_softmax"])
    assert floor.softmax_loss < 1e-3
    assert floor.student_scores[1] > floor.teacher_scores[1] + 0.5
    bottom = protocol_values(TEACHER, state["by_binary"])
    assert bottom.student_scores == pytest.approx(bottom.teacher_scores, abs=1e-3)
    assert score_rows(page) == {
        "teacher": ["0.88", "0.12", "0.00", "0.00"],
        "student": ["0.95", "0.95", "0.66", "2.27"],
        "by softmax ✗ wrong": ["0.99", "0.73", "0.00", "0.80"],
        "by L_cls ✓ right": ["0.88", "0.12", "0.00", "0.00"],
    }
    widths = [
        bar.bounding_box()["width"] / bar.locator("..").bounding_box()["width"]
        for bar in page.locator(".fill.by_softmax").all()
    ]
    assert widths == pytest.approx(floor.student_scores, abs=0.02)
    assert "square 0.73, wrong" in page.locator(".verdict").inner_text()
    line = page.locator(".sticky").inner_text()
    assert "softmax KD 0.66 → 0.00 | L_cls 2.27 → 0.00" in line
    assert "0.99, 0.73 | 0.88, 0.12" in line


def test_training_is_seen_on_its_way_and_ended_by_a_hand(
    open_explorer: Callable[..., Any], state_of: Callable[[Any], dict]
) -> None:
    page = open_explorer(ValleyAndBowl(TEACHER, STUDENT))
    page.get_by_role("button", name="3. Train both").click()
    trained = "document.querySelector('[data-bckd]').model.get('state').trained"
    page.wait_for_function(f"{trained} > 3")
    state = state_of(page)
    assert 3 < state["trained"] < STEPS and state["preset"] == "train"
    descent = descend(TEACHER, STUDENT)
    assert state["by_binary"] == pytest.approx(descent.binary[state["trained"]], abs=1e-6)
    page.get_by_role("slider", name="student’s logits, in the picture of L_cls").press("ArrowUp")
    page.wait_for_timeout(50)
    assert state_of(page)["trained"] == 0
    assert state_of(page)["by_softmax"] == [3.0, 3.1]


@pytest.mark.parametrize("width", WIDTHS)
def test_dragging_in_one_picture_moves_both_and_the_line_stays_in_view(
    open_explorer: Callable[..., Any], state_of: Callable[[Any], dict], width: int
) -> None:
    page = open_explorer(ValleyAndBowl(TEACHER, STUDENT), width=width)
    pixel = 16 / page.locator(".plot").first.bounding_box()["width"]
    for place, (right, up) in ((0, (-40, 30)), (1, (20, -35))):
        before = state_of(page)["student"]
        drag(page, page.locator(".point.student").nth(place), right, up)
        state = state_of(page)
        expected = [before[0] + right * pixel, before[1] + up * pixel]
        assert state["student"] == pytest.approx(expected, abs=0.02)
        values = check_values(state)
        line = page.locator(".losses").inner_text()
        assert line == f"softmax KD {values.softmax_loss:.2f} | L_cls {values.binary_loss:.2f}"
    valley, bowl = (
        point.evaluate("e => e.style.left") for point in page.locator(".point.student").all()
    )
    assert valley == bowl
    drag(page, page.locator(".point.teacher").nth(1), -30, 0)
    assert state_of(page)["teacher"] == pytest.approx([2 - 30 * pixel, -2], abs=0.02)
    # Scrolled down to the pictures' end, the numbers are still on the screen.
    page.set_viewport_size({"width": width, "height": 420})
    page.locator(".scores").scroll_into_view_if_needed()
    assert page.evaluate("scrollY") > 100
    box = page.locator(".sticky").bounding_box()
    assert 0 <= box["y"] < 5 and box["height"] < 110


def test_a_click_on_the_ground_puts_the_student_there(
    explorer: Any, state_of: Callable[[Any], dict]
) -> None:
    plot = explorer.locator(".plot").nth(1)
    side = plot.bounding_box()["width"]
    plot.click(position={"x": side / 4, "y": side / 4})
    assert state_of(explorer)["student"] == pytest.approx([-4, 4], abs=0.05)
    explorer.locator(".point.teacher").first.click()
    assert state_of(explorer)["student"] == pytest.approx([-4, 4], abs=0.05)


def test_keyboard_and_words(explorer: Any, state_of: Callable[[Any], dict]) -> None:
    point = explorer.get_by_role("slider", name="student’s logits, in the picture of softmax KD")
    for key in ("ArrowLeft", "Shift+ArrowDown", "ArrowUp"):
        point.press(key)
    assert state_of(explorer)["student"] == [2.9, 2.1]
    before = state_of(explorer)["softmax_loss"]
    point.press("PageDown")
    state = state_of(explorer)
    assert state["student"] == [1.9, 1.1]
    assert state["softmax_loss"] == pytest.approx(before, abs=1e-9)
    assert "circle 1.9, score 0.87; square 1.1, score 0.75" in point.get_attribute("aria-valuetext")
    for _ in range(9):
        point.press("PageUp")
    assert state_of(explorer)["student"] == [8, 8], "the axes end here"
    for word, teacher in (("neither", [-4, -4]), ("both", [2, 2]), ("the circle", [2, -2])):
        explorer.get_by_role("button", name=word, exact=True).click()
        assert state_of(explorer)["teacher"] == teacher
    explorer.get_by_role("button", name="on the teacher").click()
    explorer.get_by_role("button", name="3 down").click()
    assert state_of(explorer)["student"] == [-1, -5]


def test_guided_steps_say_what_is_seen(explorer: Any, state_of: Callable[[Any], dict]) -> None:
    def step(name: str) -> tuple[dict[str, Any], ProtocolValues]:
        button = explorer.get_by_role("button", name=name)
        button.click()
        assert button.get_attribute("aria-pressed") == "true"
        assert explorer.locator(".reading").get_attribute("aria-live") == "polite"
        return state_of(explorer), check_values(state_of(explorer))

    state, values = step("A student")
    assert (state["teacher"], state["student"]) == (TEACHER, STUDENT)
    assert values.softmax_loss > 0.5 and values.binary_loss > 0.5
    _, values = step("A shift")
    assert abs(values.softmax_loss) < 1e-12 and values.binary_loss > 0.5
    assert values.softmax_gradient == pytest.approx((0, 0), abs=1e-12)
    state, _ = step("3. Train both")
    assert state["trained"] == STEPS
    state, values = step("Nothing there")
    assert max(values.teacher_scores) < 0.02 and min(values.student_scores) > 0.9
    assert abs(values.softmax_loss) < 1e-12
    train(explorer)
    state = state_of(explorer)
    assert state["by_softmax"] == [3, 3]
    assert list(score_rows(explorer)) == [
        "teacher",
        "student",
        "by softmax ✗ wrong",
        "by L_cls ✓ right",
    ]
    _, values = step("Agreement")
    assert values.binary_loss == 0 and abs(values.softmax_loss) < 1e-12


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_ground_is_a_valley_and_a_bowl(open_explorer: Callable[..., Any], dark: bool) -> None:
    """Beside the valley's floor the colour stays, in the bowl it deepens."""
    page = open_explorer(ValleyAndBowl(TEACHER, [-7.0, -7.0]), dark=dark)
    valley, bowl = (
        page.evaluate("""() => [...document.querySelectorAll(".plot canvas")].map((canvas) => {
        const context = canvas.getContext("2d");
        const at = ([x, y]) => [...context.getImageData(
            canvas.width * (x + 8) / 16, canvas.height * (8 - y) / 16, 1, 1).data.slice(0, 3)];
        return [[1.3, -1.7], [6.5, 3.5], [-5, 4]].map(at);
    })""")
    )

    def distance(a: list[int], b: list[int]) -> int:
        return max(abs(x - y) for x, y in zip(a, b, strict=True))

    assert distance(valley[0], valley[1]) <= 3
    assert distance(valley[0], valley[2]) > 30
    assert distance(bowl[0], bowl[1]) > 30


@pytest.mark.parametrize("width", [320, 390])
def test_nothing_is_cut_or_scrolls_sideways(open_explorer: Callable[..., Any], width: int) -> None:
    page = open_explorer(ValleyAndBowl([-8.0, 8.0], [8.0, -8.0]), width=width, still=True)
    page.get_by_role("button", name="Train both", exact=True).click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    overflowing = page.evaluate("""() => [...document.querySelectorAll(
        "td, th, button, h3, h4, p, .sticky > *")].filter((e) =>
        e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0).map((e) => e.outerHTML)""")
    assert overflowing == []
    valley, bowl = (plot.bounding_box() for plot in page.locator(".plot").all())
    assert valley["y"] == bowl["y"] and valley["width"] > 90, "side by side, to be compared"


def test_every_control_has_a_name(explorer: Any) -> None:
    unnamed = explorer.evaluate("""() => [...document.querySelectorAll(
        "button, [role=slider]")].filter((e) =>
        !(e.getAttribute("aria-label") || e.textContent.trim())).map((e) => e.outerHTML)""")
    assert unnamed == []
    assert explorer.get_by_role("slider").count() == 4
