from __future__ import annotations

import pytest
import torch
from torch import nn

from bckd.errors import InputError
from bckd.models.backbones import LEAKY_SLOPE, build_backbone

CHANNELS = {
    "resnet18": (128, 256, 512),
    "resnet34": (128, 256, 512),
    "resnet50": (512, 1024, 2048),
    "resnet101": (512, 1024, 2048),
    "mobilenet_v2": (32, 96, 320),
    "small_resnet": (16, 32, 32),
}


def norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    return [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]


@pytest.mark.parametrize("name", CHANNELS)
def test_maps_have_the_promised_channels_and_strides(name: str) -> None:
    backbone = build_backbone(name, width=8).eval()
    assert backbone.channels == CHANNELS[name]
    with torch.no_grad():
        maps = backbone(torch.zeros(1, 3, 64, 96))
    assert [tuple(x.shape) for x in maps] == [
        (1, channels, 64 // stride, 96 // stride)
        for channels, stride in zip(CHANNELS[name], (8, 16, 32), strict=True)
    ]


def test_sizes_that_no_stride_divides() -> None:
    for name in ("resnet18", "mobilenet_v2", "small_resnet"):
        with torch.no_grad():
            maps = build_backbone(name, width=8).eval()(torch.zeros(1, 3, 50, 70))
        assert [tuple(x.shape[2:]) for x in maps] == [(7, 9), (4, 5), (2, 3)], name


@pytest.mark.parametrize("frozen_stages", [0, 1, 2, 3, 4])
def test_frozen_stages_of_a_resnet(frozen_stages: int) -> None:
    backbone = build_backbone("resnet18", frozen_stages=frozen_stages).train()
    stages = [[backbone.conv1, backbone.bn1]] + [
        [getattr(backbone, f"layer{i}")] for i in (1, 2, 3, 4)
    ]
    for index, stage in enumerate(stages):
        frozen = frozen_stages > 0 and index <= frozen_stages
        for module in stage:
            assert all(p.requires_grad != frozen for p in module.parameters()), index
            assert all(norm.training != frozen for norm in norms(module)), index


@pytest.mark.parametrize(("frozen_stages", "blocks"), [(0, 0), (1, 2), (2, 4), (7, 18)])
def test_frozen_stages_of_mobilenet(frozen_stages: int, blocks: int) -> None:
    backbone = build_backbone("mobilenet_v2", frozen_stages=frozen_stages).train()
    for index, block in enumerate(backbone.features):
        frozen = index < blocks
        assert all(p.requires_grad != frozen for p in block.parameters()), index
        assert all(norm.training != frozen for norm in norms(block)), index


def test_frozen_stages_get_no_gradient_and_keep_their_statistics() -> None:
    backbone = build_backbone("resnet18", frozen_stages=1).train()
    frozen_before = backbone.layer1[0].bn1.running_mean.clone()
    free_before = backbone.layer2[0].bn1.running_mean.clone()
    generator = torch.Generator().manual_seed(0)
    maps = backbone(torch.randn(2, 3, 64, 64, generator=generator))
    sum(x.mean() for x in maps).backward()
    assert backbone.conv1.weight.grad is None and backbone.layer1[0].conv1.weight.grad is None
    assert backbone.layer2[0].conv1.weight.grad.any()
    assert torch.equal(backbone.layer1[0].bn1.running_mean, frozen_before)
    assert not torch.equal(backbone.layer2[0].bn1.running_mean, free_before)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_norm_eval_fixes_every_statistic_but_lets_weights_learn(name: str) -> None:
    backbone = build_backbone(name, norm_eval=True).train()
    assert backbone.training
    assert norms(backbone) and not any(norm.training for norm in norms(backbone))
    assert all(p.requires_grad for p in backbone.parameters())
    # The rest is in training mode, and so is BatchNorm of a backbone without the option.
    assert any(module.training for module in backbone.children())
    assert all(norm.training for norm in norms(build_backbone(name).train()))


def test_what_is_fixed_is_so_inside_a_larger_module_too() -> None:
    whole = nn.Sequential(build_backbone("resnet18", frozen_stages=1, norm_eval=True))
    whole.eval().train()
    assert not any(norm.training for norm in norms(whole))


def test_the_leaky_mobilenet_has_no_other_activation() -> None:
    leaky, plain = (build_backbone("mobilenet_v2", leaky=flag) for flag in (True, False))
    activations = [m for m in leaky.modules() if isinstance(m, nn.LeakyReLU)]
    rectifiers = [m for m in plain.modules() if isinstance(m, nn.ReLU6)]
    assert len(activations) == len(rectifiers) > 0
    assert {m.negative_slope for m in activations} == {LEAKY_SLOPE}
    assert not any(isinstance(m, nn.ReLU | nn.ReLU6) for m in leaky.modules())
    assert not any(isinstance(m, nn.LeakyReLU) for m in plain.modules())


def test_gradients_reach_every_parameter_of_the_small_resnet() -> None:
    backbone = build_backbone("small_resnet", width=8).train()
    generator = torch.Generator().manual_seed(0)
    maps = backbone(torch.randn(2, 3, 64, 64, generator=generator))
    sum(x.square().mean() for x in maps).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in backbone.parameters())


def test_unknown_name() -> None:
    with pytest.raises(InputError, match="'resnet19' is unknown; expected one of resnet18, "):
        build_backbone("resnet19")


@pytest.mark.parametrize("setting", [{"pretrained": True}, {"frozen_stages": 1}])
def test_the_small_resnet_learns_from_scratch(setting: dict[str, int]) -> None:
    with pytest.raises(InputError, match="'small_resnet' learns from scratch"):
        build_backbone("small_resnet", **setting)


@pytest.mark.parametrize(("name", "stages"), [("resnet18", 5), ("mobilenet_v2", 8)])
def test_no_such_stage_to_freeze(name: str, stages: int) -> None:
    with pytest.raises(InputError, match=f"frozen_stages is {stages}: {name} has 0 to"):
        build_backbone(name, frozen_stages=stages)
