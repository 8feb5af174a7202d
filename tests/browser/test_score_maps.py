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
from bckd.viz.location_losses import binary_pull, softmax_pull
from bckd.zoo.checkpoints import load_detector

WEIGHTS = Path(__file__).resolve().parents[2] / "data" / "weights"
FILES = {
    "teacher": WEIGHTS / "scenes_teacher.safetensors",
    "labels": WEIGHTS / "students" / "none.safetensors",
    "softmax": WEIGHTS / "students" / "softmax.safetensors",
    "BCKD": WEIGHTS / "students" / "bckd.safetensors",
}
SIDE = 128  # of a scene, in pixels
IMAGE = 1  # of the batch
PULLS = {"sigmoid": binary_pull, "softmax": softmax_pull}


@pytest.fixture(scope="module")
def scene(scenes_root: Path) -> dict[str, Any]:
    """What the committed teacher and students say of two scenes."""
    annotations = read_annotations(scenes_root / "annotations" / "instances_val.json")
    data = CocoDataset(scenes_root / "val", annotations, ImageSize(SIDE, SIDE))
    batch = collate([data[0, index] for index in (0, 2)], data.size)
    detectors = {name: load_detector(path).detector for name, path in FILES.items()}
    with torch.no_grad():
        outputs = {name: detector(batch.images) for name, detector in detectors.items()}
    real = batch.ground_truth.labels[IMAGE] >= 0
    return {
        "picture": data.pixels(batch.indices[IMAGE]).permute(1, 2, 0).numpy(),
        "outputs": outputs,
        "class_names": detectors["teacher"].class_names,
        "ground_truth": (
            batch.ground_truth.boxes[IMAGE][real],
            batch.ground_truth.labels[IMAGE][real],
        ),
        "image": IMAGE,
    }


@pytest.fixture
def page(scene: dict[str, Any], open_explorer: Callable[..., Any]) -> Any:
    return open_explorer(ScoreMapExplorer(**scene))


def logits_of(scene: dict[str, Any]) -> dict[str, torch.Tensor]:
    """(A, K) class logits by detector."""
    return {name: output.cls_logits[IMAGE] for name, output in scene["outputs"].items()}


def map_of(scene: dict[str, Any], state: dict[str, Any], name: str) -> torch.Tensor:
    """(A,) values of a detector's map under the settings, from the dense outputs."""
    logits, protocol = logits_of(scene), state["protocol"]
    read = torch.sigmoid if protocol == "sigmoid" else lambda x: x.softmax(dim=-1)
    kind = "score" if name == "teacher" else state["kind"]
    if kind == "pull":
        values = PULLS[protocol](logits[name], logits["teacher"])[1].abs()
    else:
        values = read(logits[name])
    if kind == "difference":
        values = (values - read(logits["teacher"])).abs()
    if state["class_name"] is not None:
        return values[:, scene["class_names"].index(state["class_name"])]
    return values.sum(dim=-1) if kind == "pull" else values.amax(dim=-1)


def location_of(scene: dict[str, Any], cell: list[int]) -> int:
    """The location of a stride, a row and a column."""
    places = scene["outputs"]["teacher"].locations
    stride, row, column = cell
    cells = (places.centres / places.strides[:, None]).floor()
    here = (places.strides == stride) & (cells == torch.tensor([column, row])).all(dim=-1)
    (found,) = here.nonzero().flatten().tolist()
    return found


def signed(text: str) -> float:
    """The gradient of a cell of the table: the arrow is the way of a step, against it."""
    arrow, size = text.split()
    return {"↓": 1, "↑": -1, "·": 0}[arrow] * float(size)


