"""The score-map explorer in a browser: what a reader does, and the numbers it shows."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch

from bckd.datasets import CocoDataset, collate, read_annotations
from bckd.geometry import box_similarity
from bckd.image_size import ImageSize
from bckd.structures import DenseOutput
from bckd.viz.explorers.score_maps import ScoreMapExplorer
from bckd.zoo.checkpoints import load_detector

TEACHER = Path(__file__).resolve().parents[2] / "data" / "weights" / "scenes_teacher.safetensors"
SIDE = 128  # of a scene, in pixels
IMAGE = 1  # of the batch


@pytest.fixture(scope="module")
def scene(scenes_root: Path, tiny_detector: Callable) -> dict[str, Any]:
    """What the committed teacher and two random students say of two scenes."""
    annotations = read_annotations(scenes_root / "annotations" / "instances_val.json")
    data = CocoDataset(scenes_root / "val", annotations, ImageSize(SIDE, SIDE))
    batch = collate([data[0, index] for index in (0, 2)], data.size)
    teacher = load_detector(TEACHER).detector
    students = {f"student {name}": tiny_detector(seed=seed) for seed, name in enumerate("AB")}
    with torch.no_grad():
        for student in students.values():  # apart from the prior, and from one another
            student.head.cls.weight *= 40
            student.head.cls.bias += 3
        outputs = {n: m(batch.images) for n, m in {"teacher": teacher, **students}.items()}
    real = batch.ground_truth.labels[IMAGE] >= 0
    return {
        "picture": data.pixels(batch.indices[IMAGE]).permute(1, 2, 0).numpy(),
        "outputs": outputs,
        "class_names": teacher.class_names,
        "ground_truth": (
            batch.ground_truth.boxes[IMAGE][real],
            batch.ground_truth.labels[IMAGE][real],
        ),
        "image": IMAGE,
    }


@pytest.fixture
def page(scene: dict[str, Any], open_explorer: Callable[..., Any]) -> Any:
    return open_explorer(ScoreMapExplorer(**scene))


def maps(scene: dict[str, Any], state: dict[str, Any]) -> torch.Tensor:
    """(A,) values of the map that the settings ask for, from the dense outputs."""
    protocol = state["protocol"] if state["kind"] != "weight" else "sigmoid"
    read = torch.sigmoid if protocol == "sigmoid" else lambda x: x.softmax(dim=-1)
    scores = {name: read(output.cls_logits[IMAGE]) for name, output in scene["outputs"].items()}
    values = scores[state["model"]]
    if state["kind"] != "score":
        values = (values - scores["teacher"]).abs()
    if state["kind"] == "weight" or state["class_name"] is None:
        return values.amax(dim=-1)
    return values[:, scene["class_names"].index(state["class_name"])]


def covering(output: DenseOutput, x: float, y: float, stride: int | None) -> list[int]:
    """Locations whose cell holds the pixel, one a level."""
    corners = (output.locations.centres / output.locations.strides[:, None]).floor()
    cells = (torch.tensor([x, y]) / output.locations.strides[:, None]).floor()
    here = (corners == cells).all(dim=-1)
    if stride is not None:
        here &= output.locations.strides == stride
    return here.nonzero().flatten().tolist()


def check_shown(scene: dict[str, Any], state: dict[str, Any], x: float, y: float) -> dict:
    """`shown` is of the location that has the map's highest value at the pixel."""
    shown, outputs = state["shown"], scene["outputs"]
    values = maps(scene, state)
    there = covering(outputs["teacher"], x, y, state["stride"])
    location = shown["location"]
    assert location in there
    assert shown["value"] == pytest.approx(values[there].max().item(), abs=1e-3)
    assert shown["value"] == pytest.approx(values[location].item(), abs=1e-3)
    logits = {name: output.cls_logits[IMAGE, location] for name, output in outputs.items()}
    boxes = {name: output.boxes[IMAGE, location] for name, output in outputs.items()}
    listed = [scene["class_names"].index(one["name"]) for one in shown["classes"]]
    highest = torch.stack(list(logits.values())).sigmoid().amax(dim=0)
    best = highest.sort(descending=True).values[:5].tolist()
    assert highest[listed].tolist() == pytest.approx(best, abs=1e-3)
    for one, label in zip(shown["classes"], listed, strict=True):
        for name, each in logits.items():
            score, share = each.sigmoid()[label].item(), each.softmax(-1)[label].item()
            assert one["sigmoid"][name] == pytest.approx(score, abs=1e-3)
            assert one["softmax"][name] == pytest.approx(share, abs=1e-3)
    for name, box in boxes.items():
        assert shown["boxes"][name] == pytest.approx(box.tolist(), abs=1e-3)
        assert shown["mean_logit"][name] == pytest.approx(logits[name].mean().item(), abs=1e-2)
    for name in list(outputs)[1:]:
        iou = box_similarity(boxes[name], boxes["teacher"]).item()
        assert shown["iou"][name] == pytest.approx(iou, abs=1e-3)
        gap = (logits[name].sigmoid() - logits["teacher"].sigmoid()).abs().max().item()
        assert shown["weight"][name] == pytest.approx(gap, abs=1e-3)
    return shown


