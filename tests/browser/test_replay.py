"""The training replay in a browser: what a reader does, and what it shows."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch

from bckd.structures import DenseOutput
from bckd.viz.explorers.replay import Phase, TrainingReplay
from bckd.viz.replay_frames import found_on

PICTURE = np.random.default_rng(0).integers(0, 255, (32, 40, 3), dtype=np.uint8)
NAMES = ("circle", "square", "triangle")
STEPS = (0, 20, 40, 80)
STUDENTS = ("labels", "softmax", "BCKD")
CURVES = {
    "AP": {"teacher": [(0, 0.6), (80, 0.6)], "labels": [(20, 0.1), (80, 0.25)]},
    "objects found": {name: [(0, 0.0), (80, 0.9)] for name in STUDENTS},
}
PHASES = (
    Phase(0, "dark", "nothing stands out"),
    Phase(20, "haze", "everything rises"),
    Phase(80, "objects", "all are there"),
)


@pytest.fixture
def parts(dense_output: Callable[..., DenseOutput]) -> dict[str, Any]:
    students = {
        name: [dense_output(10 * place + seed, num_images=1) for seed in range(len(STEPS))]
        for place, name in enumerate(STUDENTS, start=1)
    }
    teacher = dense_output(0, num_images=1)
    boxes = teacher.boxes[0, [3, 17]].detach().clamp(min=0)
    labels = torch.tensor([int(teacher.cls_logits[0, 3].argmax()), 0])
    return {
        "picture": PICTURE,
        "steps": STEPS,
        "teacher": teacher,
        "students": students,
        "class_names": NAMES,
        "ground_truth": (boxes, labels),
        "curves": CURVES,
        "phases": PHASES,
    }


@pytest.fixture
def replay(parts: dict[str, Any]) -> TrainingReplay:
    return TrainingReplay(**parts)


@pytest.fixture
def page(replay: TrainingReplay, open_explorer: Callable[..., Any]) -> Any:
    return open_explorer(replay)


def scores_of(parts: dict[str, Any], name: str, state: dict[str, Any]) -> torch.Tensor:
    """(A,) values of a detector's map under the settings, from the dense outputs."""
    teacher = parts["teacher"].cls_logits[0].detach().sigmoid()
    scores = teacher
    if name != "teacher":
        output = parts["students"][name][STEPS.index(state["step"])]
        scores = output.cls_logits[0].detach().sigmoid()
        if state["kind"] == "difference":
            scores = (scores - teacher).abs()
    label = state["class_name"]
    return scores.amax(dim=-1) if label is None else scores[:, NAMES.index(label)]


def check(page: Any, replay: TrainingReplay, parts: dict[str, Any], state: dict[str, Any]) -> None:
    """Colours, counts, boxes and texts of every detector are those of the step's outputs."""
    painted = page.evaluate(
        """() => Array.from(document.querySelectorAll(".map-frame canvas"), (canvas) =>
            Array.from(canvas.getContext("2d").getImageData(0, 0, 5, 4).data))"""
    )
    places = np.linspace(0, 1, 9)  # the page mixes nine of matplotlib's colours
    frame = STEPS.index(state["step"])
    for number, name in enumerate(("teacher", *STUDENTS)):
        values = scores_of(parts, name, state)
        fine, coarse = (x.numpy() for x in values.split(parts["teacher"].locations.counts))
        coarse = coarse.reshape(2, 3).repeat(2, axis=0).repeat(2, axis=1)[:4, :5]
        levels = {8: fine.reshape(4, 5), 16: coarse}
        shown = levels.get(state["stride"], np.maximum(*levels.values()))
        scale = "magma" if state["kind"] == "difference" and number else "viridis"
        channels = 255 * matplotlib.colormaps[scale](places)[:, :3].T
        shares = (shown / 0.5).clip(max=1)
        expected = np.stack([np.interp(shares, places, x) for x in channels], axis=-1)
        colours = np.array(painted[number]).reshape(4, 5, 4)[..., :3]
        assert colours == pytest.approx(expected, abs=6), name

        column = page.locator(".column").nth(number)
        detections = replay.frames.detections[name][frame]
        found = found_on(detections, *parts["ground_truth"], state["threshold"])
        over = int((detections.scores >= state["threshold"]).sum())
        assert column.locator("rect.line.detection").count() == over
        text = column.locator(".verdict").inner_text()
        assert text.startswith(f"{found.found} of 2 found, {found.named} named")
        readout = page.locator(".values > span").nth(number + 1).inner_text()
        assert readout.split() == [name, str(found.named)]
        stray = column.locator(".tag.stray").count()
        assert stray == found.stray
    assert page.locator(".steps output").inner_text() == f"step {state['step']}"


def test_first_sight_and_the_slider(
    page: Any, replay: TrainingReplay, parts: dict[str, Any], state_of: Callable
) -> None:
    assert state_of(page)["step"] == 0
    check(page, replay, parts, state_of(page))
    assert page.locator(".chart output").all_inner_texts() == [
        "0.60",
        "none yet",
        "0.00",
        "0.00",
        "0.00",
    ]
    slider = page.get_by_label("frame")
    slider.focus()
    for key, step, value in (
        ("ArrowRight", 20, "0.10"),
        ("End", 80, "0.25"),
        ("ArrowLeft", 40, "0.15"),
    ):
        slider.press(key)
        state = state_of(page)
        assert state["step"] == step
        assert slider.get_attribute("aria-valuetext") == f"step {step}"
        assert page.locator(".chart output").nth(1).inner_text() == value
        check(page, replay, parts, state)
    label = page.locator(".chart canvas").first.get_attribute("aria-label")
    assert label == "AP after 40 steps: teacher 0.60, labels 0.15"


