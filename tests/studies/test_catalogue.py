"""The published results: complete, fair, and what the catalogue declares."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bckd.evaluation.error_analysis import TIDE_ERRORS
from bckd.recipes.presets import PRESETS
from bckd.studies.catalogue import AWAITED, GRIDS, MODELS, STUDIES
from bckd.studies.cells import PRESET, published_changes
from bckd.studies.fine import CANDIDATES, CONFIRMED, SEEDS, SWEEP_SEEDS
from bckd.studies.methods import LD_FACTORS, methods
from bckd.studies.options import StudyOptions
from bckd.studies.recipe_search import CHOSEN
from bckd.studies.runner import chosen_scales
from bckd.studies.statistics import ORDER, best_scale, summarise, values
from bckd.studies.study import Cell, Study
from bckd.studies.study_check import prepared
from bckd.studies.tables import TIDE
from bckd.system.values import to_plain
from bckd.training.run_log import read_lines

OPTIONS = StudyOptions()
ROOT = Path(__file__).parents[2]
RESULTS = ROOT / OPTIONS.results
HAVE_RUN = [study for name, study in STUDIES.items() if name not in AWAITED]
of_those_that_have_run = pytest.mark.parametrize("study", HAVE_RUN, ids=lambda study: study.name)


@pytest.fixture(params=STUDIES.values(), ids=list(STUDIES))
def study(request: pytest.FixtureRequest) -> Study:
    return request.param


def test_those_that_are_awaited_have_no_results() -> None:
    found = {path.stem for path in RESULTS.glob("*.jsonl")}
    assert not found & AWAITED
    assert {study.name for grid in GRIDS.values() for study in grid} <= set(STUDIES)
    assert not set(GRIDS) & set(STUDIES)


def test_names_of_methods_are_unique(study: Study) -> None:
    names = [method.name for method in study.methods]
    assert len(set(names)) == len(names)


def test_models_are_declared(study: Study) -> None:
    assert study.models([method.name for method in study.methods], study.seeds) <= set(MODELS)


def test_nothing_is_wrong_with_it(study: Study) -> None:
    assert prepared(study, OPTIONS.out) == study


def test_shared_runs_are_those_of_base(study: Study) -> None:
    """What a study does not repeat has the data, teacher and schedule of the other one."""
    if study.shared:
        base = STUDIES[study.shared_from]
        assert set(study.seeds) <= set(base.seeds)
        assert (study.base, study.starts) == (base.base, base.starts)
        distilled = set(study.shared) - {"none"}
        assert not distilled or study.teacher == base.teacher


@of_those_that_have_run
def test_results_are_complete(study: Study) -> None:
    lines = read_lines(RESULTS / f"{study.name}.jsonl")
    scales = chosen_scales(study, RESULTS, [method.name for method in study.methods])
    edges = [
        cell
        for method in study.methods
        if study.edge_seeds and method.swept and method.distils
        for cell in (
            *study.sweep_at_edge(lines, method.name),
            *study.sweep_below(lines, method.name),
        )
    ]
    cells = [*study.sweep(), *edges] + [
        Cell("comparison", name, scale, seed)
        for name, scale in scales.items()
        for seed in study.seeds
    ]
    found = Counter((x["part"], x["method"], x["scale"], x["seed"]) for x in lines)
    assert found == Counter((c.part, c.method, c.scale, c.seed) for c in cells)


@of_those_that_have_run
def test_every_line_is_the_catalogues_run(study: Study) -> None:
    """`changes` are what the command line needs to repeat the run, and no more."""
    lines = read_lines(RESULTS / f"{study.name}.jsonl")
    assert lines
    for line in lines:
        cell = Cell(line["part"], line["method"], line["scale"], line["seed"])
        assert line["changes"] == published_changes(study, cell), cell
        assert {"versions", "machine", "date", "seconds"} <= set(line)


def test_the_preset_is_the_one_that_the_lines_refer_to() -> None:
    """`changes` of a line are changes to these values; fields that came later do not count."""

    def assert_holds(published: Any, today: Any, name: str) -> None:
        if isinstance(published, dict):
            for key, value in published.items():
                assert_holds(value, today[key], f"{name}.{key}")
        else:
            assert today == published, name

    published = json.loads((RESULTS / "scenes_preset.json").read_text(encoding="utf-8"))
    preset = PRESETS[PRESET][1]
    preset = replace(preset, model=preset.model.resolved())
    today = json.loads(json.dumps(to_plain(preset)))
    assert_holds(published, today, PRESET)


def test_no_choice_is_made_on_seeds_of_the_comparison(study: Study) -> None:
    source = STUDIES[study.scales_from] if study.scales_from else study
    models = {recipe.seed for name, recipe in MODELS.items() if name == "student"}
    assert set(study.seeds).isdisjoint({*source.sweep_seeds, *source.edge_seeds})
    assert set(study.seeds).isdisjoint(models)


@of_those_that_have_run
def test_no_best_factor_is_the_largest_tried(study: Study) -> None:
    """At the lower end of every sweep is no distillation: a weight of 0."""
    lines = read_lines(RESULTS / f"{study.name}.jsonl")
    source = study.shared_from if "none" in study.shared else study.name
    with_none = read_lines(RESULTS / f"{source}.jsonl")
    for method in study.methods:
        if study.scales and method.distils and method.swept:
            assert best_scale(lines, method.name) < max(study.scales), method.name
            assert "none" in {line["method"] for line in with_none if line["part"] == "sweep"}


def test_the_factors_of_ld_are_the_best_of_its_grid_and_inside_it() -> None:
    grid = STUDIES["ld"]
    lines = read_lines(RESULTS / "ld.jsonl")
    means = {m.name: summarise(values(lines, m.name).values()).mean for m in grid.methods}
    best = "LD, " + " : ".join(f"{factor:g}" for factor in LD_FACTORS)
    assert max(means, key=means.__getitem__) == best
    tried = [tuple(float(x) for x in name.removeprefix("LD, ").split(" : ")) for name in means]
    for place, factor in enumerate(LD_FACTORS):
        axis = sorted({pair[place] for pair in tried})
        assert axis[0] < factor < axis[-1]
    assert grid.seeds == STUDIES["base"].sweep_seeds, "on the seeds that the comparison has not"


def test_the_recipe_confirmed_is_the_best_of_the_search() -> None:
    search, confirm = STUDIES["recipe-search"], STUDIES["recipe-confirm"]
    lines = read_lines(RESULTS / "recipe-search.jsonl")
    means = {m.name: summarise(values(lines, m.name).values()).mean for m in search.methods}
    assert max(means, key=means.__getitem__) == CHOSEN.name
    assert CHOSEN in confirm.methods and CHOSEN in STUDIES["neu-det"].methods
    assert set(search.seeds).isdisjoint(confirm.seeds)


def test_what_is_confirmed_is_the_best_of_the_fine_search_at_the_best_factors() -> None:
    lines = {
        name: read_lines(RESULTS / f"{name}.jsonl") for name in ("fine", "fine-search", "fine-neu")
    }
    chosen, *others = CONFIRMED
    candidates = [method.name for method in CANDIDATES]

    def at_best(name: str) -> float:
        runs = lines["fine-search"]
        found = values(runs, name, part="sweep", scale=best_scale(runs, name))
        return sum(found[seed] for seed in SWEEP_SEEDS) / len(SWEEP_SEEDS)

    assert max(candidates, key=at_best) == chosen
    for name in CONFIRMED:
        if name != "none":
            source = "fine-search" if name in candidates else "fine"
            assert CONFIRMED[name] == pytest.approx(best_scale(lines[source], name)), name
    for study, source in (("fine-own-factors", "fine"), ("fine-neu-parts", "fine-neu")):
        (method,) = (x for x in STUDIES[study].methods if x.name.startswith("softmax, then"))
        for term, of in (("softmax", "softmax"), ("binary", "BCKD"), ("iou", "BCKD")):
            best = best_scale(lines[source], of) * STUDIES[source].method(of).weights[term]
            assert method.weights[term] == pytest.approx(best), (study, term)
    confirm = STUDIES["fine-confirm"]
    assert {"none", "BCKD", "softmax + L_loc"} <= {*others}
    assert {*confirm.starts[:4]} == {*STUDIES["fine"].starts[8:]}
    assert {STUDIES["fine"].start(seed) for seed in (*SEEDS, *SWEEP_SEEDS)}.isdisjoint(
        confirm.starts
    )


def test_one_order_of_methods() -> None:
    assert set(ORDER) == set(methods(6))
    assert tuple(TIDE) == TIDE_ERRORS