def check(page: Any, scene: dict[str, Any], state: dict[str, Any]) -> None:
    """Texts, boxes and the cross-hair are those of the cell, from the dense outputs."""
    stride, row, column = state["cell"]
    location, protocol = location_of(scene, state["cell"]), state["protocol"]
    logits = {name: values[location] for name, values in logits_of(scene).items()}
    read = torch.sigmoid if protocol == "sigmoid" else lambda x: x.softmax(dim=-1)
    scores = {name: read(values) for name, values in logits.items()}
    names, students = list(logits), list(logits)[1:]
    place = f"{protocol} at stride {stride}, row {row}, column {column}"
    assert page.locator(".place").inner_text() == place
    for name, text in zip(names, page.locator(".values > span").all_inner_texts(), strict=True):
        best = int(scores[name].argmax())
        if state["class_name"] is not None:
            best = scene["class_names"].index(state["class_name"])
        found = re.fullmatch(rf"{name}\s+(\S+)\s+(.+)", text)
        assert float(found[1]) == pytest.approx(scores[name][best].item(), abs=6e-3)
        assert found[2] == scene["class_names"][best]

    *classes, means, overlaps = [
        row.locator("th, td").all_inner_texts() for row in page.locator(".scores tbody tr").all()
    ]
    assert len(classes) == 5
    for name, *texts in classes:
        label = scene["class_names"].index(name)
        expected = [scores[each][label].item() for each in names]
        assert [float(text) for text in texts] == pytest.approx(expected, abs=1.1e-3)
    expected = [values.mean().item() for values in logits.values()]
    found = [float(text.replace("−", "-")) for text in means[1:]]
    assert found == pytest.approx(expected, abs=1.1e-2)
    boxes = {name: scene["outputs"][name].boxes[IMAGE, location] for name in names}
    expected = [box_similarity(boxes[name], boxes["teacher"]).item() for name in students]
    assert [float(text) for text in overlaps[2:]] == pytest.approx(expected, abs=6e-3)

    pulls = [
        PULLS[key](logits[name][None], logits["teacher"][None])
        for name in students
        for key in ("softmax", "sigmoid")
    ]
    losses, *classes, sums = [
        row.locator("th, td").all_inner_texts() for row in page.locator(".pulls tbody tr").all()
    ]
    expected = [loss for loss, _ in pulls]
    assert [float(text) for text in losses[1:]] == pytest.approx(expected, abs=2e-3)
    for name, *texts in classes:
        label = scene["class_names"].index(name)
        expected = [gradient[0, label].item() for _, gradient in pulls]
        assert [signed(text) for text in texts] == pytest.approx(expected, abs=2e-3)
    expected = [gradient.sum().item() for _, gradient in pulls]
    assert [signed(text) for text in sums[1:]] == pytest.approx(expected, abs=3e-3)

    drawn = page.evaluate(
        """() => Array.from(document.querySelectorAll("rect.line.cell, rect.line[class*=role-]"),
            (rect) => ["x", "y", "width", "height"].map((key) => Number(rect.getAttribute(key))))"""
    )
    cell = [column * stride, row * stride, stride, stride]
    assert drawn.count(cell) == 1 + len(names), "one cross-hair, in the picture and every map"
    for x, y, right, bottom in boxes.values():
        sides = torch.stack([x, y, right - x, bottom - y]).tolist()
        assert any(rect == pytest.approx(sides, abs=1e-4) for rect in drawn)


def at(page: Any, panel: int, x: float, y: float, side: int = SIDE) -> tuple[float, float]:
    """A pixel of the picture on a panel (0: the picture), in pixels of the window."""
    frame = page.locator(".map-frame").nth(panel).bounding_box()
    return frame["x"] + x * frame["width"] / side, frame["y"] + y * frame["width"] / side


def painted(page: Any) -> list[np.ndarray]:
    """(h, w, 3) colours of each map."""
    found = page.evaluate(
        """() => Array.from(document.querySelectorAll(".map-frame canvas"), (canvas) => {
          const { width, height } = canvas;
          const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
          return [height, width, Array.from(data)];
        })"""
    )
    return [np.array(data).reshape(height, width, 4)[..., :3] for height, width, data in found]


def over_picture(values: torch.Tensor) -> list[torch.Tensor]:
    """(16, 16) of each level of a scene, from (A,) values."""
    sides = (16, 8, 4)
    parts = zip(values.split([side * side for side in sides]), sides, strict=True)
    levels = [part.view(1, 1, side, side) for part, side in parts]
    return [torch.nn.functional.interpolate(level, (16, 16))[0, 0] for level in levels]


def mixed(name: str, values: np.ndarray) -> np.ndarray:
    """Colours as the page mixes them, from nine of matplotlib's, which are 256 steps themselves."""
    places = np.linspace(0, 1, 9)
    channels = 255 * matplotlib.colormaps[name](places)[:, :3].T
    return np.stack([np.interp(values, places, channel) for channel in channels], axis=-1)


def choose(page: Any, label: str, text: str) -> None:
    menu = page.locator("label", has_text=re.compile(f"^{label}")).locator("select")
    menu.select_option(label=text)


def word(page: Any, text: str) -> Any:
    return page.locator("button.word", has_text=re.compile(f"^{text}$"))


def test_first_sight_asks_about_a_background_cell(
    page: Any, scene: dict[str, Any], state_of: Callable
) -> None:
    state = state_of(page)
    assert (state["kind"], state["protocol"], state["preset"]) == ("score", "sigmoid", "background")
    location = location_of(scene, state["cell"])
    assert max(x[location].sigmoid().max() for x in logits_of(scene).values()) < 0.06
    check(page, scene, state)
    assert "What does softmax say here?" in page.locator(".reading").inner_text()
    loaded = "() => document.querySelector('.map-frame img').naturalWidth"
    page.wait_for_function(loaded)
    assert page.evaluate(loaded) == SIDE
    names = [scene["class_names"][label] for label in scene["ground_truth"][1]]
    assert page.locator(".object-name").all_inner_texts() == names
    page.get_by_label("annotated boxes").uncheck()
    assert page.locator(".object-name").first.is_hidden()


