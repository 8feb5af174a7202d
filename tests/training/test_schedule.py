"""Optimiser and learning rate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn
from torchvision.models.detection import fcos_resnet50_fpn

from bckd.models.backbones import build_backbone
from bckd.models.detector import Detector
from bckd.recipes import Optimisation
from bckd.system.errors import InputError
from bckd.training.schedule import build_optimizer, learning_rate, set_learning_rate

COCO = Optimisation()
EPOCH, STEPS = 7330, 87_960  # 12 epochs of COCO at batch 16


class TestLearningRate:
    @pytest.mark.parametrize(
        ("step", "expected"),
        [
            (0, 1e-5),
            (250, 0.01 * (0.001 + 0.999 / 2)),
            (499, 0.01 * (0.001 + 0.999 * 499 / 500)),
            (500, 0.01),
            (8 * EPOCH - 1, 0.01),
            (8 * EPOCH, 0.001),
            (11 * EPOCH - 1, 0.001),
            (11 * EPOCH, 0.0001),
            (STEPS - 1, 0.0001),
        ],
    )
    def test_official_recipe(self, step: int, expected: float) -> None:
        assert learning_rate(COCO, step, STEPS, 16) == pytest.approx(expected, rel=1e-12)

    def test_scales_with_the_batch(self) -> None:
        for step in (0, 100, 5000, 60_000):
            base = learning_rate(COCO, step, STEPS, 16)
            assert learning_rate(COCO, step, STEPS, 4) == pytest.approx(base / 4)

    def test_cosine_falls_from_the_rate_to_nearly_nothing(self) -> None:
        settings = replace(COCO, schedule="cosine", warmup_steps=0)
        rates = [learning_rate(settings, step, 100, 16) for step in range(100)]
        assert rates[0] == pytest.approx(0.01)
        assert rates[50] == pytest.approx(0.005)
        assert rates == sorted(rates, reverse=True)
        assert 0 < rates[-1] < 1e-5

    def test_constant_warm_up_is_low_until_its_end(self) -> None:
        """FCOS's: a third of the rate for 500 steps."""
        settings = replace(COCO, warmup="constant", warmup_start=1 / 3)
        rates = [learning_rate(settings, step, STEPS, 16) for step in (0, 1, 250, 499, 500)]
        assert rates == pytest.approx([0.01 / 3] * 4 + [0.01], rel=1e-12)

    def test_warm_up_multiplies_the_schedule(self) -> None:
        settings = replace(COCO, schedule="cosine", warmup_steps=10, warmup_start=0.5)
        plain = replace(settings, warmup_steps=0)
        for step in (0, 4, 9, 10, 60):
            factor = min(0.5 + 0.5 * step / 10, 1)
            expected = factor * learning_rate(plain, step, 100, 16)
            assert learning_rate(settings, step, 100, 16) == pytest.approx(expected)


