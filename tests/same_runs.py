"""Two runs that are the same, whatever happened on their way."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from bckd.training.run_log import read_log
from bckd.zoo.unfinished import STUDENT

UNTIMED = dict.fromkeys(("images_per_second", "data_wait", "seconds_left", "memory"))


def assert_same_runs(one: Path, other: Path) -> None:
    """To the last bit: weights, log (but for speeds and memory), snapshots of the other."""
    ours, expected = (load_file(out / STUDENT) for out in (one, other))
    assert ours.keys() == expected.keys()
    assert all(torch.equal(ours[name], value) for name, value in expected.items())
    logs = [[{**x, **UNTIMED} for x in read_log(out)] for out in (one, other)]
    assert repr(logs[0]) == repr(logs[1])
    for path in other.glob("snapshots/*"):
        assert (one / "snapshots" / path.name).read_bytes() == path.read_bytes()