def test_the_cell_stays_when_the_reading_changes(
    page: Any, scene: dict[str, Any], state_of: Callable
) -> None:
    page.mouse.click(*at(page, 3, 70, 61))
    cell = state_of(page)["cell"]
    for text, setting in (
        ("softmax", {"protocol": "softmax"}),
        ("differences to the teacher", {"kind": "difference"}),
        ("the pull of a loss", {"kind": "pull"}),
        ("sigmoid", {"protocol": "sigmoid"}),
        ("scores", {"kind": "score"}),
    ):
        word(page, text).click()
        state = state_of(page)
        assert state["cell"] == cell
        assert state.items() >= setting.items()
        assert word(page, text).get_attribute("aria-pressed") == "true"
        check(page, scene, state)
    choose(page, "class", "circle")
    state = state_of(page)
    assert (state["cell"], state["class_name"]) == (cell, "circle")
    check(page, scene, state)


def test_maps_have_the_colours_of_their_values(
    page: Any, scene: dict[str, Any], state_of: Callable
) -> None:
    for kind, protocol, class_name, stride in (
        ("scores", "sigmoid", None, None),
        ("differences to the teacher", "softmax", "square", None),
        ("the pull of a loss", "softmax", None, 16),
        ("the pull of a loss", "sigmoid", None, None),
    ):
        word(page, kind).click()
        word(page, protocol).click()
        choose(page, "class", class_name or "all classes")
        choose(page, "level", "highest of all" if stride is None else f"stride {stride}")
        state = state_of(page)
        maps = {name: map_of(scene, state, name) for name in FILES}
        # Of a difference one scale for both protocols.
        of = ("sigmoid", "softmax") if state["kind"] == "difference" else (protocol,)
        others = [
            map_of(scene, {**state, "protocol": each}, name)
            for name in list(FILES)[1:]
            for each in of
        ]
        reach = max(values.max().item() for values in others)
        for name, colours in zip(FILES, painted(page), strict=True):
            score = state["kind"] == "score" or name == "teacher"
            levels = over_picture(maps[name])
            shown = levels[1] if stride else torch.stack(levels).amax(dim=0)
            shares = shown.numpy() / (1 if score else reach)
            assert colours == pytest.approx(mixed("viridis" if score else "magma", shares), abs=6)