class TestOptimizer:
    @pytest.mark.parametrize(
        ("name", "kind"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)]
    )
    def test_kind_and_settings(self, name: str, kind: type) -> None:
        optimizer = build_optimizer(
            nn.Linear(2, 3), replace(COCO, optimizer=name, momentum=0.7, weight_decay=0.03)
        )
        assert type(optimizer) is kind
        assert optimizer.defaults["fused"], "one kernel for all parameters"
        (group,) = optimizer.param_groups
        assert group["weight_decay"] == 0.03
        assert group.get("momentum", 0.7) == 0.7

    def test_only_what_learns(self) -> None:
        module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
        module[0].requires_grad_(False)
        (group,) = build_optimizer(module, COCO).param_groups
        assert {id(p) for p in group["params"]} == {id(p) for p in module[1].parameters()}

    def test_biases_may_have_a_rate_and_a_decay_of_their_own(
        self, tiny_detector: Callable[..., Detector]
    ) -> None:
        """FCOS's recipe: twice the rate, no decay; biases of normalisation layers are no biases."""
        settings = replace(COCO, bias_rate=2.0, bias_decay=0.0)
        detector = tiny_detector(head="fcos")
        optimizer = build_optimizer(detector, settings)
        set_learning_rate(optimizer, 0.25)
        groups = {
            id(p): (group["lr"], group["weight_decay"])
            for group in optimizer.param_groups
            for p in group["params"]
        }
        found = {name: groups[id(p)] for name, p in detector.named_parameters()}
        biases = {name for name, value in found.items() if value == (0.5, 0.0)}
        convolutions = (nn.Conv2d, nn.Linear)
        expected = {
            f"{path}.bias"
            for path, module in detector.named_modules()
            if isinstance(module, convolutions) and module.bias is not None
        }
        assert biases == expected and len(expected) > 8
        others = {value for name, value in found.items() if name not in biases}
        assert others == {(0.25, COCO.weight_decay)}

    def test_norms_and_the_backbone_may_have_their_own(
        self, tiny_detector: Callable[..., Detector]
    ) -> None:
        """The factors of a parameter that is several of these multiply."""
        detector = tiny_detector()
        settings = replace(COCO, norm_decay=0.0, bias_rate=2.0, bias_decay=0.5, backbone_rate=0.25)
        optimizer = build_optimizer(detector, settings)
        set_learning_rate(optimizer, 1.0)
        found = {
            id(p): (group["lr"], group["weight_decay"] / COCO.weight_decay)
            for group in optimizer.param_groups
            for p in group["params"]
        }
        norms = (nn.BatchNorm2d, nn.GroupNorm)
        seen = set()
        for path, module in detector.named_modules():
            for name, parameter in module.named_parameters(recurse=False):
                bias = name == "bias" and not isinstance(module, norms)
                rate = (2.0 if bias else 1.0) * (0.25 if path.startswith("backbone") else 1.0)
                decay = 0.0 if isinstance(module, norms) else 0.5 if bias else 1.0
                assert found[id(parameter)] == (rate, decay), f"{path}.{name}"
                seen.add((rate, decay))
        assert len(seen) == 5, "no bias outside the norms of the backbone"

    def test_torchvisions_backbone_is_one(self) -> None:
        model = fcos_resnet50_fpn(weights=None, weights_backbone=None, num_classes=3)
        optimizer = build_optimizer(model, replace(COCO, backbone_rate=0.1))
        slow = {
            id(p) for g in optimizer.param_groups if g["rate_factor"] == 0.1 for p in g["params"]
        }
        assert slow == {id(p) for p in model.backbone.body.parameters() if p.requires_grad}

    def test_the_rate_of_a_backbone_that_is_none(self) -> None:
        with pytest.raises(InputError, match="backbone_rate is 0.1; expected 1 for a student of"):
            build_optimizer(nn.Linear(2, 3), replace(COCO, backbone_rate=0.1))

    @pytest.mark.parametrize("frozen_stages", [0, 1])
    def test_swins_norms_and_position_tables_do_not_decay(self, frozen_stages: int) -> None:
        backbone = build_backbone("swin_t", frozen_stages=frozen_stages)
        module = nn.ModuleDict({"backbone": backbone, "head": nn.LayerNorm(3)})
        optimizer = build_optimizer(module, replace(COCO, optimizer="adamw", weight_decay=0.05))
        decays = {
            id(p): group["weight_decay"]
            for group in optimizer.param_groups
            for p in group["params"]
        }
        found = {n: decays[id(p)] for n, p in module.named_parameters() if p.requires_grad}
        kept_out = {name for name, decay in found.items() if decay == 0}
        norms = {
            f"{path}.{part}"
            for path, m in module.named_modules()
            for part in ("weight", "bias")
            if isinstance(m, nn.LayerNorm) and path != "head"
        }
        tables = {name for name in found if name.endswith("relative_position_bias_table")}
        assert len(tables) == 12 - 2 * frozen_stages
        assert kept_out == (norms & set(found)) | tables
        assert {decay for name, decay in found.items() if name not in kept_out} == {0.05}

    @pytest.mark.parametrize("name", ["sgd", "adamw"])
    def test_a_step_is_that_of_the_textbook(self, name: str) -> None:
        layer = nn.Linear(3, 1, bias=False)
        before, gradient = layer.weight.detach().clone(), torch.tensor([[1.0, -2.0, 0.5]])
        settings = replace(COCO, optimizer=name, learning_rate=0.1, weight_decay=0.2)
        optimizer = build_optimizer(layer, settings)
        layer.weight.grad = gradient.clone()
        optimizer.step()
        if name == "sgd":
            expected = before - 0.1 * (gradient + 0.2 * before)
        else:
            expected = before * (1 - 0.1 * 0.2) - 0.1 * gradient.sign()
        torch.testing.assert_close(layer.weight.detach(), expected)
