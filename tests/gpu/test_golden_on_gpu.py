"""The official code's numbers, computed on the GPU in float32: tolerances of the CPU's test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests import test_golden as golden


def on_gpu(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.cuda()
    if isinstance(value, dict):
        return {name: on_gpu(x) for name, x in value.items()}
    return type(value)(map(on_gpu, value)) if isinstance(value, list | tuple) else value


@pytest.mark.parametrize("path", golden.FILES, ids=lambda path: path.name)
def test_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load, randn = torch.load, torch.randn
    monkeypatch.setattr(torch, "load", lambda *args, **named: on_gpu(load(*args, **named)))

    def drawn(*shape: Any, generator: torch.Generator | None = None, **named: Any) -> torch.Tensor:
        """What a seed gives is the CPU's."""
        if generator is None:
            return randn(*shape, **named)
        return randn(*shape, generator=generator, device="cpu").cuda()

    monkeypatch.setattr(torch, "randn", drawn)
    with torch.device("cuda"):
        golden.test_file(path)
