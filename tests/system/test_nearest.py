"""What may have been meant by a name that there is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from bckd.recipes.presets import PRESETS
from bckd.recipes.recipe import Recipe
from bckd.system.errors import InputError
from bckd.system.nearest import absent, expected, nearest, nearest_path
from bckd.system.values import from_plain

FEW, MANY = ("red", "green"), [f"name-{n}" for n in range(20)]


def test_few_names_are_listed_and_many_are_not() -> None:
    assert expected("rd", FEW) == "expected one of red, green (did you mean red?)"
    assert expected("blue", FEW) == "expected one of red, green"
    assert expected("zzz", MANY, "bckd x") == "`bckd x` lists all 20"
    assert expected("zzz", MANY) == "expected one of name-0, name-1, name-2 and 17 more"
    assert expected("nmae-17", MANY, "bckd x").startswith("did you mean name-17, ")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("custmo", "custom"),
        ("COCO-R50", "coco-r50"),
        ("coco-r51", "coco-r50"),
        ("atss", "coco-atss-r50"),
    ],
)
def test_of_its_spelling_or_a_part(name: str, meant: str) -> None:
    assert meant in nearest(name, PRESETS)
    assert nearest("zzzzzz", PRESETS) == []


def test_paths_are_mended_folder_by_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs/my-teacher").mkdir(parents=True)
    assert nearest_path(Path("rnus/my-techer")) == Path("runs/my-teacher")
    assert nearest_path(Path("runs/else")) is None
    assert absent("it", Path("runs/my-teachr")) == (
        f"it does not exist; did you mean {Path('runs/my-teacher')}?"
    )
    assert absent("it", Path("runs/else")) == "it does not exist"


def test_a_field_of_a_file() -> None:
    with pytest.raises(InputError, match="unknown field 'sed' of Recipe; did you mean seed"):
        from_plain(Recipe, {"sed": 1})
