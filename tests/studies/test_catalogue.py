"""The published results: complete, fair, and what the catalogue declares."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from bckd.recipes import PRESETS
from bckd.run_log import read_lines
from bckd.studies.catalogue import MODELS, STUDIES
from bckd.studies.runner import StudyOptions, chosen_scales
from bckd.studies.study import Cell, Study, differences, recipe_of

OPTIONS = StudyOptions()
ROOT = Path(__file__).parents[2]
RESULTS = ROOT / OPTIONS.results
UNPUBLISHED = ("out", "device", "log_gradients", "seed")


@pytest.fixture(params=STUDIES.values(), ids=list(STUDIES))
def study(request: pytest.FixtureRequest) -> Study:
    return request.param


def test_names_of_methods_are_unique(study: Study) -> None:
    names = [method.name for method in study.methods]
    assert len(set(names)) == len(names)


def test_models_are_declared(study: Study) -> None:
    assert study.models() <= set(MODELS)


def test_shared_runs_are_those_of_base(study: Study) -> None:
    """What a study does not repeat has the data, teacher and schedule of "base"."""
    if study.shared:
        base = STUDIES["base"]
        assert set(study.seeds) <= set(base.seeds)
        assert (study.base, study.start) == (base.base, base.start)
        distilled = set(study.shared) - {"none"}
        assert not distilled or study.teacher == base.teacher


def test_results_are_complete(study: Study) -> None:
    lines = read_lines(RESULTS / f"{study.name}.jsonl")
    scales = chosen_scales(study, RESULTS, [method.name for method in study.methods])
    cells = list(study.sweep()) + [
        Cell("comparison", name, scale, seed)
        for name, scale in scales.items()
        for seed in study.seeds
    ]
    found = Counter((x["part"], x["method"], x["scale"], x["seed"]) for x in lines)
    assert found == Counter((c.part, c.method, c.scale, c.seed) for c in cells)


def test_every_line_is_the_catalogues_run(study: Study) -> None:
    """`changes` are what the command line needs to repeat the run, and no more."""
    for line in read_lines(RESULTS / f"{study.name}.jsonl"):
        cell = Cell(line["part"], line["method"], line["scale"], line["seed"])
        changes = differences(recipe_of(study, cell, OPTIONS.out), PRESETS["scenes"][1])
        expected = {name: value for name, value in changes.items() if name not in UNPUBLISHED}
        assert line["changes"] == json.loads(json.dumps(expected)), cell
        assert {"versions", "machine", "date", "seconds"} <= set(line)
