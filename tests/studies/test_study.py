"""What a study declares, and the recipe of each of its runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bckd.recipes.presets import PRESETS, SCENES_TEACHER
from bckd.studies.cells import published_changes
from bckd.studies.methods import LD_FACTORS, methods
from bckd.studies.study import (
    NO_DISTILLATION,
    Cell,
    Study,
    changed,
    changes_from,
    recipe_of,
    relocated,
    weights_of,
)
from bckd.system.errors import InputError

BASE = PRESETS["scenes"][1]


@pytest.fixture
def study() -> Study:
    return Study(
        "tiny",
        "a title",
        replace(BASE, steps=7),
        SCENES_TEACHER,
        tuple(methods(6).values()),
        seeds=(0, 1),
        scales=(0.5, 1.0, 2.0),
        sweep_seeds=(100, 101),
        starts=("student",),
    )


class TestSweep:
    def test_every_method_gets_the_same_number_of_runs(self, study: Study) -> None:
        counts: dict[str, int] = {}
        for cell in study.sweep():
            counts[cell.method] = counts.get(cell.method, 0) + 1
        # Of no distillation one a seed: where all weights end at 0. LD has a study of its own.
        swept = {"softmax", "L_cls", "L_loc", "BCKD", "softmax + L_loc"}
        assert counts == dict.fromkeys(swept, 6) | {"none": 2}

    def test_its_seeds_are_not_the_comparisons(self, study: Study) -> None:
        assert {cell.seed for cell in study.sweep()}.isdisjoint(study.seeds)

    @pytest.mark.parametrize(
        ("best", "again"), [(1.0, []), (2.0, [(1.0, 102), (1.0, 103), (2.0, 102), (2.0, 103)])]
    )
    def test_a_best_scale_at_the_upper_end_is_compared_on_more_seeds(
        self, study: Study, best: float, again: list[tuple[float, int]]
    ) -> None:
        study = replace(study, edge_seeds=(102, 103))
        lines = [{**vars(cell), "AP": 0.4 if cell.scale == best else 0.3} for cell in study.sweep()]
        # What these seeds found does not change that they were asked for.
        for scale, seed in again:
            lines.append({**vars(Cell("sweep", "BCKD", scale, seed)), "AP": 0.5 / scale})
        cells = study.sweep_at_edge(lines, "BCKD")
        assert {(cell.part, cell.method) for cell in cells} <= {("sweep", "BCKD")}
        assert [(cell.scale, cell.seed) for cell in cells] == again

    @pytest.mark.parametrize(
        ("APs", "asked"),
        [
            ({}, [0.25]),
            ({0.25: 0.3}, [0.25]),
            ({0.25: 0.5}, [0.25, 0.125]),
            ({0.25: 0.5, 0.125: 0.6}, [0.25, 0.125]),
        ],
    )
    def test_below_a_best_scale_at_the_lower_end_smaller_ones_are_tried(
        self, study: Study, APs: dict[float, float], asked: list[float]
    ) -> None:
        study = replace(study, scales_below=(0.25, 0.125))
        lines = [{**vars(cell), "AP": 0.4 if cell.scale == 0.5 else 0.3} for cell in study.sweep()]
        lines += [
            {**vars(Cell("sweep", "BCKD", scale, seed)), "AP": AP}
            for scale, AP in APs.items()
            for seed in study.sweep_seeds
        ]
        cells = study.sweep_below(lines, "BCKD")
        assert [(cell.part, cell.method) for cell in cells] == [("sweep", "BCKD")] * len(cells)
        wanted = [(scale, seed) for scale in asked for seed in study.sweep_seeds]
        assert [(cell.scale, cell.seed) for cell in cells] == wanted

    def test_no_smaller_scale_where_the_best_is_not_the_smallest(self, study: Study) -> None:
        study = replace(study, scales_below=(0.25,))
        lines = [{**vars(cell), "AP": 0.1 * cell.scale} for cell in study.sweep()]
        assert not study.sweep_below(lines, "BCKD")


class TestRecipes:
    def test_the_scale_multiplies_the_published_weights(self) -> None:
        weights = weights_of(methods(6)["BCKD"], 0.5)
        assert weights == replace(NO_DISTILLATION, binary=0.5, iou=2.0)
        assert weights.qfl == 1.0

    def test_the_weights_of_ld_are_the_official_ones_an_image(self) -> None:
        """Its terms are sums, over the two images of a GPU officially, over sixteen here."""
        of_softmax, of_ld = LD_FACTORS
        weights = methods(6)["LD"].weights
        assert weights["ld"] == weights["ld_region"] == of_ld * 0.25 * 2 / BASE.batch_size
        assert weights["softmax"] == of_softmax * 10 * 6 / 80

    @pytest.mark.parametrize(("classes", "weight"), [(80, 10.0), (6, 0.75), (12, 1.5)])
    def test_the_softmax_weight_is_the_official_ten_at_eighty_classes(
        self, classes: int, weight: float
    ) -> None:
        assert methods(classes)["softmax"].weights == {"softmax": weight}

    def test_a_teacher_where_something_is_distilled(self, study: Study, tmp_path: Path) -> None:
        teachers = {
            method.name: recipe_of(study, Cell("comparison", method.name, 1.0, 3), tmp_path).teacher
            for method in study.methods
        }
        assert teachers.pop("none") is None
        assert teachers.pop("self") == tmp_path / "models" / "student"
        assert set(teachers.values()) == {SCENES_TEACHER}

    def test_the_rest_is_the_regimes(self, study: Study, tmp_path: Path) -> None:
        recipe = recipe_of(study, Cell("sweep", "L_loc", 2.0, 100), tmp_path)
        assert (recipe.seed, recipe.steps, recipe.weights.iou) == (100, 7, 8.0)
        assert recipe.start == tmp_path / "models" / "student"
        assert recipe.out.parent == tmp_path / "tiny"
        assert (recipe.model, recipe.optimisation) == (BASE.model, BASE.optimisation)

    def test_the_device_is_the_studies(self, study: Study, tmp_path: Path) -> None:
        cell = Cell("comparison", "BCKD", 1.0, 0)
        assert recipe_of(study, cell, tmp_path).device == "cpu"
        elsewhere = replace(study, device="cuda:1")
        assert recipe_of(elsewhere, cell, tmp_path).device == "cuda:1"
        assert published_changes(elsewhere, cell) == published_changes(study, cell)

    def test_every_run_has_its_own_folder(self, study: Study, tmp_path: Path) -> None:
        cells = list(study.sweep())
        cells += [Cell("comparison", m.name, 1.0, s) for m in study.methods for s in study.seeds]
        folders = {recipe_of(study, cell, tmp_path).out for cell in cells}
        assert len(folders) == len(cells)

    def test_all_methods_of_a_seed_start_from_one_model(self, study: Study, tmp_path: Path) -> None:
        study = replace(study, starts=("early", "late"))
        cells = [
            Cell("comparison", name, 1.0, seed) for name in ("none", "BCKD") for seed in (0, 3)
        ]
        starts = [recipe_of(study, cell, tmp_path).start for cell in cells]
        models = tmp_path / "models"
        assert starts == [models / "early", models / "late"] * 2
        assert study.models(["BCKD"], [2, 4]) == {"early"}

    def test_a_sweep_may_have_images_of_its_own(self, study: Study, tmp_path: Path) -> None:
        study = replace(study, sweep_data=replace(study.base.data, val_images="others"))
        roots = [
            recipe_of(study, Cell(part, "BCKD", 1.0, seed), tmp_path).data.val_images
            for part, seed in (("sweep", 100), ("comparison", 0))
        ]
        assert roots == ["others", study.base.data.val_images]

    def test_models(self, study: Study) -> None:
        assert study.models(["none"], [0]) == {"student"}  # where every student starts
        without = replace(study, starts=())
        assert without.models(["none", "BCKD"], [0]) == set()
        assert without.models(["BCKD", "self"], [0]) == {"student"}


def test_a_study_seen_from_another_folder(study: Study) -> None:
    there = relocated(study, Path(".."))
    recipe = recipe_of(there, Cell("comparison", "BCKD", 1.0, 0), Path("runs"))
    assert recipe.data.root == Path("..") / BASE.data.root
    assert recipe.teacher == Path("..") / SCENES_TEACHER
    assert recipe.start == Path("runs/models/student")
    assert relocated(replace(study, teacher=Path("nanodet_m")), Path("..")).teacher == Path(
        "nanodet_m"
    )
    swept = replace(study, sweep_data=BASE.data, starts=("student", Path("a/start")))
    there = relocated(swept, Path(".."))
    recipe = recipe_of(there, Cell("sweep", "BCKD", 1.0, 1), Path("runs"))
    assert recipe.data.root == Path("..") / BASE.data.root
    assert recipe.start == Path("../a/start")


class TestChanges:
    def test_there_and_back(self) -> None:
        changes = {"losses.binary_beta": 2.0, "steps": 3, "data.root": "x"}
        recipe = changed(BASE, changes)
        assert (recipe.losses.binary_beta, recipe.steps, recipe.data.root) == (2.0, 3, Path("x"))
        assert changes_from(recipe, BASE) == changes
        assert changes_from(BASE, BASE) == {}

    @pytest.mark.parametrize("name", ["colour", "losses.colour", "steps.colour", "a.b.c"])
    def test_an_unknown_field(self, name: str) -> None:
        with pytest.raises(InputError, match=f"no field '{name}'"):
            changed(BASE, {name: 1})