def check_page(page: Any, shown: dict[str, Any]) -> None:
    """The page's texts and boxes are those of `shown`."""
    place = f"Stride {shown['stride']}, row {shown['row']}, column {shown['column']}"
    assert page.locator(".readout h4").inner_text() == place
    assert f": {shown['value']:.3f}" in page.locator(".value").inner_text()
    rows = page.locator(".classes tbody tr")
    for number, one in enumerate(shown["classes"]):
        assert rows.nth(number).locator("th").inner_text() == one["name"]
        texts = [float(text) for text in rows.nth(number).locator("td").all_inner_texts()]
        expected = [*one["sigmoid"].values(), *one["softmax"].values()]
        assert texts == pytest.approx(expected, abs=6e-4)
    for number, box in enumerate(shown["boxes"].values()):
        drawn = page.evaluate(
            """(name) => ["x", "y", "width", "height"].map(
                (key) => Number(document.querySelector(name).getAttribute(key)))""",
            f"rect.line.model-{number}",
        )
        x, y, right, bottom = box
        assert drawn == pytest.approx([x, y, right - x, bottom - y], abs=1e-4)


def on_screen(page: Any, x: float, y: float, side: int = SIDE) -> tuple[float, float]:
    """A pixel of the picture in pixels of the window."""
    frame = page.locator(".stage").bounding_box()
    return frame["x"] + x * frame["width"] / side, frame["y"] + y * frame["width"] / side


def painted(page: Any) -> np.ndarray:
    """(h, w, 3) colours of the map's canvas."""
    pixels = page.evaluate(
        """() => {
          const canvas = document.querySelector(".stage canvas");
          const { width, height } = canvas;
          const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
          return [height, width, Array.from(data)];
        }"""
    )
    return np.array(pixels[2]).reshape(pixels[0], pixels[1], 4)[..., :3]


def menu(page: Any, label: str) -> Any:
    return page.locator("label", has_text=re.compile(f"^{label}")).locator("select")


def choose(page: Any, label: str, text: str) -> None:
    menu(page, label).select_option(label=text)


def test_first_sight(page: Any, scene: dict[str, Any], state_of: Callable) -> None:
    state = state_of(page)
    assert (state["kind"], state["model"], state["protocol"]) == ("score", "teacher", "sigmoid")
    assert state["shown"] is None
    assert page.locator(".readout h4").inner_text() == "No location yet"
    assert page.locator(".readout table").first.is_hidden()
    loaded = "() => document.querySelector('.stage img').naturalWidth"
    page.wait_for_function(loaded)
    assert page.evaluate(loaded) == SIDE
    assert page.locator(".object-name").all_inner_texts() == [
        scene["class_names"][label] for label in scene["ground_truth"][1]
    ]


