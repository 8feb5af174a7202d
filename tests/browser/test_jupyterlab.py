"""The explorers in JupyterLab: a reader opens a part of the course's notebooks, runs it and plays.

A real server and a real kernel; after every move the numbers on the page are compared with
those that the kernel computes, with bckd's own functions or torch, from the explorer's state.
Settings, runtime files and everything the notebooks write stay in a temporary folder, and no
request leaves this machine. Pictures of what the reader sees, 1200 pixels wide, go to the
folder that the environment variable BCKD_SCREENSHOTS names, else to the temporary folder.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import pytest
from nbformat.v4 import new_code_cell

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE = 180  # seconds; a machine may be busy with the tests beside


class Part(NamedTuple):
    """Part of a notebook: its explorer, what that needs, and what the kernel says of it.

    `needs` has a piece of each earlier cell that the explorer's needs. `report` defines a
    function that prints, as JSON, the explorer's state and what the page should show for it.
    """

    notebook: str
    explorer: str
    needs: tuple[str, ...]
    report: str


LAB = Part(
    "02_two_protocols.ipynb",
    "ProtocolLab",
    (),
    """
from dataclasses import asdict

from bckd.viz.protocol_figure import protocol_values


def report():
    state = explorer().state
    settings = {key: state[key] for key in ("teacher", "student", "temperature", "detach_weight")}
    values = asdict(protocol_values(**settings))
    print(json.dumps({"state": {**settings, "preset": state["preset"]}, **values}))
""",
)
MAPS = Part(
    "01_score_maps.ipynb",
    "ScoreMapExplorer",
    ("lesson = course.scenes()", "batch = lesson.batch(", "output = teacher(", "pictures_of(batch)"),
    """
from bckd.geometry import box_similarity


def report():
    state = explorer().state
    places, names = shown["teacher"].locations, list(shown)
    logits = [shown[name].cls_logits[0] for name in names]
    scores = {"sigmoid": [x.sigmoid() for x in logits], "softmax": [x.softmax(-1) for x in logits]}
    weights = [(x - scores["sigmoid"][0]).abs().amax(-1) for x in scores["sigmoid"]]
    boxes = [shown[name].boxes[0] for name in names]
    overlaps = [box_similarity(box, boxes[0]) for box in boxes]

    model, own = names.index(state["model"]), scores[state["protocol"]]
    values = own[model] if state["kind"] == "score" else (own[model] - own[0]).abs()
    chosen = state["class_name"]
    values = values.amax(-1) if chosen is None else values[:, teacher.class_names.index(chosen)]
    if state["kind"] == "weight":
        values = weights[model]

    # Of the cells at the point, one a level, the one with the highest value is shown.
    strides = places.strides[:, None]
    point = torch.tensor(state["point"] or [0.0, 0.0])
    here = ((places.centres / strides).floor() == (point / strides).floor()).all(-1)
    if state["stride"] is not None:
        here &= places.strides == state["stride"]
    n = int(values.masked_fill(~here, -1).argmax())
    print(json.dumps({
        "state": {key: value for key, value in state.items() if key != "shown"},
        "stride": int(places.strides[n]),
        "cell": (point / places.strides[n]).floor().int().tolist(),
        "value": values[n].item(),
        "classes": {
            name: [x[n, k].item() for x in scores["sigmoid"] + scores["softmax"]]
            for k, name in enumerate(teacher.class_names)
        },
        "facts": [
            [x[n].mean().item() for x in logits],
            [x[n].item() for x in overlaps[1:]],
            [x[n].item() for x in weights[1:]],
        ],
    }))
""",
)
REPLAY = Part(
    "05_distil_on_your_laptop.ipynb",
    "TrainingReplay",
    (
        "write_scenes(ROOT",
        "def recipe_of(",
        "import load_detector",
        "def fill(",
        "students = {",
        "validation = validation_data(",
    ),
    """
