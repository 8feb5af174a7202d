"""The protocol lab in a browser: what a reader does, and the numbers it shows."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from bckd.viz.descent import STEPS, descend
from bckd.viz.explorers.protocol_lab import ProtocolLab
from bckd.viz.protocol_figure import ProtocolValues, protocol_values

TEACHER, STUDENT = [2.0, -2.0, -4.0, -3.0], [0.5, -1.0, -2.0, -3.5]
PRESETS = ("shifted", "single", "background", "confident", "equal")


def number(text: str) -> float:
    """A number as the page writes it, with a true minus sign."""
    return float(text.replace("−", "-"))


def shown(page: Any, card: str) -> tuple[float, list[float], list[list[float]]]:
    """Loss, gradient and (teacher, student) values a class that a card shows."""
    panel = page.locator(".card", has_text=card)
    rows = panel.locator("tbody tr")
    gradient = [number(text) for text in rows.locator(".gradient").all_inner_texts()]
    pairs = [
        [number(part) for part in cell.split()]
        for cell in rows.locator("td.numbers:not(:has(.gradient))").all_inner_texts()
    ]
    return number(panel.locator(".loss").inner_text()), gradient, pairs


def check_page(page: Any, state: dict[str, Any]) -> ProtocolValues:
    """Page and state hold what bckd.losses computes from the state's logits."""
    values = protocol_values(
        state["teacher"],
        state["student"],
        temperature=state["temperature"],
        detach_weight=state["detach_weight"],
    )
    for key, expected in vars(values).items():
        assert state[key] == pytest.approx(expected, abs=1e-6), key
    loss, gradient, pairs = shown(page, "softmax KD")
    assert loss == pytest.approx(values.softmax_loss, abs=1e-4)
    assert gradient == pytest.approx(values.softmax_gradient, abs=1e-4)
    assert [pair[0] for pair in pairs] == pytest.approx(values.teacher_probabilities, abs=1e-3)
    assert [pair[1] for pair in pairs] == pytest.approx(values.student_probabilities, abs=1e-3)
    loss, gradient, pairs = shown(page, "L_cls")
    assert loss == pytest.approx(values.binary_loss, abs=1e-4)
    assert gradient == pytest.approx(values.binary_gradient, abs=1e-4)
    assert [pair[0] for pair in pairs] == pytest.approx(values.teacher_scores, abs=1e-3)
    assert [pair[1] for pair in pairs] == pytest.approx(values.student_scores, abs=1e-3)
    return values


@pytest.fixture
def lab(open_explorer: Callable[..., Any]) -> Any:
    return open_explorer(ProtocolLab(TEACHER, STUDENT))


def drag(page: Any, target: Any, pixels_up: int) -> None:
    target.scroll_into_view_if_needed()
    box = target.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x, y - pixels_up / 2)
    page.mouse.move(x, y - pixels_up)
    page.mouse.up()


def test_first_sight(lab: Any, state_of: Callable[[Any], dict]) -> None:
    state = state_of(lab)
    assert (state["teacher"], state["student"]) == (TEACHER, STUDENT)
    check_page(lab, state)


@pytest.mark.parametrize("part", [".grip", ".bar"])
def test_dragging_a_bar_moves_its_logit_alone(
    lab: Any, state_of: Callable[[Any], dict], part: str
) -> None:
    drag(lab, lab.locator(f"{part}.student").nth(2), pixels_up=60)  # 240 pixels are 20 logits
    state = state_of(lab)
    assert state["student"] == [0.5, -1.0, 3.0, -3.5]
    assert state["teacher"] == TEACHER
    check_page(lab, state)
    drag(lab, lab.locator(f"{part}.teacher").nth(0), pixels_up=-36)
    state = state_of(lab)
    assert state["teacher"] == [-1.0, -2.0, -4.0, -3.0]
    check_page(lab, state)


def test_a_bar_stops_at_the_end_of_the_axis(lab: Any, state_of: Callable[[Any], dict]) -> None:
    drag(lab, lab.locator(".grip.student").nth(0), pixels_up=400)
    assert state_of(lab)["student"][0] == 10
    assert lab.locator(".grip.student").nth(0).get_attribute("aria-valuenow") == "10"