def mixed(name: str, values: np.ndarray) -> np.ndarray:
    """Colours as the page mixes them, from nine of matplotlib's, which are 256 steps themselves."""
    places = np.linspace(0, 1, 9)
    channels = 255 * matplotlib.colormaps[name](places)[:, :3].T
    return np.stack([np.interp(values, places, channel) for channel in channels], axis=-1)


@pytest.mark.parametrize(
    ("view", "scale"), [("teacher: score", "viridis"), ("|teacher − student B|", "magma")]
)
def test_the_map_has_the_colours_of_its_values(
    page: Any, scene: dict[str, Any], state_of: Callable, view: str, scale: str
) -> None:
    choose(page, "map", view)
    values = maps(scene, state_of(page))
    output = scene["outputs"]["teacher"]
    for stride in (None, 8, 16, 32):
        choose(page, "level", "highest of all" if stride is None else f"stride {stride}")
        cells = [[(8 * x + 4, 8 * y + 4) for x in range(SIDE // 8)] for y in range(SIDE // 8)]
        expected = np.array(
            [[values[covering(output, *at, stride)].max().item() for at in row] for row in cells]
        )
        assert painted(page) == pytest.approx(mixed(scale, expected), abs=5)
        assert expected.max() - expected.min() > 0.1


def test_pointing(page: Any, scene: dict[str, Any], state_of: Callable) -> None:
    for level in ("highest of all", "stride 8", "stride 32"):
        choose(page, "level", level)
        for x, y in ((3, 5), (70, 61), (126, 127), (40, 90)):
            page.mouse.move(*on_screen(page, x, y))
            state = state_of(page)
            assert state["pinned"] is False
            check_page(page, check_shown(scene, state, x, y))


def test_views_and_protocols(page: Any, scene: dict[str, Any], state_of: Callable) -> None:
    page.mouse.click(*on_screen(page, 66, 70))
    page.get_by_label("softmax (T = 1)").check()
    choose(page, "class", "circle")
    for model in ("student A", "student B"):
        for kind, view in (
            ("score", f"{model}: score"),
            ("difference", f"|teacher − {model}|"),
            ("weight", f"weight of L_loc, {model}"),
        ):
            choose(page, "map", view)
            state = state_of(page)
            assert (state["kind"], state["model"]) == (kind, model)
            assert (state["protocol"], state["class_name"]) == ("softmax", "circle")
            check_page(page, check_shown(scene, state, 66, 70))
            weight = kind == "weight"  # of sigmoid scores of all classes, whatever is chosen
            assert menu(page, "class").is_disabled() is weight
            assert page.get_by_label("sigmoid", exact=True).is_disabled() is weight


def test_a_click_pins(page: Any, scene: dict[str, Any], state_of: Callable) -> None:
    page.mouse.click(*on_screen(page, 30, 40))
    pinned = state_of(page)
    assert pinned["pinned"] is True
    page.mouse.move(*on_screen(page, 100, 100))
    assert state_of(page) == pinned
    assert "pinned" in page.locator(".value").inner_text()
    page.mouse.click(*on_screen(page, 100, 100))
    moved = state_of(page)
    assert moved["pinned"] is True
    check_page(page, check_shown(scene, moved, 100, 100))
    page.mouse.click(*on_screen(page, 100, 100))
    assert state_of(page)["pinned"] is False
    page.mouse.move(*on_screen(page, 12, 12))
    check_page(page, check_shown(scene, state_of(page), 12, 12))


def test_keys(page: Any, scene: dict[str, Any], state_of: Callable) -> None:
    stage = page.locator(".stage")
    stage.focus()
    stage.press("ArrowDown")
    assert state_of(page)["point"] == [68, 68], "the first key takes the middle"
    for key, point in (("ArrowRight", [76, 68]), ("ArrowUp", [76, 60]), ("ArrowLeft", [68, 60])):
        stage.press(key)
        state = state_of(page)
        assert state["point"] == point
        check_page(page, check_shown(scene, state, *point))
    stage.press("Enter")
    assert state_of(page)["pinned"] is True
    stage.press("Escape")
    assert state_of(page)["pinned"] is False
    choose(page, "level", "stride 32")
    for _ in range(5):
        stage.press("ArrowRight")
    shown = check_shown(scene, state_of(page), 127, 60)
    assert (shown["row"], shown["column"]) == (1, 3), "the last column, not beyond"


def test_opacity_and_ground_truth(page: Any, state_of: Callable) -> None:
    slider = page.get_by_label("opacity")
    slider.focus()
    for _ in range(3):
        slider.press("ArrowLeft")
    assert state_of(page)["opacity"] == pytest.approx(0.45)
    assert page.evaluate("document.querySelector('.stage canvas').style.opacity") == "0.45"
    assert page.locator(".object-name").first.is_visible()
    page.get_by_label("ground truth").uncheck()
    assert state_of(page)["ground_truth"] is False
    assert page.locator(".object-name").first.is_hidden()


def test_python_may_change_the_state(page: Any, scene: dict, state_of: Callable) -> None:
    page.evaluate(
        """() => {
          const { model } = document.querySelector("[data-bckd]");
          model.set("state", { ...model.get("state"), kind: "difference", model: "student A",
            stride: 16, point: [50, 20], pinned: true });
        }"""
    )
    state = state_of(page)
    check_page(page, check_shown(scene, state, 50, 20))
    chosen = menu(page, "map").evaluate("(select) => select.selectedOptions[0].text")
    assert chosen == "|teacher − student A|"


def test_a_chosen_start_needs_no_correction(
    scene: dict[str, Any], open_explorer: Callable, state_of: Callable
) -> None:
    explorer = ScoreMapExplorer(**scene, kind="weight", model="student B", point=(33, 77))
    page = open_explorer(explorer)
    state = state_of(page)
    check_page(page, check_shown(scene, state, 33, 77))
    expected, shown = explorer.state["shown"], state["shown"]
    assert shown["location"] == expected["location"]
    assert shown["weight"] == pytest.approx(expected["weight"], abs=2e-6)


def test_one_student_and_a_picture_that_ends_within_a_cell(
    dense_output: Callable[..., DenseOutput], open_explorer: Callable, state_of: Callable
) -> None:
    outputs = {n: dense_output(seed, num_images=1) for seed, n in enumerate(("teacher", "one"))}
    picture = np.random.default_rng(0).integers(0, 255, (30, 37, 3), dtype=np.uint8)
    page = open_explorer(ScoreMapExplorer(picture, outputs, ("a", "b", "c"), stride=16))
    page.mouse.move(*on_screen(page, 36.5, 29.5, side=37))
    shown = state_of(page)["shown"]
    assert (shown["stride"], shown["row"], shown["column"]) == (16, 1, 2)
    value = outputs["teacher"].cls_logits[0, -1].detach().sigmoid().max().item()
    assert shown["value"] == pytest.approx(value, abs=1e-3)
    assert len(shown["classes"]) == 3
    assert page.get_by_label("ground truth").is_hidden()
    assert painted(page).shape == (4, 5, 3)


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone(scene: dict[str, Any], open_explorer: Callable, dark: bool) -> None:
    page = open_explorer(ScoreMapExplorer(**scene, point=(60, 60)), width=390, dark=dark)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert (
        page.evaluate(
            "(() => { const t = document.querySelector('.tables'); "
            "return t.scrollWidth - t.clientWidth; })()"
        )
        <= 0
    )
    stage, readout = (page.locator(name).bounding_box() for name in (".stage", ".readout"))
    assert readout["y"] > stage["y"] + stage["height"]


@pytest.mark.parametrize("width", [390, 760, 1200])
def test_the_teachers_name_is_not_broken(
    scene: dict[str, Any], open_explorer: Callable, width: int
) -> None:
    page = open_explorer(ScoreMapExplorer(**scene, point=(60, 60)), width=width)
    names = page.locator("thead th.model-0 span:not(.key)")
    lines = names.evaluate_all("(spans) => spans.map((span) => span.getClientRects().length)")
    assert names.all_inner_texts() == ["teacher"] * 3
    assert lines == [1, 1, 1]