def test_keys(page: Any, scene: dict[str, Any], state_of: Callable) -> None:
    stage = page.locator(".stage")
    word(page, "an object").click()
    stage.focus()
    stride, row, column = state_of(page)["cell"]
    for key, (down, right) in (
        ("ArrowRight", (0, 1)),
        ("ArrowUp", (-1, 1)),
        ("ArrowLeft", (-1, 0)),
    ):
        stage.press(key)
        assert state_of(page)["cell"] == [stride, row + down, column + right]
    for _ in range(16):
        stage.press("ArrowRight")
    assert state_of(page)["cell"] == [stride, row - 1, SIDE // stride - 1], "the last column"
    check(page, scene, state_of(page))
    stage.press("s")
    assert state_of(page)["protocol"] == "softmax"
    page.get_by_role("button", name="flip to sigmoid").click()
    assert state_of(page)["protocol"] == "sigmoid"
    choose(page, "level", "stride 32")
    state = state_of(page)
    assert state["cell"][0] == 32, "the cross-hair goes along to a chosen level"
    check(page, scene, state)


def test_dragging(page: Any, scene: dict[str, Any], state_of: Callable) -> None:
    choose(page, "level", "stride 16")
    page.mouse.move(*at(page, 2, 20, 20))
    before = state_of(page)
    assert before["cell"] == state_of(page)["cell"], "pointing alone changes nothing"
    page.mouse.down()
    assert state_of(page)["cell"] == [16, 1, 1]
    page.mouse.move(*at(page, 2, 70, 100))
    state = state_of(page)
    assert state["cell"] == [16, 6, 4]
    check(page, scene, state)
    page.mouse.up()
    page.mouse.move(*at(page, 2, 30, 30))
    assert state_of(page) == state


def test_guided_steps(page: Any, scene: dict[str, Any], state_of: Callable) -> None:
    buttons = page.get_by_role("group", name="guided steps").get_by_role("button")
    assert buttons.count() == 5
    readings = []
    for button in buttons.all():
        button.click()
        assert button.get_attribute("aria-pressed") == "true"
        check(page, scene, state_of(page))
        readings.append(page.locator(".reading").inner_text())
    assert len(set(readings)) == 5
    # The last one's shares, computed anew.
    logits = logits_of(scene)
    dark = logits["teacher"].sigmoid().amax(dim=-1) < 0.1
    for key, found in zip(("softmax", "sigmoid"), readings[-1].split(";"), strict=True):
        for name in list(FILES)[1:]:
            pull = PULLS[key](logits[name], logits["teacher"])[1].abs().sum(dim=-1)
            share = 100 * (pull[dark].sum() / pull.sum()).item()
            assert float(re.search(rf"{name} (\d+) %", found)[1]) == pytest.approx(share, abs=1)
    buttons.first.click()
    page.keyboard.press("s")
    assert state_of(page)["preset"] == "softmax", "S answers the question"


def test_python_may_change_the_state(page: Any, scene: dict, state_of: Callable) -> None:
    page.evaluate(
        """() => {
          const { model } = document.querySelector("[data-bckd]");
          model.set("state", { ...model.get("state"), kind: "difference", cell: [16, 2, 5] });
        }"""
    )
    check(page, scene, state_of(page))


def test_a_chosen_start_needs_no_correction(
    scene: dict[str, Any], open_explorer: Callable, state_of: Callable
) -> None:
    explorer = ScoreMapExplorer(**scene, kind="pull", protocol="softmax", cell=(8, 3, 9))
    state = state_of(open_explorer(explorer))
    for key, value in explorer.state["shown"].items():
        if isinstance(value, dict) and key != "boxes":
            assert state["shown"][key] == pytest.approx(value, abs=3e-6)


def test_one_student_and_a_picture_that_ends_within_a_cell(
    dense_output: Callable[..., DenseOutput], open_explorer: Callable, state_of: Callable
) -> None:
    outputs = {n: dense_output(seed, num_images=1) for seed, n in enumerate(("teacher", "one"))}
    picture = np.random.default_rng(0).integers(0, 255, (30, 37, 3), dtype=np.uint8)
    page = open_explorer(ScoreMapExplorer(picture, outputs, ("a", "b", "c"), stride=16))
    page.mouse.click(*at(page, 2, 36.5, 29.5, side=37))
    assert state_of(page)["cell"] == [16, 1, 2]
    assert page.get_by_label("annotated boxes").is_hidden()
    assert [colours.shape for colours in painted(page)] == [(4, 5, 3)] * 2


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone(
    scene: dict[str, Any], open_explorer: Callable, state_of: Callable, dark: bool
) -> None:
    page = open_explorer(ScoreMapExplorer(**scene, stride=16), width=390, dark=dark, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    wide = "(tables) => tables.map((table) => table.scrollWidth - table.parentElement.clientWidth)"
    assert max(page.locator("table").evaluate_all(wide)) <= 0
    frames = [frame.bounding_box() for frame in page.locator(".map-frame").all()]
    (_, *maps) = [(round(frame["x"]), round(frame["y"])) for frame in frames]
    assert len({x for x, _ in maps}) == 2 and len({y for _, y in maps}) == 2, "two by two"
    page.locator(".map-frame").nth(4).scroll_into_view_if_needed()
    page.touchscreen.tap(*at(page, 4, 70, 40))
    assert state_of(page)["cell"] == [16, 2, 4]
    page.locator(".pulls").scroll_into_view_if_needed()
    line = page.locator(".sticky").bounding_box()
    assert 0 <= line["y"] < 5, "the scores of the cell stay in view"
    assert line["height"] < 130
    page.mouse.wheel(0, -10_000)
    text = page.locator(".values > span").first.bounding_box()
    assert text["x"] >= 0 and text["x"] + text["width"] <= 390


# How the pages of notebooks and JupyterLab lay an output out: as a table.
OUTPUT = """
<style>
.jp-OutputArea-child {{ display: table; table-layout: fixed; width: 100%; overflow: hidden; }}
.jp-OutputArea-output {{ display: table-cell; overflow-x: auto; }}
</style>
<div class="jp-CodeCell"><div class="jp-OutputArea"><div class="jp-OutputArea-child">
<div class="jp-OutputArea-output">{explorer}</div>
</div></div></div>
<p id="next">what follows</p>
"""


def test_what_follows_an_output_stands_below_it(scene: dict[str, Any], open_page: Callable) -> None:
    page = open_page(OUTPUT.format(explorer=ScoreMapExplorer(**scene).static_html()))
    page.locator(".pulls").wait_for()
    page.evaluate("() => new Promise((done) => setTimeout(done, 300))")
    explorer, after = (page.locator(name).bounding_box() for name in (".bckd", "#next"))
    assert after["y"] >= explorer["y"] + explorer["height"]
