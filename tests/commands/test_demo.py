"""The demo: three students, results and a report."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import fields, replace
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from bckd.commands import demo_students
from bckd.commands.demo_report import NAMES
from bckd.commands.demo_students import run_demo
from bckd.commands.options import DemoOptions
from bckd.datasets.scene_drawing import class_names
from bckd.evaluation.agreement import Agreement
from bckd.image_size import ImageSize
from bckd.models.detector import Detector
from bckd.system.errors import InputError
from bckd.system.files import one_writer
from bckd.system.telling import tell
from bckd.training import preparing
from bckd.training.run_log import read_log
from bckd.zoo.checkpoints import save_detector

METRICS = {"AP", "AP50", "AP75", "APs", "APm", "APl", "per_class"}


@pytest.fixture(scope="module")
def options(
    tmp_path_factory: pytest.TempPathFactory,
    default_scenes: Path,
    tiny_detector: Callable[..., Detector],
) -> DemoOptions:
    folder = tmp_path_factory.mktemp("demo")
    teacher = folder / "teacher.safetensors"
    save_detector(teacher, tiny_detector(width=8, channels=16), ImageSize(128, 128), {})
    return DemoOptions(
        out=folder / "out", root=default_scenes, teacher=teacher, steps=2, device="cpu"
    )


@pytest.fixture(scope="module")
def results(options: DemoOptions) -> dict[str, Any]:
    with redirect_stdout(StringIO()) as told, pytest.MonkeyPatch.context() as patch:
        patch.setattr(preparing, "tell_unlearnt", lambda *_: tell("one box is not learnt"))
        run_demo(options)
    (options.out / "told.txt").write_text(told.getvalue())
    return json.loads((options.out / "results.json").read_text())


class Page(HTMLParser):
    """The table's cells, the addresses the page refers to, and its pictures' descriptions."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.addresses: list[str] = []
        self.pictures: list[str] = []
        self.tags: set[str] = set()
        self.cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        values = dict(attributes)
        self.addresses += [values[key] for key in ("src", "href", "srcset") if key in values]
        if tag == "img":
            self.pictures.append(values["alt"])
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.cell = True

    def handle_endtag(self, tag: str) -> None:
        self.cell = self.cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self.cell:
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def text(options: DemoOptions, results: dict[str, Any]) -> str:
    return (options.out / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


class TestReport:
    def test_the_table_is_the_results(self, page: Page, results: dict[str, Any]) -> None:
        head, teacher, *rows = page.rows
        assert head[1:] == ["AP", "AP50", "AP75", "score error", "logit shift", "seconds"]

        def percent(run: dict[str, Any]) -> list[str]:
            return [f"{100 * run[name]:.1f}" for name in ("AP", "AP50", "AP75")]

        assert teacher == ["teacher", *percent(results["teacher"]), "", "", ""]
        for row, run in zip(rows, results["runs"], strict=True):
            assert row[0] == NAMES[run["method"]]
            assert row[1:4] == percent(run)
            assert row[4] == f"{run['score_error']:.4f}"
            assert row[5] == f"{run['logit_shift']:+.2f}"
            assert row[6] == f"{run['seconds']:.0f}"

    def test_it_needs_nothing_else(self, options: DemoOptions, text: str, page: Page) -> None:
        assert len(page.addresses) == 3
        assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
        assert not page.tags & {"script", "link", "iframe"}
        assert not re.search(r"https?://|url\(|@import", text)
        assert str(options.out) not in text and str(options.root) not in text

    def test_pictures_are_described(self, page: Page) -> None:
        assert len(page.pictures) == 3 and all(page.pictures)

    def test_numbers_in_prose_are_those_of_the_results(
        self, text: str, results: dict[str, Any]
    ) -> None:
        first = re.search(r"<p>(Three students.*?)</p>", text, flags=re.DOTALL).group(1)
        numbers = re.findall(r"\d+\.\d+", first)
        expected = [f"{100 * run['AP']:.1f}" for run in results["runs"]]
        expected += [f"{run['score_error']:.4f}" for run in results["runs"]]
        assert numbers == expected


def test_what_is_told_of_the_data_is_told_once(
    options: DemoOptions, results: dict[str, Any]
) -> None:
    """Not once for each of the three students."""
    assert (options.out / "told.txt").read_text().count("one box is not learnt") == 1


class TestResults:
    def test_schema(self, results: dict[str, Any]) -> None:
        assert set(results) == {"teacher", "runs"}
        assert set(results["teacher"]) == METRICS
        assert [run["method"] for run in results["runs"]] == ["none", "softmax", "BCKD"]
        for run in results["runs"]:
            further = {"method", "seed", "seconds", "steps", "weights"}
            assert set(run) == METRICS | further | {field.name for field in fields(Agreement)}
            assert (run["seed"], run["steps"]) == (0, 2)
            assert tuple(run["per_class"]) == class_names("standard")
            assert 0 < run["score_error"] < 1 and math.isfinite(run["logit_shift"])

    def test_every_student_has_its_own_terms(
        self, options: DemoOptions, results: dict[str, Any]
    ) -> None:
        terms = {
            run["method"]: set(read_log(options.out / run["method"])[0]["unweighted"])
            for run in results["runs"]
        }
        supervised = {"qfl", "dfl", "giou"}
        assert terms == {
            "none": supervised,
            "softmax": supervised | {"softmax"},
            "BCKD": supervised | {"binary", "iou"},
        }

    def test_again_it_trains_nothing(
        self, options: DemoOptions, results: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(demo_students, "report", lambda *_: "drawn already")
        logs = {path: path.read_bytes() for path in options.out.glob("*/log.jsonl")}
        assert len(logs) == 3
        assert [run["AP"] for run in run_demo(options)["runs"]] == [
            run["AP"] for run in results["runs"]
        ]
        assert {path: path.read_bytes() for path in logs} == logs


def test_a_teacher_that_is_not_there(default_scenes: Path, tmp_path: Path) -> None:
    options = DemoOptions(
        out=tmp_path / "out", root=default_scenes, teacher=tmp_path / "nothing.safetensors"
    )
    with pytest.raises(InputError, match="nothing.safetensors does not exist"):
        run_demo(options)
    assert not options.out.exists()


def test_its_folder_has_one_writer(options: DemoOptions, results: dict[str, Any]) -> None:
    with one_writer(options.out), pytest.raises(InputError, match=f"{options.out} is in use"):
        run_demo(options)


@pytest.mark.parametrize(("change", "words"), [({"steps": 0}, "steps is 0"), ({"seed": -1}, "-1")])
def test_bad_values_are_told_before_anything_is_done(
    options: DemoOptions, tmp_path: Path, change: dict[str, int], words: str
) -> None:
    options = replace(options, out=tmp_path / "out", root=tmp_path / "root", **change)
    with pytest.raises(InputError, match=words):
        run_demo(options)
    assert list(tmp_path.iterdir()) == []
