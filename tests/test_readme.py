"""The README's tables of detectors, backbones and published weights say what there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from bckd.models.backbones import BACKBONES
from bckd.models.detector import HeadName
from bckd.presets import PRESETS
from bckd.weights.published import PRETRAINED, readme_table
from bckd.zoo.torchvision_detectors import TorchvisionName

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def rows_below(header: str) -> list[list[str]]:
    """The cells of the rows of the table that starts with this header."""
    lines = README[README.index(header) :].splitlines()[2:]
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def test_every_family_has_a_row() -> None:
    first = [row[0] for row in rows_below("| detector |")]
    assert [name.lower() for name in first[:4]] == list(get_args(HeadName))
    assert first[4:] == ["NanoDet-m", "torchvision's FCOS, RetinaNet, RetinaNet v2"]
    assert len(get_args(TorchvisionName)) == 3


def test_every_backbone_has_a_row() -> None:
    names = {name for row in rows_below("| backbone |") for name in re.findall(r"`(\w+)`", row[1])}
    assert names <= set(BACKBONES)
    assert set(BACKBONES) - names == {"resnet34", "resnet50"}  # "resnet18 ... 101"


def test_every_published_name_has_its_row() -> None:
    assert readme_table() in README
    assert [row[0].strip("`") for row in rows_below("| name | what | AP")] == list(PRETRAINED)


def test_commands_name_presets_and_weights_that_are_there() -> None:
    for preset in re.findall(r"bckd train ([a-z][\w-]+)", README):
        assert preset in PRESETS
    for teacher in re.findall(r"--teacher ([a-z]\w+)(?=[\s`])", README):
        assert teacher in PRETRAINED