def test_the_shift_grip_moves_the_student_as_one(lab: Any, state_of: Callable[[Any], dict]) -> None:
    before = check_page(lab, state_of(lab))
    drag(lab, lab.get_by_role("slider", name="all student logits"), pixels_up=36)
    state = state_of(lab)
    assert state["student"] == [3.5, 2.0, 1.0, -0.5]
    after = check_page(lab, state)
    assert after.softmax_loss == pytest.approx(before.softmax_loss)
    assert after.binary_loss > before.binary_loss + 0.5
    drag(lab, lab.get_by_role("slider", name="all student logits"), pixels_up=400)
    assert state_of(lab)["student"] == [10, 8.5, 7.5, 6.0]  # together until the first one stops


def test_keyboard(lab: Any, state_of: Callable[[Any], dict]) -> None:
    lab.get_by_role("slider", name="dog, student logit").focus()
    for key in ("ArrowUp", "ArrowUp", "ArrowDown", "PageUp", "ArrowRight"):
        lab.keyboard.press(key)
    state = state_of(lab)
    assert state["student"] == [0.5, 0.2, -2.0, -3.5]
    assert lab.locator(":focus").get_attribute("aria-valuenow") == "0.2"
    check_page(lab, state)
    lab.keyboard.press("Tab")  # the next bar
    lab.keyboard.press("PageDown")
    assert state_of(lab)["teacher"] == [2.0, -2.0, -5.0, -3.0]
    lab.keyboard.press("End")
    assert state_of(lab)["teacher"][2] == 10
    lab.get_by_role("slider", name="all student logits").focus()
    lab.keyboard.press("ArrowDown")
    assert state_of(lab)["student"] == [0.4, 0.1, -2.1, -3.6]


def test_of_all_keys_a_notebook_hears_those_with_ctrl(lab: Any) -> None:
    """Jupyter asks the element with the focus, before that hears of the key or after."""
    lab.evaluate("""() => {
        window.heard = [];
        const hear = ({ key, target }) =>
            target.hasAttribute("data-lm-suppress-shortcuts") || window.heard.push(key);
        document.addEventListener("keydown", hear, true);
        document.addEventListener("keydown", hear, false);
    }""")
    lab.get_by_role("slider", name="dog, student logit").focus()
    for key in ("b", "Shift+M", "ArrowUp", "Enter"):
        lab.keyboard.press(key)
    lab.get_by_role("button", name="equal").click()
    lab.keyboard.press("x")
    assert lab.evaluate("window.heard") == []
    lab.keyboard.press("Control+b")
    lab.keyboard.press("d")
    assert lab.evaluate("window.heard") == ["Control", "b", "b"]


@pytest.mark.parametrize("preset", PRESETS)
def test_presets(lab: Any, state_of: Callable[[Any], dict], preset: str) -> None:
    for temperature in (1, 2, 4):
        lab.get_by_role("radio", name=str(temperature)).check()
        button = lab.locator(f"[data-preset={preset}]")
        button.click()
        state = state_of(lab)
        assert (state["preset"], state["temperature"]) == (preset, temperature)
        assert button.get_attribute("aria-pressed") == "true"
        check_preset(preset, temperature, state, check_page(lab, state))


