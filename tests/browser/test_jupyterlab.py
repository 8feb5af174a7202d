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

from bckd.viz.descent import STEPS

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


VALLEY = Part(
    "00_quickstart.ipynb",
    "ValleyAndBowl",
    (),
    """
from dataclasses import asdict

from bckd.viz.descent import descend
from bckd.viz.protocol_figure import protocol_values


def report():
    state = explorer().state
    settings = {key: state[key] for key in ("teacher", "student")}
    now, ends = state["trained"], {}
    if now:
        ways = descend(**settings)
        ends = {"by_softmax": ways.softmax[now], "by_binary": ways.binary[now]}
    print(json.dumps({"state": state, **ends, **asdict(protocol_values(**settings))}))
""",
)
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
    (
        "lesson = course.scenes()",
        "batch = lesson.batch(",
        "output = teacher(",
        "pictures_of(batch)",
    ),
    """
from bckd.geometry import box_similarity
from bckd.viz.location_losses import binary_pull, softmax_pull


def report():
    state = explorer().state
    places, names = shown["teacher"].locations, list(shown)
    stride, row, column = state["cell"]
    cells = (places.centres / places.strides[:, None]).floor()
    here = (places.strides == stride) & (cells == torch.tensor([column, row])).all(-1)
    n = int(here.nonzero())
    logits = [shown[name].cls_logits[0, n] for name in names]
    read = torch.sigmoid if state["protocol"] == "sigmoid" else lambda x: x.softmax(-1)
    boxes = [shown[name].boxes[0, n] for name in names]
    pulls = [
        pull(x[None], logits[0][None]) for x in logits[1:] for pull in (softmax_pull, binary_pull)
    ]
    print(json.dumps({
        "state": {key: value for key, value in state.items() if key != "shown"},
        "scores": {
            name: [read(x)[k].item() for x in logits] for k, name in enumerate(teacher.class_names)
        },
        "means": [x.mean().item() for x in logits],
        "overlaps": [box_similarity(box, boxes[0]).item() for box in boxes[1:]],
        "losses": [loss for loss, _ in pulls],
        "steps": {
            name: [-gradient[0, k].item() for _, gradient in pulls]
            for k, name in enumerate(teacher.class_names)
        },
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
        "def shares(",
    ),
    """
def report():
    state = explorer().state
    step, threshold = state["step"], state["threshold"]
    frame = replay.steps.index(step)
    both = {"teacher": [seen[k]] * len(replay.steps)}
    both |= {name: [found[k] for found in frames] for name, frames in replay.detections.items()}
    print(json.dumps({
        "state": {key: value for key, value in state.items() if key != "shown"},
        "steps": replay.steps,
        "named": {
            name: found_on(frames[frame], *objects[k], threshold).named
            for name, frames in both.items()
        },
        "precision": [lines[frame] for lines in replay.precision.values()],
    }))
""",
)

LIVE = Part(
    "16_live_lab.ipynb",
    "live_lab",
    (),
    """
def report():
    state = next(x for x in Out.values() if type(x).__name__ == "LiveLab").state
    objects = [item["label"] for item in state["items"] if item["label"] is not None]
    print(json.dumps({"state": state, "labels": objects}))
""",
)


# ---- a server, a browser and what a reader does with them ---------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like the repository: the notebooks, the committed weights, room for runs."""
    root = tmp_path_factory.mktemp("course")
    for part in ("data/weights", "notebooks/results"):
        shutil.copytree(REPOSITORY / part, root / part)
    for each in (VALLEY, LAB, MAPS, REPLAY, LIVE):
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


