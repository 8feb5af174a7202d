"""The training replay in a browser: what a reader does, and what it shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch

from bckd.structures import DenseOutput
from bckd.viz.explorers.replay import TrainingReplay

PICTURE = np.random.default_rng(0).integers(0, 255, (32, 40, 3), dtype=np.uint8)
NAMES = ("circle", "square", "triangle")
STEPS = (10, 20, 40, 80)
CURVES = {"AP": [(20, 0.1), (80, 0.25)], "GIoU loss": [(0, 2.0), (9, 1.5), (39, 1.0)]}


@pytest.fixture
def outputs(dense_output: Callable[..., DenseOutput]) -> list[DenseOutput]:
    return [dense_output(seed, num_images=1) for seed in range(len(STEPS))]


@pytest.fixture
def page(outputs: list[DenseOutput], open_explorer: Callable[..., Any]) -> Any:
    return open_explorer(TrainingReplay(PICTURE, STEPS, outputs, CURVES, NAMES))


def check(page: Any, state: dict[str, Any], outputs: list[DenseOutput]) -> None:
    """State, texts and colours are those of the step's dense output."""
    output = outputs[STEPS.index(state["step"])]
    scores = output.cls_logits[0].detach().sigmoid()
    name = state["class_name"]
    scores = scores.amax(dim=-1) if name is None else scores[:, NAMES.index(name)]
    fine, coarse = (part.numpy() for part in scores.split(output.locations.counts))
    coarse = coarse.reshape(2, 3).repeat(2, axis=0).repeat(2, axis=1)[:4, :5]
    of_level = {8: fine.reshape(4, 5), 16: coarse}
    expected = of_level.get(state["stride"], np.maximum(*of_level.values()))
    chosen = torch.ones(len(scores), dtype=torch.bool)
    if state["stride"] is not None:
        chosen = output.locations.strides == state["stride"]
    shown = state["shown"]
    assert shown["highest"] == pytest.approx(scores[chosen].max().item(), abs=1e-3)
    assert shown["mean"] == pytest.approx(scores[chosen].mean().item(), abs=1e-3)
    assert page.get_by_text(f"step {state['step']}: highest {shown['highest']:.3f}").is_visible()
    pixels = page.evaluate(
        """() => Array.from(document.querySelector(".stage canvas")
            .getContext("2d").getImageData(0, 0, 5, 4).data)"""
    )
    colours = np.array(pixels).reshape(4, 5, 4)[..., :3]
    # The page mixes its colours from nine of matplotlib's, which are 256 steps themselves.
    places = np.linspace(0, 1, 9)
    channels = 255 * matplotlib.colormaps["viridis"](places)[:, :3].T
    mixed = np.stack([np.interp(expected, places, channel) for channel in channels], axis=-1)
    assert colours == pytest.approx(mixed, abs=5)


def test_first_sight(page: Any, outputs: list[DenseOutput], state_of: Callable) -> None:
    state = state_of(page)
    assert state["step"] == 10
    assert state["shown"]["curves"] == {"AP": None, "GIoU loss": pytest.approx(1.5 - 0.5 / 30)}
    assert page.locator(".chart output").all_inner_texts() == ["none yet", "1.48"]
    check(page, state, outputs)


def test_the_slider_by_keys(page: Any, outputs: list[DenseOutput], state_of: Callable) -> None:
    slider = page.get_by_label("checkpoint")
    slider.focus()
    for key, step, values in (
        ("ArrowRight", 20, ["0.1", "1.32"]),
        ("ArrowRight", 40, ["0.15", "1"]),
        ("End", 80, ["0.25", "1"]),
        ("ArrowLeft", 40, ["0.15", "1"]),
        ("Home", 10, ["none yet", "1.48"]),
    ):
        slider.press(key)
        state = state_of(page)
        assert state["step"] == step
        assert slider.get_attribute("aria-valuetext") == f"step {step}"
        assert page.locator(".chart output").all_inner_texts() == values
        check(page, state, outputs)


def test_class_and_level(page: Any, outputs: list[DenseOutput], state_of: Callable) -> None:
    page.get_by_label("checkpoint").press("ArrowRight")
    for name in ("square", "highest of all"):
        for level, stride in (("stride 8", 8), ("stride 16", 16), ("highest of all", None)):
            for number, text in enumerate((name, level)):
                page.locator("select").nth(number).select_option(label=text)
            state = state_of(page)
            assert state["class_name"] == ("square" if name == "square" else None)
            assert (state["step"], state["stride"]) == (20, stride)
            check(page, state, outputs)


def test_the_marker_follows(page: Any) -> None:
    """The marker's colour stands at the step's place in the chart, and no longer at the old one."""
    find = """() => {
      const canvas = document.querySelectorAll(".chart canvas")[1];
      const { width, height } = canvas;
      const pixels = canvas.getContext("2d").getImageData(0, 0, width, height).data;
      const row = 4 * width * Math.round(height / 2);
      const red = (x) => pixels[row + 4 * x] - pixels[row + 4 * x + 2] > 100;
      const found = Array.from({ length: width }, (_, x) => x).filter(red);
      return (found[0] + found[found.length - 1]) / 2 / width;
    }"""
    places = []
    for _ in STEPS:
        places.append(page.evaluate(find))
        page.get_by_label("checkpoint").press("ArrowRight")
    gaps = np.diff(places) / np.diff(STEPS)
    assert gaps == pytest.approx(gaps.mean(), rel=0.1), "in proportion to the steps"
    assert gaps.min() > 0


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
    button = page.get_by_role("button")
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
    assert state_of(page)["step"] == 10, "from the start again"
    page.get_by_label("checkpoint").press("ArrowRight")
    page.clock.run_for(5000)
    assert state_of(page)["step"] == 20, "the slider takes over"


def test_less_motion_goes_step_by_step(
    outputs: list[DenseOutput], open_explorer: Callable, state_of: Callable
) -> None:
    page = open_explorer(TrainingReplay(PICTURE, STEPS, outputs, CURVES, NAMES), still=True)
    page.clock.install()
    button = page.get_by_role("button")
    for step in (20, 40, 80, 10):
        assert button.inner_text() == "next"
        button.click()
        page.clock.run_for(5000)
        assert state_of(page)["step"] == step


def test_python_may_change_the_state(
    page: Any, outputs: list[DenseOutput], state_of: Callable
) -> None:
    page.evaluate(
        """() => {
          const { model } = document.querySelector("[data-bckd]");
          model.set("state", { ...model.get("state"), step: 80, opacity: 0.2 });
        }"""
    )
    state = state_of(page)
    assert page.get_by_label("checkpoint").input_value() == "3"
    assert page.evaluate("document.querySelector('.stage canvas').style.opacity") == "0.2"
    check(page, state, outputs)


def test_without_curves(outputs: list[DenseOutput], open_explorer: Callable) -> None:
    page = open_explorer(TrainingReplay(PICTURE, STEPS, outputs, {}, NAMES, step=40))
    assert page.locator(".chart").count() == 0
    assert page.get_by_text("step 40: highest").is_visible()


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone(outputs: list[DenseOutput], open_explorer: Callable, dark: bool) -> None:
    explorer = TrainingReplay(PICTURE, STEPS, outputs, CURVES, NAMES)
    page = open_explorer(explorer, width=390, dark=dark)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    stage, chart = (page.locator(name).first.bounding_box() for name in (".stage", ".chart"))
    assert chart["y"] > stage["y"] + stage["height"]
