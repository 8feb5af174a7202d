"""In which precision the networks compute, by card; and steps in half precision."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch import nn

from bckd.recipes import Recipe
from bckd.system.errors import NonFiniteLossError
from bckd.system.precision import autocast_type
from bckd.training.run_log import read_log
from bckd.training.student import build_student
from bckd.training.trainer import train

CUDA = torch.device("cuda")
SMALL, LARGE = (nn.Linear(1000, outputs, bias=False, device="meta") for outputs in (9_999, 10_000))


class TestType:
    @pytest.mark.parametrize(
        ("card", "capability", "bf16", "expected"),
        [
            ("A100", (8, 0), True, torch.bfloat16),
            ("H100", (9, 0), True, torch.bfloat16),
            ("T4", (7, 5), False, torch.float16),
            ("V100", (7, 0), False, torch.float16),
            ("P100", (6, 0), False, None),
        ],
    )
    def test_of_a_card(
        self,
        monkeypatch: pytest.MonkeyPatch,
        card: str,
        capability: tuple[int, int],
        bf16: bool,
        expected: torch.dtype | None,
    ) -> None:
        """PyTorch says of every card that it has bfloat16, unless emulation does not count."""

        def is_supported(including_emulation: bool = True) -> bool:
            return bf16 or including_emulation

        monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_supported)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
        assert autocast_type("auto", CUDA, SMALL) is expected

    @pytest.mark.parametrize(
        ("feature", "device", "network", "expected"),
        [
            ("avx512_bf16", "cpu", LARGE, torch.bfloat16),
            ("avx512_bf16", "cpu", SMALL, None),
            ("avx512_f", "cpu", LARGE, None),
            ("avx512_bf16", "mps", LARGE, None),
        ],
    )
    def test_elsewhere(
        self,
        monkeypatch: pytest.MonkeyPatch,
        feature: str,
        device: str,
        network: nn.Module,
        expected: torch.dtype | None,
    ) -> None:
        """On a CPU bf16 pays for large networks, where it is no emulation."""
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {feature: True})
        assert autocast_type("auto", torch.device(device), network) is expected

    @pytest.mark.parametrize(
        ("name", "expected"),
        [("float32", None), ("bf16", torch.bfloat16), ("fp16", torch.float16)],
    )
    def test_what_is_named(self, name: str, expected: torch.dtype | None) -> None:
        for device in ("cpu", "cuda"):
            assert autocast_type(name, torch.device(device), LARGE) is expected


class TestTraining:
    @pytest.mark.parametrize("precision", ["bf16", "fp16"])
    def test_a_run_is_near_that_of_float32(self, tiny_recipe: Recipe, precision: str) -> None:
        losses = {}
        for name in (precision, "float32"):
            recipe = replace(tiny_recipe, precision=name, steps=4, out=tiny_recipe.out / name)
            train(recipe, progress=False)
            losses[name] = [line["loss"] for line in read_log(recipe.out) if "loss" in line]
        assert losses[precision] != losses["float32"]
        assert losses[precision] == pytest.approx(losses["float32"], rel=0.05)

    def test_a_step_that_overflows_fp16_is_left_out(
        self, tiny_recipe: Recipe, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Scaled by 2^120 every gradient is infinite: the weights stay, the scale is halved."""
        scaler = torch.amp.GradScaler
        found = []

        def with_large_scale(*arguments: object, **options: object) -> torch.amp.GradScaler:
            found.append(scaler(*arguments, **options, init_scale=2.0**120))
            return found[-1]

        monkeypatch.setattr(torch.amp, "GradScaler", with_large_scale)
        clip = replace(tiny_recipe.optimisation, clip_norm=1.0)
        recipe = replace(tiny_recipe, precision="fp16", steps=2, optimisation=clip)
        after = train(recipe, progress=False).detector
        before = build_student(recipe, after.class_names)
        for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True):
            assert torch.equal(old, new), name
        assert found[0].get_scale() == 2.0**118

    def test_gradients_that_never_fit_are_told(
        self, tiny_recipe: Recipe, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scaler = torch.amp.GradScaler
        monkeypatch.setattr(
            torch.amp, "GradScaler", lambda *a, **k: scaler(*a, **k, init_scale=0.5)
        )
        with pytest.raises(NonFiniteLossError, match="gradients overflow fp16 at every step"):
            train(replace(tiny_recipe, precision="fp16"), progress=False)