def test_valley_and_bowl(reader: Reader) -> None:
    place = reader.open_and_run(VALLEY)
    page = reader.page

    def shows(report: dict[str, Any]) -> None:
        """The page shows the report's losses and scores, the copies' once they train."""
        losses = report["softmax_loss"], report["binary_loss"]
        found = numbers(re.findall(r"(?:KD|cls) (\d+\.\d+)", place.locator(".losses").inner_text()))
        assert found == pytest.approx(losses, abs=6e-3)
        for key in ("by_softmax", "by_binary"):
            expected = report.get(key, report["state"]["student"])
            assert report["state"][key] == pytest.approx(expected, abs=1e-6)
        rows = place.locator(".scores tbody tr")
        shown = numbers(rows.nth(1).locator(".score").all_inner_texts())
        assert shown == pytest.approx(report["student_scores"], abs=6e-3)

    reader.agreed(shows, teacher=[2, -2], student=[3, 3], trained=0)
    reader.picture("valley_and_bowl")
    point = place.locator(".point.student").nth(1)
    drag(page, point, right=-40, up=20)
    page.keyboard.press("PageDown")  # what was dragged has the focus
    press_shortcuts(reader)
    report = reader.agreed(shows)
    assert report["state"]["student"][1] - report["state"]["student"][0] > 1
    place.get_by_role("button", name="2. A shift").click()
    place.get_by_role("button", name="Train both", exact=True).click()
    report = reader.agreed(shows, preset="shifted", trained=STEPS)
    assert report["by_softmax"] == pytest.approx([5, 1], abs=1e-6)
    assert report["by_binary"] == pytest.approx([2, -2], abs=1e-2)
    reader.picture("valley_and_bowl_trained")


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

    def shows(report: dict[str, Any]) -> None:
        """The page shows the report's cell: its scores and what both losses make of it."""
        state = report["state"]
        stride, row, column = state["cell"]
        head = f"{state['protocol']} at stride {stride}, row {row}, column {column}"
        assert place.locator(".place").inner_text() == head
        *classes, means, overlaps = [
            row.locator("th, td").all_inner_texts()
            for row in place.locator(".scores tbody tr").all()
        ]
        for name, *texts in classes:
            assert numbers(texts) == pytest.approx(report["scores"][name], abs=2e-3)
        assert numbers(means[1:]) == pytest.approx(report["means"], abs=1e-2)
        assert numbers(overlaps[1:]) == pytest.approx(report["overlaps"], abs=1e-2)
        losses, *classes, _ = [
            row.locator("th, td").all_inner_texts()
            for row in place.locator(".pulls tbody tr").all()
        ]
        assert numbers(losses[1:]) == pytest.approx(report["losses"], abs=2e-3)
        for name, *texts in classes:
            steps = [{"↑": 1, "↓": -1, "·": 0}[text[0]] * float(text[2:]) for text in texts]
            assert steps == pytest.approx(report["steps"][name], abs=2e-3)

    first = reader.agreed(shows, kind="score", protocol="sigmoid", preset="background")
    cell = first["state"]["cell"]
    place.get_by_role("button", name="flip to softmax").click()
    reader.agreed(shows, protocol="softmax", cell=cell, preset="softmax")
    place.locator(".word", has_text="differences").click()
    reader.agreed(shows, kind="difference", protocol="softmax", cell=cell)
    reader.picture("score_maps")

    scale = place.locator(".map-frame").nth(3).bounding_box()["width"] / 128
    menus = place.locator("select")
    menus.nth(1).select_option(label="stride 16")
    menus.nth(0).select_option(label="circle")
    place.locator(".map-frame").nth(3).click(position={"x": 66 * scale, "y": 70 * scale})
    reader.agreed(shows, cell=[16, 4, 4], class_name="circle", stride=16)

    stage.focus()
    press_shortcuts(reader)
    for key in ("ArrowRight", "ArrowDown", "ArrowDown", "ArrowLeft", "ArrowUp", "s"):
        page.keyboard.press(key)
    reader.agreed(shows, cell=[16, 5, 4], protocol="sigmoid")

    reader.execute(
        "explorer().choose(kind='pull', protocol='softmax', class_name=None, stride=None,"
        " cell=(8, 3, 5))"
    )
    reader.agreed(shows, kind="pull", cell=[8, 3, 5])
    pressed = place.locator(".word[aria-pressed=true]").all_inner_texts()
    assert {"softmax", "the pull of a loss"} <= set(pressed)
    reader.picture("score_maps_pull")


