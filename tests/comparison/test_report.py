"""A report on tiny detectors: its numbers, its page, and the data that all are run over."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch

from bckd.commands.main import run as command
from bckd.comparison import measured as measuring
from bckd.comparison.report import Report, report, report_on
from bckd.comparison.subjects import data_of, names_of
from bckd.datasets.scene_drawing import class_names
from bckd.image_size import ImageSize
from bckd.models.detector import Detector
from bckd.recipes import DataConfig, EvaluationConfig, Recipe
from bckd.reports.findings import Findings
from bckd.system.errors import InputError
from bckd.system.files import read_json, write_json
from bckd.system.values import to_plain
from bckd.training.evaluating import evaluate_saved
from bckd.zoo.checkpoints import save_detector

NAMES = class_names("standard")
SIZE = ImageSize(64, 64)
EVALUATION = EvaluationConfig()


def awake(detector: Detector) -> Detector:
    """Random weights that score above their prior, so that there is something to judge."""
    with torch.no_grad():
        detector.head.cls.bias += 2.0
        detector.head.cls.weight *= 20.0
    return detector


@pytest.fixture(scope="module")
def data(scenes_root: Path) -> DataConfig:
    return DataConfig(
        root=scenes_root,
        train_images="train",
        train_annotations="annotations/instances_train.json",
        val_images="val",
        val_annotations="annotations/instances_val.json",
        size=SIZE,
        workers=0,
    )


@pytest.fixture(scope="module")
def runs(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_detector: Callable[..., Detector],
    data: DataConfig,
) -> list[Path]:
    """Two runs of other steps; the second one's classes stand in another order."""
    folder, paths = tmp_path_factory.mktemp("runs"), []
    for seed, (name, names) in enumerate({"first": NAMES, "second <b>": NAMES[::-1]}.items()):
        out = folder / name
        out.mkdir()
        detector = awake(tiny_detector(names, seed=seed))
        save_detector(out / "student.safetensors", detector, SIZE, {"seed": seed, "AP": 0.1})
        recipe = Recipe(model=detector.config, data=data, out=out, steps=40, seed=seed)
        write_json(out / "recipe.json", to_plain(recipe))
        lines = [
            {"step": step, "loss": 1.0, "unweighted": {"qfl": 0.1 * step, "mine": None}}
            for step in (19, 39)
        ]
        lines.append({"step": 40, "metrics": {"AP": 0.1}})
        (out / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        paths.append(out)
    return paths


@pytest.fixture(scope="module")
def found(runs: list[Path]) -> Report:
    return report_on(runs, data_of(runs), "cpu", EVALUATION, resamplings=20, progress=False)


class Tags(HTMLParser):
    """What a page opens and closes, what it refers to, and its pictures' descriptions."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.alternatives: list[str] = []
        self.tables = 0
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.addresses += [values[key] or "" for key in ("src", "href") if key in values]
        if tag == "img":
            self.alternatives.append(values["alt"] or "")
        if tag == "svg":
            assert values["role"] == "img" and values["aria-label"]
        if tag == "table":
            self.tables += 1
            assert self.open[-1] == "div", "a table scrolls in a box of its own"
        if tag not in ("meta", "img", "line", "polyline", "circle", "rect", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("line", "polyline", "circle", "rect"):
            assert self.open.pop() == tag


def test_its_numbers_are_those_of_eval(found: Report, runs: list[Path], data: DataConfig) -> None:
    for path, one in zip(runs, found.findings.detectors, strict=True):
        metrics = asdict(evaluate_saved(path, data, "cpu", progress=False))
        per_class = metrics.pop("per_class")
        for name, value in metrics.items():
            known = one.measures[name].value
            assert known == (pytest.approx(value, abs=1e-12) if value == value else None)
        ours = {name: x.value for name, x in one.per_class.items()}
        expected = {name: x if x == x else None for name, x in per_class.items()}
        assert ours == pytest.approx(expected, abs=1e-12)


def test_a_page_is_whole_and_needs_nothing_else(found: Report) -> None:
    text = found.page()
    tags = Tags(text)
    assert tags.open == [] and tags.tables >= 8
    assert all(x.startswith("data:image/jpeg;base64,") for x in tags.addresses)
    assert tags.alternatives and all(tags.alternatives)
    assert not re.search(r"https?://|url\(|@import|<script|<b>second|second <b>", text)
    for heading in (
        "Average precision",
        "Differences",
        "What they cost",
        "Classes",
        "Precision over recall",
        "Best thresholds",
        "Confusion",
        "Errors",
        "Truth beside detections",
        "Score maps",
        "Worst images of first",
        "Most different: first and second &lt;b&gt;",
        "Training",
        "How they were made",
    ):
        assert f"<h2>{heading}</h2>" in text, heading


def test_recipes_differ_in_the_seed_and_the_folder_alone(found: Report) -> None:
    text = found.page()
    differing = text[text.index("Settings in which they differ") : text.index("settings</summary>")]
    rows = re.findall(r"<tr><td>([^<]*)</td>", differing)
    assert rows == ["out", "seed"]


def test_numbers_as_json_make_the_same_page(found: Report, tmp_path: Path) -> None:
    found.write(tmp_path)
    content = read_json(tmp_path / "report.json")
    again = Report(Findings.from_json(content), found.galleries)
    assert again.findings == found.findings
    assert again.page() == (tmp_path / "report.html").read_text(encoding="utf-8")
    assert content["differences"][0]["second"] == "second <b>"
    assert content["detectors"][0]["made"]["trained"]["terms"]["qfl"][0] == [19.0, 39.0]


def test_a_detector_and_its_copy_differ_by_nothing(
    runs: list[Path], data: DataConfig, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes((runs[0] / "student.safetensors").read_bytes())
    pair = [runs[0], copy]
    (gap,) = report_on(pair, data_of(pair), "cpu", EVALUATION, 10, False).findings.differences
    assert {(x.value, x.low, x.high) for x in gap.measures.values()} <= {(0, 0, 0), (None,) * 3}
    assert gap.images == []


def test_each_detector_is_run_over_the_images_once(
    runs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    detect = measuring.detect

    def counted(detector: Any, loader: Any, *rest: Any) -> Any:
        asked.append(len(loader.dataset))
        return detect(detector, loader, *rest)

    monkeypatch.setattr(measuring, "detect", counted)
    report_on(runs, data_of(runs), "cpu", EVALUATION, resamplings=2, progress=False)
    assert asked == [8, 8]


def write_data(root: Path, names: tuple[str, ...], boxes: list[tuple[int, int]]) -> DataConfig:
    """Two images of nothing much, with (image, class) boxes."""
    from PIL import Image

    (root / "val").mkdir(parents=True)
    for n in (1, 2):
        Image.new("RGB", (64, 64), (90, 120 * (n - 1), 30)).save(root / "val" / f"{n}.png")
    content = {
        "images": [{"id": n, "file_name": f"{n}.png", "width": 64, "height": 64} for n in (1, 2)],
        "categories": [{"id": n, "name": name} for n, name in enumerate(names, 1)],
        "annotations": [
            {"id": n, "image_id": image, "category_id": key, "bbox": [8, 8, 40, 30]}
            for n, (image, key) in enumerate(boxes, 1)
        ],
    }
    write_json(root / "val.json", content)
    return DataConfig(root=root, val_images="val", val_annotations="val.json", size=SIZE, workers=0)


@pytest.mark.parametrize(
    ("names", "boxes"),
    [
        (("part",), [(1, 1), (2, 1)]),  # one class
        (("part", "rare"), [(1, 1)]),  # a class without boxes, an image without objects
        (("part", "rare"), []),  # nothing to find
        (tuple(f"class {n}" for n in range(80)), [(1, n) for n in range(1, 31)]),
    ],
)
@pytest.mark.parametrize("awake_or_not", [True, False])
def test_any_data_makes_a_page(
    tiny_detector: Callable[..., Detector],
    tmp_path: Path,
    names: tuple[str, ...],
    boxes: list[tuple[int, int]],
    awake_or_not: bool,
) -> None:
    """Also of a detector that finds nothing."""
    detector = tiny_detector(names)
    if awake_or_not:
        awake(detector)
    else:
        with torch.no_grad():
            detector.head.cls.bias -= 100
    path = tmp_path / "weights.safetensors"
    save_detector(path, detector, SIZE, {})
    data = write_data(tmp_path / "data", names, boxes)
    found = report_on([path], [data], "cpu", EVALUATION, resamplings=5, progress=False)
    (one,) = found.findings.detectors
    assert Tags(found.page()).open == []
    assert (one.measures["AP"].value is None) == (not boxes)
    assert (one.detections > 0) == awake_or_not
    if not awake_or_not:
        assert one.point.threshold is None
        assert one.confusion[0][-1] == sum(key == 1 for _, key in boxes)
        assert sum(map(sum, one.confusion)) == len(boxes)
    assert Findings.from_json(json.loads(json.dumps(found.findings.to_json()))) == found.findings


def test_runs_of_other_data_need_to_be_told_which(
    runs: list[Path], data: DataConfig, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "student.safetensors").write_bytes((runs[0] / "student.safetensors").read_bytes())
    elsewhere = replace(data, root=tmp_path)
    write_json(other / "recipe.json", to_plain(Recipe(data=elsewhere, out=other)))
    with pytest.raises(InputError, match=r"evaluated on other images .*--data\.root"):
        report(runs[0], other, device="cpu", progress=False)
    told = data_of([runs[0], other], lambda own: replace(own, root=data.root))
    assert [own.root for own in told] == [data.root, data.root]


def test_weights_in_no_run_take_the_runs_data_at_their_own_size(
    runs: list[Path], tiny_detector: Callable[..., Detector], data: DataConfig, tmp_path: Path
) -> None:
    path = tmp_path / "weights.safetensors"
    save_detector(path, tiny_detector(), ImageSize(32, 32), {})
    assert data_of([path, runs[0]]) == [replace(data, size=ImageSize(32, 32)), data]


def test_names_are_short_where_they_can_be(tmp_path: Path) -> None:
    for name in ("a/run", "b/run", "c"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "c" / "student.safetensors").touch()
    paths = [tmp_path / "a/run", tmp_path / "b/run", tmp_path / "c/student.safetensors"]
    assert names_of(paths) == [paths[0].as_posix(), paths[1].as_posix(), "c"]
    assert names_of([Path("nanodet_m"), Path("x/best.safetensors")]) == ["nanodet_m", "best"]
    with pytest.raises(InputError, match="named twice"):
        names_of([paths[0], paths[0]])


class TestCommand:
    def test_it_writes_the_page_and_its_numbers(
        self, runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("bckd.comparison.report.report_on.__defaults__", (5, False))
        out = tmp_path / "out"
        with redirect_stdout(StringIO()) as told:
            words = [*map(str, runs), "--out", str(out), "--device", "cpu", "--batch-size", "3"]
            command(["report", *words, "--data.first-val", "6"])
        assert {path.name for path in out.iterdir()} == {"report.html", "report.json"}
        assert read_json(out / "report.json")["data"]["images"] == 6
        assert "first" in told.getvalue() and "report.html" in told.getvalue()

    def test_a_runs_own_page_is_not_overwritten(self, runs: list[Path]) -> None:
        with pytest.raises(InputError, match="is the folder of a run"):
            command(["report", str(runs[0]), "--out", str(runs[0]), "--device", "cpu"])

    @pytest.mark.parametrize(
        ("words", "sentence"),
        [
            (["--out", "x"], "before its options"),
            (["nowhere"], "nowhere does not exist"),
        ],
    )
    def test_bad_words(self, words: list[str], sentence: str) -> None:
        with pytest.raises(InputError, match=sentence):
            command(["report", *words])