import numpy as np

def report():
    state = explorer().state
    output = seen[steps.index(state["step"])]
    scores = output.cls_logits[1].sigmoid()
    name = state["class_name"]
    scores = scores.amax(-1) if name is None else scores[:, names.index(name)]
    if state["stride"] is not None:
        scores = scores[output.locations.strides == state["stride"]]
    step = state["step"]
    lines = {key: [*zip(*curve)] for key, curve in curves.items()}
    print(json.dumps({
        "state": {key: value for key, value in state.items() if key != "shown"},
        "steps": steps,
        "highest": scores.max().item(),
        "mean": scores.mean().item(),
        "curves": {
            key: np.interp(step, *xy) if xy[0][0] <= step else None for key, xy in lines.items()
        },
    }))
""",
)


# ---- a server, a browser and what a reader does with them ---------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like the repository: the notebooks, the committed weights, room for runs."""
    root = tmp_path_factory.mktemp("course")
    for part in ("data/weights", "notebooks/results"):
        shutil.copytree(REPOSITORY / part, root / part)
    for each in (LAB, MAPS, REPLAY):
        write_part(each, root / "notebooks")
    return root


def write_part(part: Part, folder: Path) -> None:
    """The explorer's cell with the text above it and the cells it needs, and one for the reader.

    nbval runs the whole notebooks; here the other cells would only take time.
    """
    notebook = nbformat.read(REPOSITORY / "notebooks" / part.notebook, as_version=4)
    shows = re.compile(rf"^{part.explorer}\(", flags=re.MULTILINE)
    (last,) = [n for n, cell in enumerate(notebook.cells) if shows.search(cell.source)]
    needed = [only_cell(notebook.cells[:last], piece) for piece in part.needs]
    find = (
        "import json\n\n\ndef explorer():\n"
        f"    return next(x for x in Out.values() if isinstance(x, {part.explorer}))\n"
    )
    ours, readers = new_code_cell(find + part.report), new_code_cell("pass")
    notebook.cells = [*needed, ours, *notebook.cells[last - 1 : last + 1], readers]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.write(notebook, folder / part.notebook)


def only_cell(cells: list[nbformat.NotebookNode], piece: str) -> nbformat.NotebookNode:
    found = [cell for cell in cells if cell.cell_type == "code" and piece in cell.source]
    assert len(found) == 1, f"{len(found)} cells hold {piece!r}"
    return found[0]


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a JupyterLab of this environment, as `make lab` starts it."""
    pytest.importorskip("jupyterlab", reason="JupyterLab is not installed")
    home = tmp_path_factory.mktemp("jupyter")
    write_settings(home, folder / "notebooks")
    ours = ("JUPYTER", "IPYTHON", "BCKD_COCO", "BCKD_BOOK")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    environment |= {
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "IPYTHONDIR": str(home / "ipython"),
        "PYTHONPATH": str(REPOSITORY),  # where bckd is not installed
        "OMP_NUM_THREADS": "1",
    }
    log = home / "log.txt"
    with log.open("w") as lines:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab"], env=environment, stdout=lines, stderr=lines
        )
    try:
        yield address_of(process, home / "runtime", log)
    finally:
        process.terminate()  # it ends its kernels first
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def write_settings(home: Path, root: Path) -> None:
    """Open to this machine alone, without questions, news or looking for updates."""
    server = {
        "ip": "127.0.0.1",
        "port": 0,
        "open_browser": False,
        "allow_root": True,
        "token": "",
        "password": "",
        "root_dir": str(root),
    }
    lab = {
        "expose_app_in_browser": True,
        "news_url": None,
        "check_for_updates_class": "jupyterlab.handlers.announcements.NeverCheckForUpdate",
        "extension_manager": "readonly",
    }
    news = {"fetchNews": "false", "checkForUpdates": False}
    extension = home / "settings" / "@jupyterlab" / "apputils-extension"
    for path, content in (
        (home / "config" / "jupyter_lab_config.json", {"ServerApp": server, "LabApp": lab}),
        (extension / "notification.jupyterlab-settings", news),
    ):
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(content), encoding="utf-8")


def address_of(process: subprocess.Popen[bytes], runtime: Path, log: Path) -> str:
    """What the server says of itself once it listens."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        for path in runtime.glob(f"jpserver-{process.pid}.json"):
            if text := path.read_text(encoding="utf-8"):
                return json.loads(text)["url"]
        time.sleep(0.05)
    raise AssertionError(f"JupyterLab did not start:\n{log.read_text()}")


