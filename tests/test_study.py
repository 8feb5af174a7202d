"""The study: its runs, its results file and its table."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from bckd import study
from bckd.checkpoints import save_detector
from bckd.datasets.coco import ImageSize
from bckd.files import finite_or_none
from bckd.models.detector import Detector
from bckd.recipes import comparison
from bckd.run_log import read_lines
from bckd.study import (
    SWEEP,
    SWEEP_SEEDS,
    Run,
    StudyOptions,
    best_weight,
    run_one,
    run_study,
    study_recipe,
    table,
)

BEST = SWEEP[1]


def line(part: str, method: str, seed: int, weight: float, ap: float) -> dict[str, Any]:
    return {
        "part": part,
        "method": method,
        "seed": seed,
        "weights": asdict(comparison(weight)[method]),
        "steps": 1,
        "AP": ap,
        "score_error": 0.0123,
        "logit_shift": -0.5,
    }


def sweep_lines() -> list[dict[str, Any]]:
    """A sweep whose best mean is that of BEST, though another weight has the best single run."""
    lines = []
    for weight in SWEEP:
        aps = (0.30, 0.31) if weight == BEST else (0.10, 0.40)
        rows = zip(SWEEP_SEEDS, aps, strict=True)
        lines += [line("sweep", "softmax", seed, weight, ap) for seed, ap in rows]
    return lines


def comparison_lines(seeds: int) -> list[dict[str, Any]]:
    return [
        line("comparison", method, seed, BEST, 0.2 + 0.01 * n + 0.001 * seed)
        for n, method in enumerate(comparison(BEST))
        for seed in reversed(range(seeds))
    ]


@pytest.fixture
def options(
    tmp_path: Path, default_scenes: Path, tiny_detector: Callable[..., Detector]
) -> StudyOptions:
    teacher = tmp_path / "teacher.safetensors"
    save_detector(teacher, tiny_detector(width=8, channels=16), ImageSize(128, 128), {})
    return StudyOptions(
        results=tmp_path / "results.jsonl",
        teacher=teacher,
        root=default_scenes,
        steps=1,
        seeds=1,
        processes=1,
        out=tmp_path / "runs",
    )


class TestMethods:
    def test_each_switches_on_its_own_terms(self) -> None:
        names = ("binary", "iou", "softmax")
        on = {
            method: {name for name in names if getattr(weights, name)}
            for method, weights in comparison(3.0).items()
        }
        assert on == {
            "none": set(),
            "softmax": {"softmax"},
            "L_cls": {"binary"},
            "L_loc": {"iou"},
            "BCKD": {"binary", "iou"},
            "softmax + L_loc": {"softmax", "iou"},
        }

    def test_a_recipe_has_a_teacher_where_it_distils(self, options: StudyOptions) -> None:
        outs = set()
        for method, weights in comparison(BEST).items():
            for seed in range(2):
                recipe = study_recipe(Run("comparison", method, seed, weights), options)
                assert recipe.teacher == (None if method == "none" else options.teacher)
                assert (recipe.seed, recipe.steps) == (seed, 1)
                assert recipe.weights == weights
                outs.add(recipe.out)
        assert len(outs) == 12 and {out.parent for out in outs} == {options.out}


class TestTable:
    def test_the_best_weight_has_the_highest_mean(self) -> None:
        assert best_weight(sweep_lines()) == BEST

    def test_every_method_with_mean_and_standard_error(self) -> None:
        text = table(sweep_lines() + comparison_lines(seeds=3))
        rows = {cells[1]: cells for cells in map(cells_of, text.splitlines()) if len(cells) > 2}
        for n, method in enumerate(comparison(BEST)):
            values = [100 * (0.2 + 0.01 * n + 0.001 * seed) for seed in range(3)]
            error = statistics.stdev(values) / 3**0.5
            assert rows[method][2] == f"{statistics.mean(values):.1f} +- {error:.1f}"
            assert rows[method][3] == ", ".join(f"{value:.1f}" for value in values)
            assert rows[method][4:6] == ["0.0123", "-0.50"]
        assert rows[f"{BEST:g}"][2:4] == ["30.5", "30.0, 31.0"]


def cells_of(row: str) -> list[str]:
    return [cell.strip() for cell in row.split("|")]


class TestRuns:
    def test_a_line_of_the_results(self, options: StudyOptions) -> None:
        run = Run("sweep", "softmax", SWEEP_SEEDS[0], comparison(BEST)["softmax"])
        found = run_one(run, options)
        assert found["weights"] == asdict(run.weights)
        keys = ("part", "method", "seed", "steps")
        assert [found[key] for key in keys] == ["sweep", "softmax", SWEEP_SEEDS[0], 1]
        assert {"AP", "AP50", "per_class", "score_error", "logit_shift"} <= set(found)
        assert {"seconds", "machine", "versions", "date"} <= set(found)
        assert (options.out / "sweep-softmax-0.75-seed100" / "student.safetensors").exists()
        written = finite_or_none(found)  # AP of large objects, of which there are none, is nan
        assert json.loads(json.dumps(written)) == written

    def test_only_what_is_missing_is_run(
        self,
        options: StudyOptions,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        there = sweep_lines() + comparison_lines(seeds=1)[1:-1]
        text = "".join(json.dumps(row) + "\n" for row in there)
        options.results.write_text(text + '{"part": "comparison", "meth')  # cut by a kill
        run_study(options)
        lines = read_lines(options.results)
        assert lines[: len(there)] == there
        assert {row["method"] for row in lines[len(there) :]} == {"none", "softmax + L_loc"}
        assert all(row["part"] == "comparison" for row in lines[len(there) :])
        assert {path.name for path in options.out.iterdir()} == {
            "comparison-none-0-seed0",
            f"comparison-softmax+L_loc-{BEST:g}-seed0",
        }
        printed = capsys.readouterr().out
        assert all(f"| {method} |" in printed for method in comparison(BEST))

        before = options.results.read_bytes()
        monkeypatch.setattr(study, "run_one", None)  # there is nothing left to run
        run_study(options)
        assert options.results.read_bytes() == before
        assert capsys.readouterr().out == printed
