"""`bckd protocols`: the files it writes and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bckd.commands.options import Evaluated, ProtocolOptions
from bckd.commands.protocol_report import run_protocols, table_of
from bckd.evaluation.protocol_scores import KINDS, KindNumbers, ProtocolNumbers
from bckd.system.errors import InputError


@pytest.fixture
def options(scenes_root: Path, tiny_teacher: Path, tmp_path: Path) -> ProtocolOptions:
    data = Evaluated(
        root=scenes_root,
        val_images="val",
        val_annotations="annotations/instances_val.json",
        first_val=6,
        workers=0,
    )
    return ProtocolOptions(
        weights=tiny_teacher, data=data, out=tmp_path / "out", images=2, stride=8, device="cpu"
    )


def test_numbers_scores_and_figure(
    options: ProtocolOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = run_protocols(options)
    written = json.loads((options.out / "protocols.json").read_text())
    assert (written["weights"], written["images"], written["classes"]) == (
        "teacher.safetensors",
        6,
        6,
    )
    assert written["sigmoid_auc"] == numbers.sigmoid_auc
    assert written["objects"]["count"] == numbers.objects.count > 0
    scores = np.load(options.out / "scores.npz", allow_pickle=False)
    for kind in KINDS:
        values = scores[f"{kind}_sigmoid"]
        assert len(values) == getattr(numbers, kind).count
    # At the size of the weights, 64 x 64, not of data.size.
    assert sum(getattr(numbers, kind).count for kind in KINDS) == 6 * (64 + 16 + 4)
    with Image.open(options.out / "maps.png") as picture:
        assert picture.format == "PNG" and picture.width == 950
    assert table_of(numbers) in capsys.readouterr().out


def test_summary() -> None:
    found = KindNumbers(12345, 0.25, 0.0125, 0.5, 0.125, 0.0625)
    text = table_of(ProtocolNumbers(found, found, found, 0.75, 0.875, 0.625)).splitlines()
    assert text[0].split() == list(KINDS)
    values = [line.split()[-2] for line in text[1:7]]
    assert values == ["12,345", "0.2500", "0.0125", "50.00%", "12.50%", "6.25%"]
    assert max(map(len, text)) <= 80
    assert [line.split()[0] for line in text[-3:]] == ["0.7500", "0.8750", "0.6250"]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("images", 0, "images is 0; expected 1 or more"),
        ("stride", 64, "stride is 64; expected one of 8, 16, 32"),
        ("weights", Path("absent.safetensors"), "absent.safetensors does not exist"),
        ("device", "abacus", "device 'abacus' is not available"),
    ],
)
def test_refused(options: ProtocolOptions, field: str, value: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        run_protocols(replace(options, **{field: value}))
    assert not options.out.exists()


def test_other_classes_are_refused(options: ProtocolOptions) -> None:
    data = replace(options.data, val_annotations="annotations/instances_val_four.json")
    with pytest.raises(InputError, match="has other classes than the data set"):
        run_protocols(replace(options, data=data))