class Reader:
    """A reader at a page of JupyterLab; `panel` is the open notebook."""

    def __init__(self, page: Any, pictures: Path) -> None:
        self.page, self.pictures = page, pictures
        self.panel = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")

    def open_and_run(self, part: Part) -> Any:
        """Double click on the notebook, Run All Cells; returns the place of the explorer."""
        self.page.locator(".jp-DirListing-item", has_text=part.notebook).dblclick()
        self._until(
            """(name) => {
              const panel = jupyterapp.shell.currentWidget;
              return panel?.context?.path === name && panel.sessionContext.isReady
                && panel.sessionContext.session?.kernel?.status === "idle";
            }""",
            part.notebook,
        )
        self.menu("Run", "Run All Cells")
        self._outputs_after(None)
        place = self.panel.locator(".bckd")
        place.wait_for()  # the one explorer
        return place

    def menu(self, *names: str) -> None:
        labels = self.page.locator(".lm-MenuBar-itemLabel, .lm-Menu-itemLabel")
        for name in names:
            labels.filter(has_text=re.compile(f"^{name}$")).click()

    def execute(self, line: str) -> str:
        """What a line prints in the notebook's last cell."""
        cell = self.panel.locator(".jp-Cell").last
        before = self.page.evaluate(
            "() => jupyterapp.shell.currentWidget.content.widgets.at(-1).model.executionCount"
        )
        cell.locator(".cm-content").click()
        if cell.locator(".cm-content").inner_text() != line:
            self.page.keyboard.press("ControlOrMeta+a")
            self.page.keyboard.insert_text(line)
        self.page.keyboard.press("ControlOrMeta+Enter")
        outputs = self._outputs_after(before)
        return "".join(output["text"] for output in outputs if output["output_type"] == "stream")

    def agreed(self, shows: Callable[[dict[str, Any]], None], **state: Any) -> dict[str, Any]:
        """The kernel's report, once `shows` finds it on the page and the state is as given.

        A message takes its time, so both are asked again until they agree.
        """
        deadline = time.monotonic() + PATIENCE
        while True:
            report = json.loads(self.execute("report()"))
            try:
                shows(report)
                assert {key: report["state"][key] for key in state} == state
                return report
            except AssertionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def cells(self) -> list[str]:
        """Ids of the notebook's cells."""
        return self.page.evaluate(
            "() => jupyterapp.shell.currentWidget.content.widgets.map(({ model }) => model.id)"
        )

    def choose_theme(self, name: str) -> None:
        self.menu("Settings", "Theme", name)
        self._until("(name) => document.body.dataset.jpThemeName === name", name)
        self.page.locator("#jupyterlab-splash").wait_for(state="detached")

    def save(self) -> None:
        self.page.keyboard.press("ControlOrMeta+s")
        self._until("() => !jupyterapp.shell.currentWidget.context.model.dirty", None)

    def picture(self, name: str) -> None:
        self.panel.locator(".bckd").evaluate("(explorer) => explorer.scrollIntoView()")
        self.page.screenshot(path=self.pictures / f"{name}.png")

    def _outputs_after(self, before: int | None) -> list[dict[str, Any]]:
        """Outputs of the last cell, as soon as it has run; a cell's error fails the test."""
        found = self._until(
            """(before) => {
              const { widgets } = jupyterapp.shell.currentWidget.content;
              for (const { model: { outputs } } of widgets) {
                for (let n = 0; n < (outputs?.length ?? 0); n++) {
                  const output = outputs.get(n);
                  if (output.type === "error") return { error: output.toJSON() };
                }
              }
              const last = widgets.at(-1).model;
              const ran = ![null, before].includes(last.executionCount);
              return ran && last.executionState === "idle" && { outputs: last.outputs.toJSON() };
            }""",
            before,
        )
        assert "error" not in found, "\n".join(found["error"]["traceback"])
        return found["outputs"]

    def _until(self, condition: str, argument: Any) -> Any:
        waits = self.page.wait_for_function(condition, arg=argument, polling=50)
        return waits.json_value()


