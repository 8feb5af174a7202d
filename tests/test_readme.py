"""The pages in front of the package: tables that list what there is, commands, links, numbers."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import tomllib
from itertools import dropwhile
from pathlib import Path
from typing import get_args
from urllib.parse import unquote

import pytest

import bckd
from bckd.bench.options import BenchOptions
from bckd.commands.data import CocoOptions, Voc2007Options
from bckd.commands.data_check import CheckOptions
from bckd.commands.data_convert import ConvertOptions
from bckd.commands.data_label import LabelOptions
from bckd.commands.evaluate import EvalOptions
from bckd.commands.export import ExportCommand
from bckd.commands.main import COMMANDS
from bckd.commands.options import DemoOptions, ProtocolOptions
from bckd.commands.parsing import parse
from bckd.commands.predict import PredictOptions
from bckd.commands.report import ReportOptions
from bckd.commands.scenes import ScenesOptions
from bckd.commands.train import TrainOptions
from bckd.models.backbones import BACKBONES
from bckd.models.detector import HeadName
from bckd.recipes.presets import PRESETS
from bckd.studies.catalogue import STUDIES
from bckd.studies.options import StudyOptions
from bckd.weights.published import PRETRAINED, readme_table
from bckd.zoo.torchvision_detectors import TorchvisionName

ROOT = Path(__file__).parents[1]
NAMES = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "data/README.md",
    "data/weights/README.md",
    "notebooks/evidence.md",
    "notebooks/the_question.md",
    "notebooks/reference.md",
    "notebooks/coming_from_mmdetection.md",
    "notebooks/README.md",
    "notebooks/formulas.md",
    "notebooks/paper_companion.md",
    "notebooks/teaching.md",
)
PAGES = {name: (ROOT / name).read_text(encoding="utf-8") for name in NAMES}
OPTIONS = {
    "scenes": ScenesOptions,
    "data coco": CocoOptions,
    "data convert": ConvertOptions,
    "data label": LabelOptions,
    "data check": CheckOptions,
    "data voc2007": Voc2007Options,
    "export": ExportCommand,
    "protocols": ProtocolOptions,
    "demo": DemoOptions,
    "study": StudyOptions,
}


def rows_below(page: str, header: str) -> list[list[str]]:
    """The cells of the rows of the table that starts with this header."""
    lines = PAGES[page][PAGES[page].index(header) :].splitlines()[2:]
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def commands() -> list[tuple[str, str]]:
    """Page and words of every command line of ours, continued lines joined, comments cut."""
    found = []
    for name, text in PAGES.items():
        if name == "CONTRIBUTING.md":  # its commands are run by tests/test_contributing.py
            continue
        text = text.replace("\\\n", " ")
        lines = re.findall(r"^    (?:torchrun .*-m )?bckd (\S.*)$", text, re.MULTILINE)
        lines += re.findall(r"`bckd ([a-z]+ [^`]*--[^`]+)`", text)
        found += [(name, re.sub(r" #.*| --help", "", line).strip()) for line in lines]
    return found


def anchors(page: Path) -> set[str]:
    """The fragments that lead to a notebook's cells, or to the headings of a page on GitHub."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".ipynb":
        return {f"cell-id={cell['id']}" for cell in json.loads(text)["cells"]}
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


class TestTables:
    def test_every_family_has_a_row(self) -> None:
        first = [row[0] for row in rows_below("notebooks/reference.md", "| detector |")]
        assert [name.lower() for name in first[:4]] == list(get_args(HeadName))
        assert first[4:] == ["NanoDet-m", "torchvision's FCOS, RetinaNet, RetinaNet v2"]
        assert len(get_args(TorchvisionName)) == 3

    def test_every_backbone_has_a_row(self) -> None:
        rows = rows_below("notebooks/reference.md", "| backbone |")
        names = {name for row in rows for name in re.findall(r"`(\w+)`", row[1])}
        assert names <= set(BACKBONES)
        assert set(BACKBONES) - names == {"resnet34", "resnet50"}  # "resnet18 ... 101"

    def test_every_published_name_has_its_row(self) -> None:
        assert readme_table() in PAGES["data/README.md"]
        rows = rows_below("data/README.md", "| name | what | AP")
        assert [row[0].strip("`") for row in rows] == list(PRETRAINED)