def check_preset(
    preset: str, temperature: int, state: dict[str, Any], values: ProtocolValues
) -> None:
    """The preset shows what its sentence says."""
    gap = [s - t for s, t in zip(state["student"], state["teacher"], strict=True)]
    if preset == "shifted":
        assert gap == [3, 3, 3, 3]
        assert values.softmax_loss == pytest.approx(0, abs=1e-12)
        assert values.binary_loss > 1
        assert all(gradient > 0 for gradient in values.binary_gradient)
    elif preset == "single":
        assert len(gap) == 1
        assert values.softmax_loss == 0 and values.softmax_gradient == (0,)
        assert values.binary_loss > 1
    elif preset == "background":
        assert max(values.teacher_scores + values.student_scores) < 0.02
        # "Names a class": beyond an even share, clearly so at the lower temperatures.
        assert max(values.teacher_probabilities) > {1: 0.9, 2: 0.7, 4: 0.45}[temperature]
        assert values.softmax_loss > 100 * values.binary_loss
    elif preset == "confident":
        assert max(values.teacher_scores) > 0.99
        for gradient in (values.softmax_gradient, values.binary_gradient):
            assert gradient[0] < 0 and all(other > 0 for other in gradient[1:])
    else:
        assert gap == [0, 0, 0, 0]
        assert values.binary_loss == 0 and set(values.binary_gradient) == {0}
        assert values.softmax_loss == pytest.approx(0, abs=1e-12)
        assert values.softmax_gradient == pytest.approx((0, 0, 0, 0), abs=1e-12)


def test_a_change_by_hand_ends_the_preset(lab: Any, state_of: Callable[[Any], dict]) -> None:
    lab.locator("[data-preset=equal]").click()
    lab.get_by_role("slider", name="cat, student logit").press("ArrowUp")
    assert state_of(lab)["preset"] == ""
    assert lab.locator("[aria-pressed=true]").count() == 0
    assert "Press a preset" in lab.locator(".reading").inner_text()


def test_weight_as_a_constant(lab: Any, state_of: Callable[[Any], dict]) -> None:
    through = lab.get_by_role("checkbox")
    assert through.is_checked()
    before = check_page(lab, state_of(lab))
    through.uncheck()
    state = state_of(lab)
    assert state["detach_weight"] is True
    after = check_page(lab, state)
    assert after.binary_loss == before.binary_loss
    assert after.binary_gradient != pytest.approx(before.binary_gradient, abs=1e-2)


def test_classes_come_and_go(lab: Any, state_of: Callable[[Any], dict]) -> None:
    add, remove = lab.get_by_label("add a class"), lab.get_by_label("remove the last class")
    for _ in range(4):
        add.click()
    assert add.is_disabled()
    state = state_of(lab)
    assert len(set(state["names"])) == 8
    assert state["student"] == [*STUDENT, -3, -3, -3, -3]
    check_page(lab, state)
    for _ in range(7):
        remove.click()
    assert remove.is_disabled()
    state = state_of(lab)
    assert (state["teacher"], state["student"]) == (TEACHER[:1], STUDENT[:1])
    values = check_page(lab, state)
    assert values.softmax_loss == 0 and values.binary_loss > 0
    lab.locator("[data-preset=single]").click()
    assert remove.is_disabled()
    add.click()
    assert len(state_of(lab)["names"]) == 2
    check_page(lab, state_of(lab))


def train(page: Any) -> None:
    page.get_by_role("button", name="Train both").click()
    page.locator(".ends", has_text="At the end").wait_for()


@pytest.mark.parametrize("preset", ["shifted", "single"])
def test_trained_by_softmax_the_scores_stay_wrong(
    open_explorer: Callable[..., Any], state_of: Callable[[Any], dict], preset: str
) -> None:
    page = open_explorer(ProtocolLab(TEACHER, STUDENT), still=True)
    page.locator(f"[data-preset={preset}]").click()
    detected = page.locator(".sticky").inner_text()
    train(page)
    state = state_of(page)
    assert state["trained"] == STEPS
    descent = descend(state["teacher"], state["student"])
    assert state["by_softmax"] == pytest.approx(descent.softmax[-1], abs=1e-6)
    assert state["by_binary"] == pytest.approx(descent.binary[-1], abs=1e-6)
    assert state["by_softmax"] == pytest.approx(state["student"], abs=1e-6), "nothing to see"
    right = protocol_values(state["teacher"], state["by_binary"])
    assert right.student_scores == pytest.approx(right.teacher_scores, abs=0.02)
    said = page.locator(".ends").inner_text()
    if preset == "shifted":  # 5, 1, -1, 0 have scores of .99, .73, .27 and .5
        assert "detected: T 1, S 3 of 4" in detected
        assert "softmax KD (square): 3 of 4 detected, scores wrong" in said
        assert "L_cls (triangle): 1 of 4 detected, scores right" in said
    else:
        assert "detected: T 1, S 0 of 1" in detected
        assert "softmax KD (square): 0 of 1 detected, scores wrong" in said
    check_page(page, state)
    # The marks stand at the copies' logits: 240 pixels are 20 of them.
    track = page.locator(".track").nth(1).bounding_box()
    for key in ("by_softmax", "by_binary"):
        mark = page.locator(f".copy.{key}").first.bounding_box()
        middle = mark["y"] + mark["height"] / 2 - track["y"]
        assert middle == pytest.approx(120 - 12 * state[key][0], abs=1.5)
    page.get_by_role("button", name="2 up").click()
    state = state_of(page)
    assert state["trained"] == 0 and state["by_binary"] == state["student"]
    assert page.locator(".ends").inner_text() == ""
    assert not page.locator(".copy").first.is_visible()