@pytest.fixture(scope="module")
def reader(
    chromium: Any, server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Reader]:
    """One page for all tests, each of which opens a notebook in a tab of its own."""
    faults: list[str] = []
    context = chromium.new_context(
        viewport={"width": 1200, "height": 1300},
        service_workers="block",
        proxy={"server": "http://127.0.0.1:9", "bypass": "127.0.0.1"},  # nothing gets out
    )
    page = context.new_page()
    page.set_default_timeout(1000 * PATIENCE)
    page.on("pageerror", lambda error: faults.append(f"script error: {error}"))
    page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
    inside = (server, server.replace("http", "ws"), f"blob:{server}", "data:")

    def watch(request: Any) -> None:
        if not request.url.startswith(inside):
            faults.append(f"request: {request.url}")

    page.on("request", watch)
    page.on("websocket", watch)
    page.goto(f"{server}lab?reset")
    given = os.environ.get("BCKD_SCREENSHOTS")
    pictures = Path(given) if given else tmp_path_factory.mktemp("screenshots")
    pictures.mkdir(parents=True, exist_ok=True)
    yield Reader(page, pictures)
    context.close()
    assert faults == []


def drag(page: Any, target: Any, right: float = 0, up: float = 0) -> None:
    target.hover()
    box = target.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.down()
    page.mouse.move(x + right / 2, y - up / 2)
    page.mouse.move(x + right, y - up)
    page.mouse.up()


def number(text: str) -> float:
    """A number as the page writes it, with a true minus sign."""
    return float(text.replace("−", "-"))


def numbers(texts: list[str]) -> list[float]:
    return [number(text) for text in texts if text]


def press_shortcuts(reader: Reader) -> None:
    """In the notebook's command mode these keys add, cut, delete and leave cells."""
    before, focused = reader.cells(), reader.page.evaluate_handle("document.activeElement")
    for key in ("b", "a", "x", "d", "d", "j", "k", "z", "m", "Shift+M"):
        reader.page.keyboard.press(key)
        assert reader.cells() == before, key
    assert focused.evaluate("(element) => element === document.activeElement")


# ---- the explorers -------------------------------------------------------------------------------