def test_words_keys_and_menus_set_the_figure(
    page: Any, replay: TrainingReplay, parts: dict[str, Any], state_of: Callable
) -> None:
    def word(text: str) -> Any:
        return page.locator("button.word", has_text=re.compile(f"^{text}$"))

    word("the last").click()
    word("differences to the teacher").click()
    word("0.5").click()
    state = state_of(page)
    assert (state["step"], state["kind"], state["threshold"]) == (80, "difference", 0.5)
    assert word("0.5").get_attribute("aria-pressed") == "true"
    check(page, replay, parts, state)
    page.keyboard.press("d")
    assert state_of(page)["kind"] == "score"
    for number, text in enumerate(("square", "stride 16")):
        page.locator("select").nth(number).select_option(label=text)
    state = state_of(page)
    assert (state["class_name"], state["stride"]) == ("square", 16)
    check(page, replay, parts, state)
    slider = page.get_by_label("boxes over")
    slider.focus()
    slider.press("Home")
    assert state_of(page)["threshold"] == 0.05
    check(page, replay, parts, state_of(page))


def test_guided_steps_follow_the_training(page: Any, state_of: Callable) -> None:
    buttons = page.get_by_role("group", name="guided steps").get_by_role("button")
    assert buttons.all_inner_texts() == ["1 dark", "2 haze", "3 objects"]
    reading = page.locator(".reading")
    assert reading.inner_text() == "At step 0: nothing stands out"
    buttons.nth(1).click()
    assert state_of(page)["step"] == 20
    page.get_by_label("frame").press("ArrowRight")
    assert state_of(page)["step"] == 40
    assert reading.inner_text() == "At step 20: everything rises", "until the next phase"
    assert buttons.nth(1).get_attribute("aria-pressed") == "true"


def test_the_marker_follows(page: Any) -> None:
    """A vertical line at the root of the step, in every chart."""
    find = """() => Array.from(document.querySelectorAll(".chart canvas"), (canvas) => {
      const { width, height } = canvas;
      const pixels = canvas.getContext("2d").getImageData(0, 0, width, height).data;
      const filled = (x) => [0.25, 0.4, 0.6].every((share) =>
        pixels[4 * (width * Math.round(height * share) + x) + 3] > 100);
      const found = Array.from({ length: width }, (_, x) => x).filter(filled);
      return found.length ? found[0] / width : null;
    })"""
    places = []
    for _ in STEPS:
        places.append(page.evaluate(find)[1])
        page.get_by_label("frame").press("ArrowRight")
    gaps = np.diff(places) / np.diff(np.sqrt(STEPS))
    assert gaps == pytest.approx(gaps.mean(), rel=0.1) and gaps.min() > 0


def test_the_curves_follow_the_theme(page: Any, chart_brightness: Callable) -> None:
    """JupyterLab announces a theme while its page is hidden for a moment."""
    for theme in ("dark", "light"):
        page.evaluate(
            """(theme) => {
              document.documentElement.dataset.theme = theme;
              document.body.style.display = "none";
              requestAnimationFrame(() => { document.body.style.display = ""; });
            }""",
            theme,
        )
        ink, paper = chart_brightness(page.locator(".bckd"))
        assert (ink - paper if theme == "dark" else paper - ink) > 100


def test_play_and_pause(page: Any, state_of: Callable) -> None:
    page.clock.install()
    button = page.locator(".play")
    assert button.inner_text() == "play"
    button.click()
    assert (state_of(page)["step"], button.inner_text()) == (20, "pause")
    page.clock.run_for(800)
    assert state_of(page)["step"] == 40
    button.click()
    page.clock.run_for(5000)
    assert (state_of(page)["step"], button.inner_text()) == (40, "play")
    button.click()
    page.clock.run_for(5000)
    assert (state_of(page)["step"], button.inner_text()) == (80, "play"), "it stops at the end"
    button.click()
    assert state_of(page)["step"] == 0, "from the start again"
    page.get_by_label("frame").press("ArrowRight")
    page.clock.run_for(5000)
    assert state_of(page)["step"] == 20, "the slider takes over"


def test_less_motion_goes_step_by_step(
    replay: TrainingReplay, open_explorer: Callable, state_of: Callable
) -> None:
    page = open_explorer(replay, still=True)
    page.clock.install()
    button = page.locator(".play")
    for step in (20, 40, 80, 0):
        assert button.inner_text() == "next"
        button.click()
        page.clock.run_for(5000)
        assert state_of(page)["step"] == step


def test_python_may_change_the_state(
    page: Any, replay: TrainingReplay, parts: dict[str, Any], state_of: Callable
) -> None:
    page.evaluate(
        """() => {
          const { model } = document.querySelector("[data-bckd]");
          model.set("state", { ...model.get("state"), step: 80, kind: "difference" });
        }"""
    )
    assert page.get_by_label("frame").input_value() == "3"
    check(page, replay, parts, state_of(page))


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone(replay: TrainingReplay, open_explorer: Callable, dark: bool) -> None:
    page = open_explorer(replay, width=390, dark=dark)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    frames = [each.bounding_box() for each in page.locator(".column").all()]
    assert len({round(x["x"]) for x in frames}) == 2 == len({round(x["y"]) for x in frames})
    page.locator(".chart").last.scroll_into_view_if_needed()
    line = page.locator(".sticky").bounding_box()
    assert 0 <= line["y"] < 5 and line["height"] < 130, "slider and counts stay in view"


def test_a_column_beside_a_prompt(replay: TrainingReplay, open_explorer: Callable) -> None:
    """A notebook's output on a phone may leave it little width."""
    page = open_explorer(replay, width=270)
    assert page.evaluate("document.documentElement.scrollWidth") <= 270