def test_training_replay(reader: Reader, chart_brightness: Callable) -> None:
    place = reader.open_and_run(REPLAY)
    page = reader.page

    def shows(report: dict[str, Any]) -> None:
        """The page shows the step, the rightly named objects and the values of the curves."""
        assert place.locator(".steps output").inner_text() == f"step {report['state']['step']}"
        texts = place.locator(".values > span").all_inner_texts()[1:]
        found = {text.split()[0]: int(text.split()[1]) for text in texts}
        assert found == report["named"]
        teacher, *ours = place.locator(".chart").last.locator("output").all_inner_texts()
        assert teacher == "0.63"
        assert numbers(ours) == pytest.approx(report["precision"], abs=6e-3)

    steps = reader.agreed(shows, step=400)["steps"]
    slider = place.get_by_label("frame")
    width = slider.bounding_box()["width"]
    slider.click(position={"x": 0.5 * width, "y": 8})
    reader.agreed(shows, step=steps[len(steps) // 2])
    drag(page, slider, right=width)
    reader.agreed(shows, step=steps[-1])

    slider.focus()
    press_shortcuts(reader)
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("d")
    reader.agreed(shows, step=steps[-3], kind="difference")
    button = place.get_by_role("button", name="play")
    button.click()
    place.locator(".steps output", has_text=f"step {steps[-1]}").wait_for()
    button.wait_for()  # it has stopped
    reader.agreed(shows, step=steps[-1])
    place.locator("[data-preset=phase-2]").click()
    place.locator(".word", has_text="0.5").click()
    reader.agreed(shows, step=200, threshold=0.5)
    reader.execute("explorer().choose(step=600, threshold=0.3, kind='score')")
    reader.agreed(shows, step=600, kind="score")

    for theme in ("Dark", "Light"):
        reader.choose_theme(f"JupyterLab {theme}")
        ink, paper = chart_brightness(place)
        assert (ink - paper if theme == "Dark" else paper - ink) > 100
        reader.picture(f"replay_{theme.lower()}")


def test_live_lab(reader: Reader) -> None:
    """Its workers start here too; the kernel hears of each change and of what the page found."""
    place = reader.open_and_run(LIVE)

    def shows(report: dict[str, Any]) -> None:
        """The page has judged the kernel's scene, and says of it what the kernel was told."""
        assert place.get_attribute("aria-busy") == "false"
        shown = report["state"]["shown"]
        assert shown is not None and shown["objects"] == len(report["labels"])
        for role in ("teacher", "none", "softmax", "BCKD"):
            texts = place.locator(f"[data-role={role}] output").all_inner_texts()
            gap = "" if role == "teacher" else f"gap {shown[role]['gap']:.4f}"
            assert texts == [f"{shown[role]['found']} of {shown['objects']}", gap]

    report = reader.agreed(shows, scene="validation picture 1", preset="ordinary")
    assert report["labels"] == [0, 1, 0, 0, 0]
    place.locator(".handle").last.focus()
    press_shortcuts(reader)
    reader.page.keyboard.press("Delete")
    assert reader.agreed(shows, selected=9)["labels"] == [0, 1, 0, 0], "the next one has the focus"
    place.get_by_role("button", name="nothing there").click()
    assert reader.agreed(shows, preset="empty", reading="softmax")["labels"] == []
    reader.picture("live_lab")
    place.locator(".more").evaluate("(controls) => controls.scrollIntoView({ block: 'end' })")
    place.locator(".tiles").evaluate("(maps) => maps.scrollIntoView({ block: 'start' })")
    board, maps = (place.locator(name).bounding_box() for name in (".sticky", ".tiles"))
    assert board["y"] + board["height"] > maps["y"], "the line of numbers stays in view"