def test_protocol_lab(reader: Reader) -> None:
    place = reader.open_and_run(LAB)
    page = reader.page

    def shows(report: dict[str, Any]) -> None:
        """The page shows the report's losses, gradients, scores and logits."""
        for card, loss, values in (
            ("softmax KD", "softmax", "probabilities"),
            ("L_cls", "binary", "scores"),
        ):
            panel = place.locator(".card", has_text=card)
            found = number(panel.locator(".loss").inner_text())
            assert found == pytest.approx(report[f"{loss}_loss"], abs=1e-4)
            found = numbers(panel.locator(".gradient").all_inner_texts())
            assert found == pytest.approx(report[f"{loss}_gradient"], abs=1e-4)
            for role in ("teacher", "student"):
                found = numbers(panel.locator(f".{role}-text").all_inner_texts())
                assert found == pytest.approx(report[f"{role}_{values}"], abs=1e-3)
        for role in ("teacher", "student"):
            grips = place.locator(f".grip.{role}").all()
            found = [float(grip.get_attribute("aria-valuenow")) for grip in grips]
            assert found == report["state"][role]

    reader.agreed(shows, teacher=[2, -2, -4, -3], student=[0.5, -1, -2, -3.5])
    reader.picture("protocol_lab")

    drag(page, place.locator(".grip.student").nth(2), up=60)  # 240 pixels are 20 logits
    page.keyboard.press("ArrowUp")  # what was dragged has the focus
    reader.agreed(shows, student=[0.5, -1, 3.1, -3.5])
    drag(page, place.get_by_role("slider", name="all student logits"), up=24)
    reader.agreed(shows, student=[2.5, 1, 5.1, -1.5])

    place.get_by_role("slider", name="dog, student logit").focus()
    press_shortcuts(reader)
    reader.save()  # a shortcut with Ctrl is the notebook's
    for key in ("ArrowDown", "PageDown", "ArrowLeft"):
        page.keyboard.press(key)
    reader.agreed(shows, student=[2.5, -0.2, 5.1, -1.5])

    place.get_by_role("radio", name="4").check()
    press_shortcuts(reader)
    page.keyboard.press("ArrowLeft")  # from one radio button to the one before
    place.get_by_role("checkbox").uncheck()
    reader.agreed(shows, temperature=2, detach_weight=True)

    place.get_by_role("button", name="shifted student").click()
    report = reader.agreed(shows, preset="shifted")
    assert abs(report["softmax_loss"]) < 1e-6 and report["binary_loss"] > 1
    reader.picture("protocol_lab_shifted")
    place.get_by_role("button", name="one class").click()
    report = reader.agreed(shows, preset="single")
    assert report["softmax_gradient"] == [0] and report["binary_loss"] > 1

    reader.execute("explorer().state = {**explorer().state, 'student': [4.5], 'teacher': [-1.5]}")
    reader.agreed(shows, teacher=[-1.5], student=[4.5])


def test_score_maps(reader: Reader) -> None:
    place = reader.open_and_run(MAPS)
    page, stage = reader.page, place.locator(".stage")
    menus = {
        name: place.locator("label", has_text=re.compile(f"^{name}")).locator("select")
        for name in ("map", "class", "level")
    }

    def shows(report: dict[str, Any]) -> None:
        """The page shows the report's cell, its scores and its boxes; logits come in 16 bits."""
        x, y = report["cell"]
        head = f"Stride {report['stride']}, row {y}, column {x}"
        assert place.locator(".readout h4").inner_text() == head
        (value,) = re.findall(r": (\d\.\d+)", place.locator(".value").inner_text())
        assert float(value) == pytest.approx(report["value"], abs=2e-3)
        rows = place.locator(".classes tbody tr").all()
        assert len(rows) > 2
        for row in rows:
            name, *texts = row.locator("th, td").all_inner_texts()
            assert numbers(texts) == pytest.approx(report["classes"][name], abs=2e-3)
        facts = place.locator(".facts tbody tr").all()
        for row, expected in zip(facts, report["facts"], strict=True):
            found = numbers(row.locator("td").all_inner_texts())
            assert found == pytest.approx(expected, abs=1e-2)

    def at(x: float, y: float) -> dict[str, float]:
        """A pixel of the scene, 128 wide, in pixels of the page."""
        scale = stage.bounding_box()["width"] / 128
        return {"x": x * scale, "y": y * scale}

    stage.hover(position=at(70, 61))
    first = reader.agreed(shows, kind="score", pinned=False)["state"]["point"]
    stage.hover(position=at(20, 101))
    assert reader.agreed(shows, pinned=False)["state"]["point"] != first
    stage.click(position=at(66, 70))
    reader.agreed(shows, point=[68, 68], pinned=True)
    reader.picture("score_maps")

    menus["map"].select_option(label="|teacher − BCKD|")
    reader.agreed(shows, kind="difference", model="BCKD")
    menus["map"].select_option(label="weight of L_loc, labels alone")
    reader.agreed(shows, kind="weight", model="labels alone")
    menus["map"].select_option(label="BCKD: score")
    menus["class"].select_option(label="circle")
    menus["level"].select_option(label="stride 16")
    place.get_by_label("softmax (T = 1)").check()
    chosen = {"kind": "score", "model": "BCKD", "class_name": "circle", "stride": 16}
    reader.agreed(shows, protocol="softmax", **chosen)

    stage.focus()
    press_shortcuts(reader)
    for key in ("ArrowRight", "ArrowDown", "ArrowDown", "ArrowLeft", "ArrowUp", "Escape"):
        page.keyboard.press(key)
    reader.agreed(shows, point=[68, 84], pinned=False)

    slider = place.get_by_label("opacity")
    slider.focus()
    press_shortcuts(reader)
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    reader.agreed(shows, opacity=pytest.approx(0.45))
    assert stage.locator("canvas").evaluate("(canvas) => canvas.style.opacity") == "0.45"
    drag(page, slider, right=400)
    reader.agreed(shows, opacity=1)

    reader.execute(
        "explorer().choose(kind='difference', model='labels alone', protocol='sigmoid',"
        " class_name=None, stride=None, opacity=0.6, point=(50, 20))"
    )
    reader.agreed(shows, kind="difference", point=[50, 20])
    shown = menus["map"].evaluate("(menu) => menu.selectedOptions[0].text")
    assert shown == "|teacher − labels alone|"
    reader.picture("score_maps_difference")


