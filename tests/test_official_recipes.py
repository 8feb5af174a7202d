"""Every COCO preset against its official recipe, setting by setting.

`bckd/recipes/official_recipes.json` holds the official values and names the files that they are
from; `bckd train PRESET --explain` shows it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bckd.commands.explain import explained
from bckd.losses.terms import TERMS
from bckd.models.heads import HEADS
from bckd.recipes.official import equal, fields_of, official_recipe, value_of
from bckd.recipes.presets import PRESETS

COCO = [name for name in PRESETS if name.startswith("coco-")]
# Weights and options of terms that a family's recipe says nothing of: of other families, or of
# distillation methods that are switched off.
OTHER_TERMS = ("weights.", "losses.")


def rows() -> list[Any]:
    return [
        pytest.param(name, x.name, x.value, x.ours, id=f"{name}: {x.ours}")
        for name in COCO
        for x in official_recipe(name).settings
    ]


@pytest.mark.parametrize(("name", "official", "value", "ours"), rows())
def test_a_setting_is_the_official_one(name: str, official: str, value: Any, ours: str) -> None:
    found = value_of(ours, fields_of(PRESETS[name].recipe))
    assert equal(found, value), f"{official}: {found} is not {value}"


@pytest.mark.parametrize("name", COCO)
def test_no_setting_is_left_out(name: str) -> None:
    """A new field needs its official value, or a reason why there is none."""
    official = official_recipe(name)
    named = [setting.ours for setting in official.settings]
    assert len(set(named)) == len(named)
    assert not set(named) & set(official.reasons)
    known = set(named) | set(official.reasons)
    left = {field for field in fields_of(PRESETS[name].recipe) if field not in known}
    if name != "coco-r50":
        left = {field for field in left if not field.startswith(OTHER_TERMS)}
    else:
        # Losses of other families, and what is distilled only where a command asks for it.
        others = {loss for head in HEADS.values() for loss in head.terms} - set(HEADS["gfl"].terms)
        others |= {term for term, entry in TERMS.items() if not entry.weight}
        left -= {f"weights.{term}" for term in others}
    assert not left, f"{name} says nothing of {sorted(left)}"


@pytest.mark.parametrize("name", ["coco-r18", "coco-r34", "coco-r101"])
def test_some_presets_differ_in_their_backbone_alone(name: str) -> None:
    reference, found = (fields_of(PRESETS[x].recipe) for x in ("coco-r50", name))
    assert {x for x in found if found[x] != reference[x]} == {"model.backbone", "out"}


@pytest.mark.parametrize("name", COCO)
def test_the_source_is_named(name: str) -> None:
    source = official_recipe(name).source
    assert "github.com/" in source and ".py" in source


@pytest.mark.parametrize(("one", "other"), [(1.0, 1), ([0.1, 2], [0.1, 2]), (None, None)])
def test_equal_settings(one: Any, other: Any) -> None:
    assert equal(one, other)


@pytest.mark.parametrize(("one", "other"), [(0.1, 0.1001), ([1, 2], [1]), (None, 0), ("a", ["a"])])
def test_settings_that_are_not(one: Any, other: Any) -> None:
    assert not equal(one, other)


class TestExplained:
    def lines(self, preset: str, **changes: Any) -> list[str]:
        recipe = PRESETS[preset].recipe
        return explained(preset, replace(recipe, **changes), recipe).splitlines()

    @pytest.mark.parametrize("name", PRESETS)
    def test_every_preset_is_as_it_should_be(self, name: str) -> None:
        lines = self.lines(name)
        fields = fields_of(PRESETS[name].recipe)
        shown = {line.split()[0] for line in lines if line.strip()}
        assert {x for x in fields if not x.startswith(OTHER_TERMS)} <= shown
        assert not any(line.startswith(("* ", "+ ")) for line in lines)

    def test_a_change_is_marked_and_what_it_does_is_said(self) -> None:
        lines = self.lines("coco-r50", batch_size=4, seed=3)
        marked = [line.split() for line in lines if line.startswith(("* ", "+ "))]
        assert [row[:4] for row in marked] == [
            ["*", "batch_size", "4", "16"],
            ["+", "seed", "3", "the"],
        ]
        assert "Learning rate: 0.01 for 16 images a step is 0.0025 for 4 (linear scaling)." in lines
        length = "Length: 87,960 steps see 351,840 images, officially 1,407,360."
        assert length in lines

    def test_a_length_in_epochs(self) -> None:
        assert "Length: 3 epochs, in steps once the images are counted." in self.lines(
            "coco-r50", epochs=3
        )

    def test_a_preset_of_ours(self) -> None:
        assert "scenes is ours: it follows no official recipe." in self.lines("scenes")