def test_bars_of_gradients_have_the_published_weights(lab: Any) -> None:
    """K / 8 on softmax distillation, 1 on L_cls; the numbers beside them are unweighted."""
    widths = {}
    for card, weight in (("softmax KD", 4 / 8), ("L_cls", 1)):
        panel = lab.locator(".card", has_text=card)
        for pull, text in zip(
            panel.locator(".pull").all(), panel.locator(".gradient").all_inner_texts(), strict=True
        ):
            widths[card, text] = pull.bounding_box()["width"] / (weight * abs(number(text)))
    expected = max(widths.values())
    assert len(widths) == 8
    for (card, text), scale in widths.items():
        if abs(number(text)) > 0.02:
            assert scale == pytest.approx(expected, rel=0.05), (card, text)
    assert "K/8 = 0.5 and 1" in lab.locator(".small", has_text="published weight").inner_text()


def test_on_a_phone_the_losses_stay_in_view(
    open_explorer: Callable[..., Any], state_of: Callable[[Any], dict]
) -> None:
    page = open_explorer(ProtocolLab(TEACHER, STUDENT), width=390)
    page.set_viewport_size({"width": 390, "height": 500})
    drag(page, page.locator(".grip.student").nth(3), pixels_up=24)
    values = check_page(page, state_of(page))
    line = page.locator(".sticky")
    assert f"KD {values.softmax_loss:.2f} | L_cls {values.binary_loss:.2f}" in line.inner_text()
    page.locator(".card").last.scroll_into_view_if_needed()
    box = line.bounding_box()
    assert page.evaluate("scrollY") > 500 and 0 <= box["y"] < 5 and box["height"] < 100


def test_large_logits_widen_the_axis(
    open_explorer: Callable[..., Any], state_of: Callable[[Any], dict]
) -> None:
    page = open_explorer(ProtocolLab([40.0, -3.25], [-45.5, 2.0], ["a", "b"]))
    assert page.locator(".grip.teacher").nth(0).get_attribute("aria-valuemax") == "46"
    assert "−3.25" in page.locator(".stage").inner_text()
    check_page(page, state_of(page))


def test_settings_changed_from_python_are_computed_and_drawn(
    lab: Any, state_of: Callable[[Any], dict]
) -> None:
    lab.evaluate("""() => {
        const model = document.querySelector("[data-bckd]").model;
        model.set("state", { ...model.get("state"), student: [1, 2, 3, 4] });
    }""")
    assert (
        lab.get_by_role("slider", name="bus, student logit").get_attribute("aria-valuenow") == "4"
    )
    check_page(lab, state_of(lab))


def test_two_labs_on_a_page_keep_apart(open_page: Callable[..., Any]) -> None:
    first, second = ProtocolLab([1.0], [2.0], ["left"]), ProtocolLab([3.0], [4.0], ["right"])
    page = open_page(first.static_html(), second.static_html())
    names = "[...document.querySelectorAll('[data-bckd]')].map(e => e.model.get('state').names[0])"
    assert page.evaluate(names) == ["left", "right"]
    page.get_by_role("slider", name="right, student logit").press("ArrowUp")
    students = names.replace("names[0]", "student[0]")
    assert page.evaluate(students) == [2.0, 4.1]