class TestCommands:
    def test_there_are_some(self) -> None:
        named = {line.split()[0] for name, line in commands() if name == "README.md"}
        assert named >= {"train", "report", "predict", "export", "study", "detectors"}

    @pytest.mark.parametrize(("page", "line"), commands())
    def test_it_is_understood(self, page: str, line: str) -> None:
        """Each is parsed as the command line does it; nothing is run."""
        name, *words = shlex.split(line)
        assert name in COMMANDS
        if name == "data":
            name, words = f"data {words[0]}", words[1:]
            assert name in OPTIONS
        if name == "train" and words[0] != "PRESET":
            preset, *rest = words if words[0] in PRESETS else ["custom", *words]  # --like RUN
            options = parse(TrainOptions, rest, name, default=TrainOptions(PRESETS[preset][1]))
            teacher = options.recipe.teacher
            known = teacher is None or len(teacher.parts) > 1 or str(teacher) in PRETRAINED
            assert known, teacher
        elif name == "eval":
            parse(EvalOptions, words[1:], name)
        elif name == "predict":
            parse(PredictOptions, words[1:], name)
        elif name == "study" and words:
            assert words[0] in {*STUDIES, "NAME"}
            parse(StudyOptions, words[1:], name)
        elif name == "bench":
            parse(BenchOptions, [x for x in words if x not in PRESETS], name)
        elif name == "report":
            parse(ReportOptions, list(dropwhile(lambda word: word[0] != "-", words)), name)
        elif name == "export":
            parse(ExportCommand, words[1:], name)
        elif name in OPTIONS:
            parse(OPTIONS[name], words, name)

    def test_make_targets_are_there(self) -> None:
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        for text in PAGES.values():
            for target in re.findall(r"(?:^    |`)make ([a-z]+)", text, re.MULTILINE):
                assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    """To a file of the repository, and to a heading where one is named."""
    for target in re.findall(r"\]\(([^)\s]+)\)", PAGES[name]):
        if target.startswith("https://"):
            continue
        path, _, fragment = unquote(target).partition("#")
        place = (ROOT / name).parent / path if path else ROOT / name
        assert place.exists(), target
        if fragment:
            assert fragment in anchors(place), target


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("README.md", 6),
        ("notebooks/paper_companion.md", 10),
        ("notebooks/teaching.md", 2),
        ("notebooks/the_question.md", 10),
    ],
)
def test_numbers_are_the_published_ones(name: str, least: int) -> None:
    """Every interval stands in the evidence, behind the same mean."""
    intervals = r"(\d+\.\d)(?: AP)?\**\s(\[-?\d+\.\d, \d+\.\d\])"
    quoted = re.findall(intervals, PAGES[name])
    assert len(quoted) >= least
    assert set(quoted) <= set(re.findall(intervals, PAGES["notebooks/evidence.md"]))


def test_its_python_runs(
    default_scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it stands, but for the number of steps."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGES["README.md"], re.DOTALL)
    shutil.copytree(default_scenes, tmp_path / "data" / "scenes")
    (tmp_path / "data" / "weights").mkdir()
    weights = Path("data", "weights", "scenes_teacher.safetensors")
    shutil.copyfile(ROOT / weights, tmp_path / weights)
    monkeypatch.chdir(tmp_path)
    shortened = code.replace("steps=1200", "steps=2, teacher_check=0, batch_size=4")
    assert shortened != code
    exec(compile(shortened, "README.md", "exec"), {})
    assert (tmp_path / "runs" / "first" / "student.safetensors").is_file()
    assert (tmp_path / "runs" / "first" / "prediction.png").is_file()


def test_the_first_page_is_short() -> None:
    assert len(PAGES["README.md"].splitlines()) <= 130


def test_versions_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.+)$", citation, re.MULTILINE) == [bckd.__version__]
    assert f"## {bckd.__version__}" in PAGES["CHANGELOG.md"]
    workflow = (ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
    (pythons,) = re.findall(r"python: \[(.+)\]", workflow)
    oldest, below = re.findall(r"3\.\d+", project["requires-python"])
    assert pythons == f'"{oldest}", "3.{int(below[2:]) - 1}"'