def test_training_replay(reader: Reader, chart_brightness: Callable) -> None:
    place = reader.open_and_run(REPLAY)
    page = reader.page

    def shows(report: dict[str, Any]) -> None:
        """The page shows the step, the map's scores and the values of the curves."""
        readout = place.locator("[aria-live]").inner_text()
        found = re.findall(r"step (\d+): highest ([\d.]+), mean ([\d.]+)", readout)[0]
        expected = [report["state"]["step"], report["highest"], report["mean"]]
        assert [float(text) for text in found] == pytest.approx(expected, rel=0, abs=6e-4)
        charts = place.locator(".chart")
        assert charts.locator(".head span").all_inner_texts() == list(report["curves"])
        texts = charts.locator("output").all_inner_texts()
        for text, value in zip(texts, report["curves"].values(), strict=True):
            assert number(text) == pytest.approx(value, rel=5e-3), "three digits"

    steps = reader.agreed(shows)["steps"]
    assert len(steps) == 6
    slider = place.get_by_label("checkpoint")
    width = slider.bounding_box()["width"]
    slider.click(position={"x": 0.62 * width, "y": 8})
    reader.agreed(shows, step=steps[3])
    drag(page, slider, right=width)
    reader.agreed(shows, step=steps[-1])

    slider.focus()
    press_shortcuts(reader)
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    reader.agreed(shows, step=steps[-3])
    button = place.get_by_role("button", name="play")
    button.click()
    place.get_by_text(f"step {steps[-1]}: highest").wait_for()
    button.wait_for()  # it has stopped
    reader.agreed(shows, step=steps[-1])
    place.locator("select").nth(0).select_option(label="circle")
    place.locator("select").nth(1).select_option(label="stride 16")
    reader.agreed(shows, class_name="circle", stride=16)

    reader.execute("explorer().choose(step=steps[1], class_name=None, stride=None)")
    reader.agreed(shows, step=steps[1])

    for theme in ("Dark", "Light"):
        reader.choose_theme(f"JupyterLab {theme}")
        ink, paper = chart_brightness(place)
        assert (ink - paper if theme == "Dark" else paper - ink) > 100
        reader.picture(f"replay_{theme.lower()}")