def test_every_control_has_a_name(lab: Any) -> None:
    unnamed = lab.evaluate("""() => [...document.querySelectorAll(
        "button, input, select, [role=slider]")].filter((e) =>
        !(e.getAttribute("aria-label") || e.textContent.trim() || e.labels?.length))
        .map((e) => e.outerHTML)""")
    assert unnamed == []
    assert lab.get_by_role("slider").count() == 2 * len(TEACHER) + 1


def contrast(first: str, second: str) -> float:
    """WCAG contrast of two colours as the browser writes them."""

    def luminance(colour: str) -> float:
        numbers = [float(part) for part in re.findall(r"\d*\.?\d+(?:e-?\d+)?", colour)]
        channels = numbers[:3] if colour.startswith("color(") else [n / 255 for n in numbers[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_has_contrast(open_explorer: Callable[..., Any], dark: bool) -> None:
    page = open_explorer(ProtocolLab(), dark=dark)
    panel = page.locator(".panel").first.evaluate("e => getComputedStyle(e).backgroundColor")
    for part, least in (
        (".teacher-text", 4.5),
        (".student-text", 4.5),
        (".quiet", 4.5),
        ("h4", 7),
        (".tick", 4.5),
    ):
        ink = page.locator(part).first.evaluate("e => getComputedStyle(e).color")
        assert contrast(ink, panel) >= least, (part, ink, panel)
    for part in (".bar.teacher", ".bar.student"):
        fill = page.locator(part).first.evaluate("e => getComputedStyle(e).backgroundColor")
        assert contrast(fill, panel) >= 3, (part, fill, panel)


@pytest.mark.parametrize("logit", [-10.0, 10.0])
def test_the_focus_is_seen_at_the_ends_of_the_axis(
    open_explorer: Callable[..., Any], logit: float
) -> None:
    page = open_explorer(ProtocolLab([logit] * 2, [logit] * 2))
    stage = page.locator(".stage").bounding_box()
    name = page.locator(".foot .name").first.bounding_box()
    for grip in page.get_by_role("slider").all():
        box = grip.bounding_box()
        assert box["y"] - 4 >= stage["y"], "the outline is 2 wide and 2 away"
        assert box["y"] + box["height"] + 4 <= name["y"]


@pytest.mark.parametrize("width", [320, 390, 768, 1200])
def test_nothing_is_cut_or_scrolls_sideways(open_explorer: Callable[..., Any], width: int) -> None:
    logits = [-10.0, -9.99, 8.88, -3.0, -7.25, 1.0, 0.0, -10.0]
    page = open_explorer(ProtocolLab(logits, logits[::-1]), width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    overflowing = page.evaluate("""() => [...document.querySelectorAll(
        ".foot span:not(.name), td, button, label, h3, h4, p")].filter((e) =>
        e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0).map((e) => e.outerHTML)""")
    assert overflowing == []
    columns = page.locator(".panels > .panel")
    side_by_side = columns.nth(0).bounding_box()["y"] == columns.nth(1).bounding_box()["y"]
    assert side_by_side == (width > 640)


def test_touch(open_explorer: Callable[..., Any], state_of: Callable[[Any], dict]) -> None:
    page = open_explorer(ProtocolLab(TEACHER, STUDENT), width=390, has_touch=True, is_mobile=True)
    grip = page.locator(".grip.student").nth(1)
    grip.scroll_into_view_if_needed()
    box = grip.bounding_box()
    point = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    touch = page.context.new_cdp_session(page)
    scrolled = page.evaluate("scrollY")
    touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [point]})
    for up in (20, 40, 60):
        moved = {"x": point["x"], "y": point["y"] - up}
        touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [moved]})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert state_of(page)["student"] == [0.5, 4.0, -2.0, -3.5]
    assert page.evaluate("scrollY") == scrolled
