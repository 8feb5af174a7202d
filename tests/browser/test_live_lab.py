"""The live lab in a real browser: its pictures, networks and targets against Python's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bckd.assigners.atss import assign_atss
from bckd.course.lesson import Lesson
from bckd.course.live_lab import live_lab
from bckd.datasets.scene_drawing import class_names, describe_scene, draw_scene
from bckd.datasets.scene_painting import Polygon, picture_of
from bckd.geometry import box_similarity, grid, with_anchors
from bckd.models.dense import DenseDetector
from bckd.structures import Detections, GroundTruth
from bckd.viz.explorers import live_lab as live_lab_module
from bckd.viz.explorers.live_lab import ROLES, LiveLab
from bckd.viz.explorers.network_weights import in_sixteen_bits

DATA = Path(__file__).parents[2] / "data"
LESSON = Lesson(DATA / "scenes-quickstart", DATA / "weights")
EXPLORERS = Path(live_lab_module.__file__).parent
STUDENTS = ROLES[1:]
# Keeps what the lab's workers answer: { picture, outputs } by the detectors' names.
SPY = """<script>
window.answers = {};
window.Worker = class extends Worker {
  constructor(address) {
    super(address);
    this.addEventListener("message", ({ data }) => {
      for (const [name, output] of Object.entries(data.outputs)) {
        answers[name] = { id: data.id, picture: data.picture, ...output };
      }
    });
  }
};
</script>"""


@pytest.fixture(scope="module")
def html() -> str:
    return live_lab(LESSON).static_html()


@pytest.fixture(scope="module")
def opened(open_page_of_module: Callable[..., Any], html: str) -> Any:
    return open_page_of_module(SPY, html)


@pytest.fixture
def lab(opened: Any) -> Any:
    """The page that all tests share, as it was at first."""
    opened.evaluate(
        """() => {
          const { model } = document.querySelector("[data-bckd]");
          window.first ??= model.get("state");
          model.set("state", { ...first, shown: model.get("state").shown });
        }"""
    )
    settled(opened)
    return opened


@pytest.fixture(scope="module")
def detectors() -> dict[str, DenseDetector]:
    ours = {"teacher": LESSON.teacher, **LESSON.students}
    found = {role: in_sixteen_bits(one) for role, one in ours.items()}
    assert tuple(found) == ROLES
    return found


def settled(page: Any) -> dict[str, Any]:
    """The state, once the networks have answered to the present scene."""
    page.wait_for_selector(".bckd-live-lab[aria-busy=false]", timeout=60_000)
    return page.evaluate('document.querySelector("[data-bckd]").model.get("state")')


def change(page: Any, **patch: Any) -> dict[str, Any]:
    """Change the state as Python would."""
    page.evaluate(
        """(patch) => {
          const { model } = document.querySelector("[data-bckd]");
          model.set("state", { ...model.get("state"), ...patch });
        }""",
        patch,
    )
    return settled(page)


def answer(page: Any, role: str) -> dict[str, np.ndarray]:
    """What a detector said last: "picture" (128, 128, 3), "logits", "boxes" and "detections"."""
    found = page.evaluate(
        """(role) => {
          const { picture, logits, boxes, detections } = answers[role];
          return [...[picture, logits, boxes].map((x) => Array.from(x)), detections];
        }""",
        role,
    )
    picture, logits, boxes, detections = found
    return {
        "picture": np.array(picture, dtype=np.uint8).reshape(128, 128, 3),
        "logits": torch.tensor(logits).reshape(-1, 6),
        "boxes": torch.tensor(boxes).reshape(-1, 4),
        "detections": detections,
    }


def truth(scene: str) -> list[tuple[int, tuple[float, ...]]]:
    objects = draw_scene(0, int(scene.split()[-1]) - 1, "val")[1]
    return [(item.label, item.box) for item in objects]


def found_by(detections: Detections, objects: list, threshold: float) -> tuple[int, int]:
    """Objects found and false alarms, best detection first, each object once."""
    over = detections.scores >= threshold
    free = dict(enumerate(objects))
    for box, label in zip(detections.boxes[over], detections.labels[over], strict=True):
        overlaps = {
            number: box_similarity(box, torch.tensor(other)).item()
            for number, (own, other) in free.items()
            if own == label
        }
        best = max(overlaps, key=overlaps.get, default=None)
        if best is not None and overlaps[best] >= 0.5:
            del free[best]
    found = len(objects) - len(free)
    return found, int(over.sum()) - found


def call(page: Any, expression: str, *given: Any) -> Any:
    """What an expression over the lab's own functions gives in the page; `given` are its values."""
    names = ("shared", *LiveLab.parts, "network", "scene_drawing", "live_lab")
    source = "\n".join((EXPLORERS / f"{name}.js").read_text(encoding="utf-8") for name in names)
    return page.evaluate(
        "([source, given]) => new Function('given', source)(given)",
        [f"{source}\nreturn {expression};", list(given)],
    )


