"""A tiny study with real processes: resumed, complete, and repeatable."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bckd.image_size import ImageSize
from bckd.models.detector import Detector
from bckd.recipes import Recipe
from bckd.recipes.presets import PRESETS
from bckd.studies import runner
from bckd.studies.cells import published_changes, run_cell
from bckd.studies.methods import methods
from bckd.studies.options import StudyOptions
from bckd.studies.runner import chosen_scales, run_study
from bckd.studies.study import Cell, Study, changed
from bckd.system.errors import InputError
from bckd.system.files import one_maker
from bckd.training.run_log import append_line, read_lines
from bckd.zoo.checkpoints import save_detector


@pytest.fixture
def study(tmp_path: Path, scenes_root: Path, tiny_detector: Callable[..., Detector]) -> Study:
    teacher = tmp_path / "teacher.safetensors"
    save_detector(teacher, tiny_detector(width=8, channels=16), ImageSize(128, 128), {})
    base = PRESETS["scenes"][1]
    return Study(
        "tiny",
        "a title",
        replace(base, data=replace(base.data, root=scenes_root), steps=1, log_every=1),
        teacher,
        tuple(methods(6)[name] for name in ("none", "BCKD")),
        seeds=(0,),
        scales=(1.0, 2.0),
        sweep_seeds=(100,),
    )


@pytest.fixture
def options(tmp_path: Path) -> StudyOptions:
    return StudyOptions(results=tmp_path / "results", out=tmp_path / "runs", processes=1)


def sweep_line(scale: float, ap: float | None) -> dict[str, Any]:
    return {"part": "sweep", "method": "BCKD", "scale": scale, "seed": 100, "AP": ap}


class TestCell:
    def test_a_line_says_how_to_repeat_its_run(self, study: Study, tmp_path: Path) -> None:
        line = run_cell(study, Cell("comparison", "BCKD", 2.0, 0), tmp_path)
        recipe = changed(PRESETS[line["preset"]][1], line["changes"])
        expected = replace(study.base.weights, binary=2.0, iou=8.0)
        assert isinstance(recipe, Recipe)
        assert (recipe.weights, recipe.data, recipe.steps) == (expected, study.base.data, 1)
        assert recipe.teacher == study.teacher
        assert (line["study"], line["method"], line["scale"], line["seed"]) == (
            "tiny",
            "BCKD",
            2.0,
            0,
        )
        assert {"seconds", "machine", "versions", "date"} <= set(line)

    def test_a_line_of_the_comparison_is_measured_in_full(
        self, study: Study, tmp_path: Path
    ) -> None:
        line = run_cell(study, Cell("comparison", "BCKD", 1.0, 0), tmp_path)
        measured = {"AP", "per_class", "score_error", "shift_spread", "class_agreement", "tide"}
        assert measured | {"calibration_error", "f1", "best_f1", "reliability"} <= set(line)
        (record,) = line["gradients"]
        assert record["step"] == 0
        assert {"qfl", "binary"} == set(record["gradients"])
        assert record["gradients"]["binary"]["background"] > 0
        assert {"qfl", "dfl", "giou", "binary", "iou"} == set(record["pull"])
        assert sum(record["pull"].values()) == pytest.approx(1, abs=1e-3)

    def test_a_run_that_diverges_is_a_line_too(self, study: Study, tmp_path: Path) -> None:
        fast = replace(study.base.optimisation, learning_rate=1e30, warmup_steps=0)
        study = replace(study, base=replace(study.base, steps=3, optimisation=fast))
        line = run_cell(study, Cell("sweep", "BCKD", 1.0, 0), tmp_path)
        assert line["AP"] is None
        assert "not finite" in line["failed"]


class TestStudy:
    def test_it_runs_what_is_missing(
        self, study: Study, options: StudyOptions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lines = run_study(study, options)
        cells = {(x["part"], x["method"], x["scale"], x["seed"]) for x in lines}
        swept = [x for x in lines if (x["part"], x["method"]) == ("sweep", "BCKD")]
        best = max((x["AP"], -x["scale"]) for x in swept)[1]
        assert cells == {
            ("sweep", "BCKD", 1.0, 100),
            ("sweep", "BCKD", 2.0, 100),
            ("sweep", "none", 1.0, 100),
            ("comparison", "none", 1.0, 0),
            ("comparison", "BCKD", -best, 0),
        }
        path = options.results / "tiny.jsonl"
        first, *rest = path.read_text().splitlines(keepends=True)
        path.write_text("".join(rest) + first[:20])  # one line lost, cut by a kill
        again = run_study(study, options)
        same = {json.dumps({**x, "seconds": 0}) for x in lines}
        assert {json.dumps({**x, "seconds": 0}) for x in again} == same

        before = path.read_bytes()
        monkeypatch.setattr(runner, "run_cell", None)  # there is nothing left to run
        run_study(study, options)
        assert path.read_bytes() == before

    def test_a_best_scale_at_the_edge_runs_on_more_seeds(
        self, study: Study, options: StudyOptions
    ) -> None:
        options.results.mkdir()
        path = options.results / "tiny.jsonl"
        none = Cell("sweep", "none", 1.0, 100)
        known = [
            {**sweep_line(scale, ap), "changes": changes} for scale, ap, changes in swept(study)
        ]
        known.append({**vars(none), "AP": 0.1, "changes": published_changes(study, none)})
        path.write_text("".join(json.dumps(x) + "\n" for x in known))
        lines = run_study(replace(study, edge_seeds=(101,)), replace(options, methods=("BCKD",)))
        added = [(x["part"], x["scale"], x["seed"]) for x in lines[len(known) :]]
        assert sorted(added[:2]) == [("sweep", 1.0, 101), ("sweep", 2.0, 101)]
        assert [(part, seed) for part, _, seed in added[2:]] == [("comparison", 0)]

    def test_below_a_best_scale_at_the_lower_edge_smaller_ones_run(
        self, study: Study, options: StudyOptions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        APs = {1.0: 0.3, 2.0: 0.2, 0.5: 0.4, 0.25: 0.1}
        ran: list[Cell] = []

        def append(jobs: list[runner.Job], path: Path, *_: object) -> None:
            for _, study, cell, _ in jobs:
                changes = published_changes(study, cell)
                append_line(path, {**vars(cell), "AP": APs[cell.scale], "changes": changes})
                ran.append(cell)

        monkeypatch.setattr(runner, "_append_results", append)
        study = replace(study, scales_below=(0.5, 0.25, 0.125))
        lines = run_study(study, replace(options, methods=("BCKD",)))
        swept = [("sweep", scale) for scale in (1.0, 2.0, 0.5, 0.25)]
        assert [(x.part, x.scale) for x in ran] == [*swept, ("comparison", 0.5)]
        assert len(lines) == len(ran)

    def test_other_seeds_go_to_a_file_of_their_own(
        self, study: Study, options: StudyOptions, tmp_path: Path
    ) -> None:
        options.results.mkdir()
        text = "".join(
            json.dumps({**sweep_line(scale, ap), "changes": changes}) + "\n"
            for scale, ap, changes in swept(study)
        )
        (options.results / "tiny.jsonl").write_text(text)
        extra = tmp_path / "extra.jsonl"
        options = replace(options, seeds=(9,), methods=("BCKD",), extra=extra)
        (line,) = run_study(study, options)
        assert (line["method"], line["seed"], line["scale"]) == ("BCKD", 9, 2.0)
        assert (options.results / "tiny.jsonl").read_text() == text
        assert read_lines(extra) == [line]

    def test_lines_of_another_configuration_are_refused(
        self, study: Study, options: StudyOptions
    ) -> None:
        options.results.mkdir()
        line = {**sweep_line(1.0, 0.3), "changes": {"steps": 5}}
        (options.results / "tiny.jsonl").write_text(json.dumps(line) + "\n")
        with pytest.raises(InputError, match=r"another configuration \(.*\bsteps\b"):
            run_study(study, options)

    def test_lines_that_hold_no_run_stay_in_the_file(
        self, study: Study, options: StudyOptions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = options.results / "tiny.jsonl"
        path.parent.mkdir()
        run = {"part": "other", "method": "none", "scale": 1, "seed": 0}
        changes = runner.published_changes(study, runner.Cell(**run))
        mine = json.dumps({**run, "changes": changes})
        path.write_text(f"{mine}\nnot mine\n{{cut")
        monkeypatch.setattr(runner, "run_cell", None)  # so that the first run fails
        with pytest.raises(TypeError):
            run_study(study, options)
        assert path.read_text() == f"{mine}\nnot mine\n"

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"processes": 0}, "processes is 0; expected 1 or more"),
            ({"methods": ("BCKD", "FGD")}, "no method 'FGD'"),
            ({"methods": ("BCKD", "BCKD")}, "--methods has BCKD twice"),
            ({"seeds": (0, 0)}, "--seeds has 0 twice"),
            ({"seeds": (100,), "extra": Path("x")}, "100, a seed of the sweep"),
            ({"seeds": (101,), "extra": Path("x")}, "101, a seed of the sweep"),
            ({"seeds": (7,)}, "--seeds has 7, not published"),
            ({"swaps": True, "extra": Path("x")}, "leave out --extra"),
            ({"device": "cuda:99"}, "device 'cuda:99' is not available on this machine"),
        ],
    )
    def test_refusals(
        self, study: Study, options: StudyOptions, changes: dict[str, Any], message: str
    ) -> None:
        study = replace(study, edge_seeds=(101,))
        with pytest.raises(InputError, match=message):
            run_study(study, replace(options, **changes))

    def test_results_have_one_writer(self, study: Study, options: StudyOptions) -> None:
        with one_maker(options.results / "tiny.jsonl"):
            with pytest.raises(InputError, match=r"tiny\.jsonl is in use"):
                run_study(study, options)
        assert not options.results.exists() and not options.out.exists()

    @pytest.mark.parametrize("name", ["results", "extra"])
    def test_a_place_that_can_not_be_written_is_told_before_the_work(
        self, study: Study, options: StudyOptions, tmp_path: Path, name: str
    ) -> None:
        (tmp_path / "file").touch()
        options = replace(options, **{name: tmp_path / "file" / "x.jsonl"})
        with pytest.raises(InputError, match="x.jsonl.* can't be written: "):
            run_study(study, options)
        assert not options.out.exists()

    @pytest.mark.parametrize("name", ["results", "extra"])
    def test_what_holds_something_else_is_not_written_to(
        self, study: Study, options: StudyOptions, tmp_path: Path, name: str
    ) -> None:
        file = tmp_path / "notes" / "tiny.jsonl"
        file.parent.mkdir()
        file.write_text("notes of mine\n")
        options = replace(options, **{name: file.parent if name == "results" else file})
        with pytest.raises(InputError, match="tiny.jsonl holds no results of a study"):
            run_study(study, options)
        assert file.read_text() == "notes of mine\n" and not options.out.exists()

    def test_a_garbled_line_is_left_out_and_told(
        self, study: Study, options: StudyOptions, capsys: pytest.CaptureFixture[str]
    ) -> None:
        options.results.mkdir()
        path = options.results / "tiny.jsonl"
        path.write_bytes(b'{"part": "sweep"}\n')
        assert chosen_scales(replace(study, methods=study.methods[:1]), path.parent, ["none"])
        assert "lines that hold no record are left out (1): line 1" in capsys.readouterr().out

    def test_scenes_beside_a_root_that_is_a_link_are_where_training_looks(
        self, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "elsewhere" / "scenes").mkdir(parents=True)
        (tmp_path / "data").mkdir()
        root = tmp_path / "data" / "scenes"
        root.symlink_to(tmp_path / "elsewhere" / "scenes")
        drawn: list[Path] = []
        monkeypatch.setattr(runner, "SCENES", {root: {}, tmp_path / "data" / "more": {}})
        monkeypatch.setattr(runner, "write_scenes", lambda place, **_: drawn.append(place))
        data = replace(study.base.data, root=root, val_images="../more/val")
        runner._prepare_data(replace(study, base=replace(study.base, data=data)))
        assert [place.resolve() for place in drawn] == [
            (tmp_path / "elsewhere" / name).resolve() for name in ("scenes", "more")
        ]

    def test_data_that_are_not_there(self, study: Study, options: StudyOptions) -> None:
        base = replace(study.base, data=replace(study.base.data, root=Path("nowhere")))
        with pytest.raises(InputError, match="data set in nowhere"):
            run_study(replace(study, base=base), options)


class TestScales:
    def test_the_best_of_the_sweep(self, study: Study, tmp_path: Path) -> None:
        lines = [sweep_line(1.0, 0.2), sweep_line(2.0, 0.3)]
        (tmp_path / "tiny.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
        assert chosen_scales(study, tmp_path, ["none", "BCKD"]) == {"none": 1.0, "BCKD": 2.0}

    def test_a_diverging_scale_is_not_chosen(self, study: Study, tmp_path: Path) -> None:
        lines = [sweep_line(1.0, 0.1), sweep_line(2.0, None)]
        (tmp_path / "tiny.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
        assert chosen_scales(study, tmp_path, ["BCKD"]) == {"BCKD": 1.0}

    def test_more_seeds_at_the_edge_decide(self, study: Study, tmp_path: Path) -> None:
        study = replace(study, edge_seeds=(101,))
        path = tmp_path / "tiny.jsonl"
        lines = [sweep_line(1.0, 0.2), sweep_line(2.0, 0.3)]
        lines.append({**sweep_line(1.0, 0.4), "seed": 101})
        path.write_text("".join(json.dumps(x) + "\n" for x in lines))
        with pytest.raises(InputError, match="whole sweep of tiny"):
            chosen_scales(study, tmp_path, ["BCKD"])
        lines.append({**sweep_line(2.0, 0.1), "seed": 101})
        path.write_text("".join(json.dumps(x) + "\n" for x in lines))
        assert chosen_scales(study, tmp_path, ["BCKD"]) == {"BCKD": 1.0}

    def test_a_sweep_that_was_not_run(self, study: Study, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="needs the whole sweep of base"):
            chosen_scales(replace(study, scales_from="base"), tmp_path, ["BCKD"])

    def test_half_a_sweep_chooses_nothing(self, study: Study, tmp_path: Path) -> None:
        (tmp_path / "tiny.jsonl").write_text(json.dumps(sweep_line(1.0, 0.2)) + "\n")
        with pytest.raises(InputError, match="whole sweep of tiny"):
            chosen_scales(study, tmp_path, ["BCKD"])


def test_an_error_stops_the_study(
    study: Study, options: StudyOptions, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The first run fails, here for want of its data; the others of the queue do not start."""
    data = replace(study.base.data, train_images="nowhere")
    seeds = tuple(range(50))
    study = replace(study, base=replace(study.base, data=data), methods=study.methods[:1])
    with pytest.raises(InputError, match="nowhere"):
        run_study(replace(study, seeds=seeds), options)
    assert read_lines(options.results / "tiny.jsonl") == []


def swept(study: Study) -> list[tuple[float, float, dict[str, Any]]]:
    """Scale, AP and changes of the tiny study's sweep."""
    return [
        (scale, ap, published_changes(study, Cell("sweep", "BCKD", scale, 100)))
        for scale, ap in ((1.0, 0.2), (2.0, 0.3))
    ]


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_process_that_is_ended_is_one_sentence(tmp_path: Path) -> None:
    """It does no further work."""
    with pytest.raises(InputError, match="a process of the study was ended from outside"):
        with runner._workers(1, 1) as pool:
            pool.submit(runner._alone, interrupted).result()
