"""What a recipe leaves to the data: chosen by the objects, within its bounds, and never twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bckd.datasets.object_sizes import object_sizes
from bckd.image_size import ImageSize
from bckd.recipes import Recipe, fitted
from bckd.recipes.fitted import fitted as fit
from bckd.recipes.fitted import fitted_as, fitted_to_nothing
from bckd.recipes.presets import PRESETS
from bckd.training.recipe_check import check_recipe
from tests.squares import squares

FITTED = [name for name, preset in PRESETS.items() if preset.recipe.fit]
SMALL = PRESETS["custom-small"].recipe


def test_own_data_are_what_is_fitted_to() -> None:
    assert FITTED == [name for name in PRESETS if name.startswith("custom")]


@pytest.mark.parametrize("name", FITTED)
@pytest.mark.parametrize("shape", [(640, 480), (200, 200), (96, 128), (2000, 300), (20, 30)])
@pytest.mark.parametrize("side", [10, 60])
def test_sizes_stay_within_their_bounds(
    tmp_path: Path, name: str, shape: tuple[int, int], side: int
) -> None:
    recipe, (width, height) = PRESETS[name].recipe, shape
    found = fit(recipe, squares(tmp_path, {"it": [side] * 30}, *shape))
    assert not found.fit and check_recipe(found) == found
    rows, columns = found.data.size.canvas(height, width)
    assert rows * columns <= recipe.fit_pixels
    margin = found.data.size.pad_multiple  # sides are rounded up to it
    assert min(found.data.size.resized(height, width)) < min(height, width) + margin


def test_small_objects_get_more_pixels_than_large_ones(tmp_path: Path) -> None:
    sizes = []
    for side in (25, 60, 200):
        cells = squares(tmp_path, {"cell": [side] * 30, "cup": [300] * 30}, 640, 480)
        size = fit(SMALL, cells).data.size
        sizes.append((object_sizes(cells, size)[0].median, size.short_side))
    assert sizes[0][1] == sizes[1][1] > sizes[2][1]
    assert sizes[1][0] > 24 and sizes[2][0] > 32


def test_levels_reach_the_large_objects(tmp_path: Path) -> None:
    small = fit(SMALL, squares(tmp_path, {"bead": [30] * 30}, 320, 320)).model
    both = {"bead": [30] * 30, "plate": [280] * 30}
    large = fit(SMALL, squares(tmp_path, both, 320, 320)).model
    assert small.strides == (8, 16, 32, 64) and large.strides == (8, 16, 32, 64, 128)
    assert small.anchor_scale == large.anchor_scale
    plates = fit(SMALL, squares(tmp_path, {"plate": [280] * 30}, 320, 320)).model
    assert plates.anchor_scale == 4 and plates.strides == (8, 16, 32, 64)


def test_steps_are_passes_over_the_images_within_bounds(tmp_path: Path) -> None:
    few, some = ({"it": [60] * count} for count in (30, 200))
    assert fit(SMALL, squares(tmp_path, few, 320, 320)).steps == 300
    assert fit(SMALL, squares(tmp_path, some, 128, 128)).steps == 30 * 200 / 16
    many = fit(SMALL, squares(tmp_path, {"it": [20] * 2000}, 320, 320))
    assert many.steps == 400


def test_what_is_given_wins(tmp_path: Path) -> None:
    given = replace(
        SMALL,
        data=replace(SMALL.data, size=ImageSize(96, 160)),
        model=replace(SMALL.model, strides=(8, 16, 32, 64), anchor_scale=5.0),
        steps=7,
    )
    found = fit(given, squares(tmp_path, {"it": [10] * 30}, 320, 320))
    assert found == replace(given, data=replace(given.data, cache=True), fit=())
    epochs = fit(replace(SMALL, epochs=2), squares(tmp_path, {"it": [10] * 30}, 320, 320))
    assert epochs.epochs == 2 and epochs.steps == Recipe.steps


def test_a_cache_that_would_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = squares(tmp_path, {"it": [60] * 30}, 320, 320)
    monkeypatch.setattr(fitted, "CACHED", 30 * 320 * 320 * 3)
    taught = replace(SMALL, teacher=tmp_path)
    assert fit(SMALL, data).data.cache
    assert not fit(taught, data).data.cache  # its teacher's answers would be kept, too
    monkeypatch.setattr(fitted, "CACHED", 30 * 320 * 320 * 3 - 1)
    assert not fit(SMALL, data).data.cache


@pytest.mark.parametrize("name", [name for name in PRESETS if name not in FITTED])
def test_other_presets_stay_as_they_are(tmp_path: Path, name: str) -> None:
    recipe = PRESETS[name].recipe
    assert fit(recipe, squares(tmp_path, {"it": [10] * 30}, 320, 320)) is recipe
    assert fitted_as(recipe, SMALL) == fitted_to_nothing(recipe) == recipe


def test_nothing_to_learn_from_is_left_to_the_data_set(tmp_path: Path) -> None:
    assert fit(SMALL, squares(tmp_path, {"it": [0] * 3}, 320, 320)) == SMALL


def test_as_another_recipe_has_it(tmp_path: Path) -> None:
    other = fit(SMALL, squares(tmp_path, {"it": [30] * 200}, 128, 128))
    assert fitted_as(SMALL, other) == other
    teacher = fitted_as(SMALL, other, ["size"])
    assert (teacher.data.size, teacher.steps) == (other.data.size, SMALL.steps)
    assert teacher.fit == ("strides", "anchor_scale", "steps", "cache")
    given = replace(SMALL, data=replace(SMALL.data, size=ImageSize(64, 64)))
    assert fitted_as(given, other).data.size == ImageSize(64, 64)


def test_without_data_an_image_is_as_large_as_it_may_be() -> None:
    assert fitted_to_nothing(SMALL).data.size == ImageSize(320, 320)