SCENES = "decoded(document.querySelector('[data-bckd]').model.get('data')).scenes"


def test_pictures_are_the_generators(opened: Any) -> None:
    """Of any pixel at most one of 255 steps apart, on the mean less than a fiftieth."""
    pictures = call(opened, f"{SCENES}.map((s) => Array.from(makePainter(s)(s.items, 0)))")
    assert len(pictures) == 6
    for number, picture in enumerate(pictures):
        expected = draw_scene(0, number, "val")[0].astype(int)
        gaps = np.abs(np.array(picture).reshape(expected.shape) - expected)
        assert gaps.max() <= 1
        assert gaps.mean() < 0.02


def given(page: Any, number: int) -> dict[str, Any]:
    """The patch to a given scene."""
    return page.evaluate(
        """(n) => {
          const { name, items } = document.querySelector("[data-bckd]").model.get("data").scenes[n];
          return { scene: name, items, blur: 0, selected: null };
        }""",
        number,
    )


def test_networks_say_what_pytorch_says(lab: Any, detectors: dict[str, DenseDetector]) -> None:
    """Scores, box sides in pixels and detections: of these weights, and of float32's to 5e-4."""
    state = change(lab, **given(lab, 2))
    objects = truth(state["scene"])
    for role, detector in detectors.items():
        said = answer(lab, role)
        pixels = torch.from_numpy(said["picture"]).permute(2, 0, 1)[None]
        sizes = torch.tensor([[128, 128]])
        images = detector.normalisation.images_of(pixels, sizes)
        with torch.no_grad():
            output = detector(images)
        torch.testing.assert_close(said["logits"], output.cls_logits[0], atol=1e-4, rtol=0)
        scores = said["logits"].sigmoid()
        torch.testing.assert_close(scores, output.scores[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(said["boxes"], output.boxes[0], atol=1e-3, rtol=0)
        (detections,) = detector.detect(images, sizes)
        assert [one["label"] for one in said["detections"]] == detections.labels.tolist()
        boxes = torch.tensor([one["box"] for one in said["detections"]])
        torch.testing.assert_close(boxes, detections.boxes, atol=1e-3, rtol=0)
        with torch.no_grad():
            unrounded = {"teacher": LESSON.teacher, **LESSON.students}[role](images)
        torch.testing.assert_close(scores, unrounded.scores[0], atol=5e-4, rtol=0)
        found, false = found_by(detections, objects, state["threshold"])
        shown = state["shown"][role]
        assert (shown["found"], shown["false_alarms"]) == (found, false)


@pytest.mark.parametrize("reading", ["sigmoid", "softmax"])
def test_gaps_are_mean_differences_in_the_reading(lab: Any, reading: str) -> None:
    lab.get_by_label(reading, exact=True).check()
    state = settled(lab)
    read: Callable[[Tensor], Tensor] = torch.sigmoid if reading == "sigmoid" else softmax_shares
    teacher = read(answer(lab, "teacher")["logits"])
    for role in STUDENTS:
        gap = (read(answer(lab, role)["logits"]) - teacher).abs().mean().item()
        assert state["shown"][role]["gap"] == pytest.approx(gap, abs=2e-6)
        assert f"gap {gap:.4f}" in lab.locator(f"[data-role={role}]").inner_text()


def softmax_shares(logits: Tensor) -> Tensor:
    return logits.softmax(dim=-1)


def test_labels_ask_what_the_assigner_asks(opened: Any) -> None:
    levels = [[8, 16, 16], [16, 8, 8], [32, 4, 4]]
    places = with_anchors(grid([(16, 16), (8, 8), (4, 4)], (8, 16, 32)), [(3.0, 3.0)])
    asked = call(
        opened,
        f"{SCENES}.map(({{ items }}) => Array.from(labelTargets("
        "items.filter(isObject).map(objectOf), given[0], 3, 6)))",
        levels,
    )
    for number, targets in enumerate(asked):
        labels, boxes = zip(*truth(f"validation picture {number + 1}"), strict=True)
        objects = GroundTruth.from_lists([torch.tensor(boxes)], [torch.tensor(labels)])
        assigned = assign_atss(places, objects, torch.tensor([[128, 128]]), 6).labels[0]
        expected = F.one_hot(assigned, 7)[:, :6]  # the last one is background
        assert torch.equal(torch.tensor(targets).reshape(-1, 6).long(), expected)
        assert expected.any()


def map_colours(page: Any, tile: str) -> np.ndarray:
    """(16, 16, 3) colours of a tile in the middles of its cells."""
    values = page.evaluate(
        """(tile) => {
          const context = document.querySelector(`[data-tile=${tile}] canvas`).getContext("2d");
          const found = [];
          for (let y = 0; y < 16; y++) for (let x = 0; x < 16; x++) {
            const { data } = context.getImageData(16 * x + 9, 16 * y + 9, 1, 1);
            found.push(Array.from(data.slice(0, 3)));
          }
          return found;
        }""",
        tile,
    )
    return np.array(values, dtype=float).reshape(16, 16, 3)


def test_dragging_a_shape_moves_it_and_the_maps_follow(lab: Any) -> None:
    state = change(lab, **given(lab, 3))
    before = {role: answer(lab, role)["logits"] for role in ROLES}
    maps = {tile: map_colours(lab, tile) for tile in ("labels", *ROLES)}
    number = next(n for n, item in enumerate(state["items"]) if item["label"] == 4)
    frame = lab.locator(".stage").bounding_box()
    zoom = frame["width"] / 128
    x, y = np.mean(state["items"][number]["outline"]["points"], axis=0)
    lab.mouse.move(frame["x"] + x * zoom, frame["y"] + y * zoom)
    lab.mouse.down()
    lab.mouse.move(frame["x"] + (x - 20) * zoom, frame["y"] + (y + 24) * zoom, steps=4)
    lab.mouse.up()
    after = settled(lab)
    assert after["selected"] == number
    moved, start = (np.array(s["items"][number]["outline"]["points"]) for s in (after, state))
    assert moved - start == pytest.approx(np.tile([-20, 24], (len(start), 1)), abs=0.5)
    for role in ROLES:
        assert (answer(lab, role)["logits"] - before[role]).abs().max() > 0.5
    for tile, colours in maps.items():
        assert np.abs(map_colours(lab, tile) - colours).max() > 30
    assert after["shown"] != state["shown"]


def test_the_grip_turns_and_scales(lab: Any) -> None:
    state = change(lab, **given(lab, 3))
    number = next(n for n, item in enumerate(state["items"]) if item["label"] == 0)
    change(lab, selected=number)
    points = np.array(state["items"][number]["outline"]["points"])
    frame, grip = (lab.locator(name).bounding_box() for name in (".stage", ".grip"))
    zoom = frame["width"] / 128
    start = np.array([grip["x"] - frame["x"], grip["y"] - frame["y"]]) / zoom + 12 / zoom
    pivot = points.mean(axis=0)
    arm = start - pivot
    end = pivot + 0.6 * np.array([-arm[1], arm[0]])  # a quarter turn clockwise, and smaller
    lab.mouse.move(frame["x"] + start[0] * zoom, frame["y"] + start[1] * zoom)
    lab.mouse.down()
    lab.mouse.move(frame["x"] + end[0] * zoom, frame["y"] + end[1] * zoom, steps=3)
    lab.mouse.up()
    turned = np.array(settled(lab)["items"][number]["outline"]["points"]) - pivot
    quarter = 0.6 * np.stack([-(points - pivot)[:, 1], (points - pivot)[:, 0]], axis=1)
    assert turned == pytest.approx(quarter, abs=1.0)


def test_a_changed_scene_is_drawn_as_python_draws_it(lab: Any) -> None:
    """Moved, turned, scaled and recoloured by keys: a solid shape, so that no texture moves."""
    scene = describe_scene(0, 3, "val")
    number = next(
        n
        for n, layer in enumerate(scene.layers)
        if layer.label is not None and layer.paint.texture.kind == "solid"
    )
    change(lab, **given(lab, 3))
    handle = lab.locator(".handle").nth(number)
    handle.focus()
    for key in ("Shift+ArrowLeft", "ArrowDown", "r", "-", "c"):
        handle.press(key)
    item = settled(lab)["items"][number]
    layer = scene.layers[number]
    points = np.array(item["outline"]["points"], dtype=np.float32)
    colour = np.array(item["paint"]["base"], dtype=np.float32)[:, None, None]
    assert np.abs(points - layer.outline.points).max() > 5
    changed = replace(
        layer,
        outline=Polygon(points, item["outline"]["hole"]),
        paint=replace(layer.paint, base=colour),
    )
    layers = (*scene.layers[:number], changed, *scene.layers[number + 1 :])
    gaps = np.abs(
        answer(lab, "BCKD")["picture"].astype(int) - picture_of(replace(scene, layers=layers))
    )
    assert gaps.max() <= 1
    assert gaps.mean() < 0.02


# A painter of single items on grey, without light and grain.
BARE = """makePainter({ ...scene, background: { colour: [0.5, 0.5, 0.5], octaves: [] },
    development: { ...scene.development, across: 0, down: 0, grain_strength: 0 } })"""
# [kind of texture, largest difference] of each item that lies well inside, before and after a move
# by 5 and -3 pixels.
MOVES = f"""{SCENES}.flatMap((scene) => {{
  const paint = {BARE};
  const inside = ({{ outline }}) => boundsOf(outline).every((side) => side > 12 && side < 116);
  return scene.items.filter(inside).map((item) => {{
    const [first, second] = [item, moved(item, 5, -3)].map((one) => paint([one], 0));
    let apart = 0;
    for (let y = 8; y < 120; y++) for (let x = 3 * 8; x < 3 * 120; x++) {{
      apart = Math.max(apart, Math.abs(first[384 * y + x] - second[384 * (y - 3) + x + 15]));
    }}
    return [item.texture.kind, apart];
  }});
}})"""


def test_a_texture_goes_along_with_its_shape(opened: Any) -> None:
    found = call(opened, MOVES)
    assert {kind for kind, _ in found} >= {"solid", "gradient", "stripes", "checks", "clouds"}
    assert max(apart for _, apart in found) <= 1


# [kind of outline, largest difference] of each item, not too large, in the picture's middle: turned
# by a quarter there, and in the picture.
TURNS = f"""{SCENES}.flatMap((scene) => {{
  const paint = {BARE};
  return scene.items.filter(({{ outline }}) => longerSide(boundsOf(outline)) < 80).map((item) => {{
    const [x, y] = pivotOf(item.outline);
    const flat = moved({{ ...item, paint: {{ ...item.paint, bevel: 0 }} }}, 64 - x, 64 - y);
    const [first, second] = [flat, turned(flat, Math.PI / 2)].map((one) => paint([one], 0));
    let apart = 0;
    for (let y = 0; y < 128; y++) for (let x = 0; x < 128; x++) for (let k = 0; k < 3; k++) {{
      const there = second[384 * x + 3 * (127 - y) + k];
      apart = Math.max(apart, Math.abs(first[384 * y + 3 * x + k] - there));
    }}
    return [item.outline.kind, apart];
  }});
}})"""


def test_a_quarter_turn_turns_the_picture_of_a_shape(opened: Any) -> None:
    found = call(opened, TURNS)
    assert {kind for kind, _ in found} == {"polygon", "stroke", "blob"}
    assert max(apart for _, apart in found) <= 1


def test_keys_add_and_remove(lab: Any) -> None:
    state = change(lab, **given(lab, 3))
    handle = lab.locator(".handle").last
    handle.focus()
    assert settled(lab)["selected"] == len(state["items"]) - 1
    assert handle.get_attribute("aria-pressed") == "true"
    handle.press("Delete")
    fewer = settled(lab)
    assert len(fewer["items"]) == len(state["items"]) - 1
    assert lab.evaluate("document.activeElement.className") == "handle selected"
    lab.locator("label", has_text="add").locator("select").select_option(label="triangle ring")
    more = settled(lab)
    added = more["items"][-1]
    assert (added["label"], added["outline"]["hole"]) == (class_names().index("triangle ring"), 0.5)
    assert more["selected"] == len(more["items"]) - 1
    assert "triangle ring, 3" in lab.locator(".handle").last.get_attribute("aria-label")
    lab.locator(".handle").last.press("f")
    lab.get_by_role("button", name="add clutter").first.click()
    assert settled(lab)["items"][-1]["label"] is None


class TestGuidedSteps:
    """Each step's sentence says what is seen when it is pressed."""

    @pytest.fixture
    def step(self, lab: Any) -> Callable[..., dict[str, Any]]:
        def press(key: str, reading: str | None = None) -> dict[str, Any]:
            lab.locator(f"[data-preset={key}]").click()
            state = settled(lab)
            return change(lab, reading=reading)["shown"] if reading else state["shown"]

        return press

    def test_ordinary(self, step: Callable[..., dict[str, Any]]) -> None:
        for reading, nearest in (("sigmoid", "BCKD"), ("softmax", "softmax")):
            shown = step("ordinary", reading)
            assert min(STUDENTS, key=lambda role: shown[role]["gap"]) == nearest

    def test_alike(self, step: Callable[..., dict[str, Any]], lab: Any) -> None:
        shown = step("alike")
        assert [shown[role]["found"] for role in ROLES] == [2] * 4
        assert [shown[role]["false_alarms"] for role in ROLES] == [0, 1, 0, 0]
        assert lab.get_by_label("map of").evaluate("(s) => s.selectedOptions[0].text") == "circle"

    def test_empty(self, step: Callable[..., dict[str, Any]], lab: Any) -> None:
        shown = step("empty")
        assert shown["objects"] == 0
        logits = {role: answer(lab, role)["logits"] for role in ROLES}
        for each in logits.values():
            assert each.softmax(dim=-1).amax(dim=-1).min() > 0.2
            assert each.sigmoid().max() < 0.2
        shown = step("empty", "sigmoid")
        assert max(STUDENTS, key=lambda role: shown[role]["gap"]) == "softmax"

    def test_small(self, step: Callable[..., dict[str, Any]], lab: Any) -> None:
        step("small")
        for role in ROLES:
            over = [one for one in answer(lab, role)["detections"] if one["score"] >= 0.4]
            assert all(one["label"] != 0 for one in over), "no square"

    def test_clutter(self, step: Callable[..., dict[str, Any]]) -> None:
        shown = step("clutter")
        assert [shown[role]["found"] for role in ROLES] == [2] * 4
        assert min(shown[role]["false_alarms"] for role in ("teacher", "softmax", "BCKD")) > 0


def test_words_set_the_figure(lab: Any) -> None:
    lab.locator("button.word", has_text="softmax").click()
    lab.locator("button.word", has_text="take all shapes away").click()
    lab.locator("button.word", has_text="blur the picture").click()
    state = settled(lab)
    assert (state["reading"], state["blur"], state["shown"]["objects"]) == ("softmax", 1.5, 0)
    assert all(item["label"] is None for item in state["items"])
    lab.locator("button.word", has_text="start this scene again").click()
    again = settled(lab)
    assert (again["blur"], again["shown"]["objects"]) == (0, len(truth(again["scene"])))


def test_the_threshold_leaves_out_detections(lab: Any) -> None:
    counts = []
    for threshold in (0.1, 0.4, 0.9):
        shown = change(lab, **given(lab, 2), threshold=threshold)["shown"]
        counts.append([shown[role]["found"] + shown[role]["false_alarms"] for role in ROLES])
    assert (np.diff(counts, axis=0) < 0).all()


def test_a_screen_reader_is_told_the_result(lab: Any) -> None:
    change(lab, **given(lab, 4))
    region = lab.locator(".visually-hidden[aria-live=polite]")
    region.get_by_text("teacher: 1 of 1 found; labels alone: 0 of 1 found, 1 false").wait_for()


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone(open_page: Callable[..., Any], html: str, dark: bool) -> None:
    page = open_page(html, width=390, dark=dark)
    page.set_default_timeout(60_000)
    settled(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.evaluate(
        "window.scrollBy(0, document.querySelector('.stage').getBoundingClientRect().top - 60)"
    )
    board, below = (page.locator(name).bounding_box() for name in (".sticky", ".stage"))
    assert board["y"] == pytest.approx(0, abs=1), "it stays in view"
    assert below["y"] + below["height"] < 600
    texts = page.locator(".score output").evaluate_all(
        "(all) => all.map((one) => one.scrollWidth - one.parentElement.clientWidth)"
    )
    assert max(texts) <= 0, "no number is cut off"


def test_a_page_that_may_not_start_workers_says_so(
    open_page: Callable[..., Any], html: str
) -> None:
    forbid = "<script>window.Worker = class { constructor() { throw new Error('no'); } };</script>"
    page = open_page(forbid, html)
    page.get_by_role("alert").get_by_text("the page may not start a worker (no)").wait_for()
