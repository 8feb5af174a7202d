"""Every COCO preset against its official recipe, setting by setting.

`official_recipes.json` holds the official values and names the files that they are from.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bckd.losses.terms import TERMS
from bckd.models.heads import HEADS
from bckd.recipes.presets import PRESETS
from bckd.system.values import to_plain

TABLE = json.loads((Path(__file__).parent / "official_recipes.json").read_text(encoding="utf-8"))
FAMILIES = TABLE["families"]
# Weights and options of terms that a family's recipe says nothing of: of other families, or of
# distillation methods that are switched off.
OTHER_TERMS = ("weights.", "losses.")


def preset(name: str) -> dict[str, Any]:
    """The preset's fields by their dotted names, with its family's values for every None."""
    recipe = PRESETS[name][1]
    plain = to_plain(replace(recipe, model=recipe.model.resolved()))

    def walk(value: Any, path: str) -> Iterator[tuple[str, Any]]:
        if isinstance(value, dict) and path != "model.normalisation":
            for key, item in value.items():
                yield from walk(item, f"{path}.{key}" if path else key)
        else:
            yield path, value

    return dict(walk(plain, ""))


def constant(name: str) -> Any:
    """A constant of the package, by MODULE:NAME."""
    module, _, path = name.partition(":")
    value: Any = importlib.import_module(module)
    for part in path.split("."):
        value = getattr(value, part)
    return value


def rows() -> list[Any]:
    return [
        pytest.param(name, official, value, ours, id=f"{name}: {ours}")
        for name, family in FAMILIES.items()
        for official, value, ours in family["settings"]
    ]


@pytest.mark.parametrize(("name", "official", "value", "ours"), rows())
def test_a_setting_is_the_official_one(name: str, official: str, value: Any, ours: str) -> None:
    found = constant(ours) if ":" in ours else preset(name)[ours]
    if isinstance(value, float) or isinstance(value, list) and isinstance(value[0], float):
        assert found == pytest.approx(value, rel=1e-12), official
    else:
        assert found == (tuple(value) if isinstance(found, tuple) else value), official


@pytest.mark.parametrize("name", FAMILIES)
def test_no_setting_is_left_out(name: str) -> None:
    """A new field needs its official value, or a reason why there is none."""
    named = [ours for _, _, ours in FAMILIES[name]["settings"]]
    assert len(set(named)) == len(named)
    reasons = TABLE["ours"]["any"] | TABLE["ours"].get(name, {})
    assert not set(named) & set(reasons)
    known = set(named) | set(reasons)
    left = {field for field in preset(name) if field not in known}
    if name != "coco-r50":
        left = {field for field in left if not field.startswith(OTHER_TERMS)}
    else:
        # Losses of other families, and what is distilled only where a command asks for it.
        others = {loss for head in HEADS.values() for loss in head.terms} - set(HEADS["gfl"].terms)
        others |= {term for term, entry in TERMS.items() if not entry.weight}
        left -= {f"weights.{term}" for term in others}
    assert not left, f"{name} says nothing of {sorted(left)}"


def test_every_coco_preset_is_here_or_differs_in_its_backbone_alone() -> None:
    names = {name for name in PRESETS if name.startswith("coco-")}
    reference = preset("coco-r50")
    for name in names - set(FAMILIES):
        found = preset(name)
        differing = {field for field in found if found[field] != reference[field]}
        assert differing == {"model.backbone", "out"}, name
        assert found["model.backbone"] == f"resnet{name.removeprefix('coco-r')}"


@pytest.mark.parametrize("name", FAMILIES)
def test_the_source_is_named(name: str) -> None:
    assert "github.com/" in FAMILIES[name]["source"] and ".py" in FAMILIES[name]["source"]
