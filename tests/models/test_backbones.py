from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck

from bckd.models.backbones import build_backbone
from bckd.models.backbones.mobilenet import LEAKY_SLOPE
from bckd.models.backbones.swin import SwinT
from bckd.system import downloads
from bckd.system.errors import InputError
from bckd.weights import published

CHANNELS = {
    "resnet18": (128, 256, 512),
    "resnet34": (128, 256, 512),
    "resnet50": (512, 1024, 2048),
    "resnet101": (512, 1024, 2048),
    "mobilenet_v2": (32, 96, 320),
    "shufflenet_v2_x1_0": (116, 232, 464),
    "swin_t": (192, 384, 768),
    "small_resnet": (16, 32, 32),
}
VARIED = ("resnet18", "mobilenet_v2", "shufflenet_v2_x1_0", "swin_t", "small_resnet")


def norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    return [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]


def images(*shape: int) -> Tensor:
    return torch.randn(shape[0], 3, *shape[1:], generator=torch.Generator().manual_seed(0))


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


@pytest.mark.parametrize("name", VARIED)
def test_sizes_that_no_stride_divides(name: str) -> None:
    backbone = build_backbone(name, width=8).eval()
    for size in ((50, 70), (33, 97), (1, 31)):
        with torch.no_grad():
            maps = backbone(torch.zeros(1, 3, *size))
        expected = [tuple(-(-side // stride) for side in size) for stride in (8, 16, 32)]
        assert [tuple(x.shape[2:]) for x in maps] == expected


@pytest.mark.parametrize("name", VARIED)
def test_memory_layout_does_not_matter(name: str) -> None:
    backbone, batch = build_backbone(name, width=8).eval(), images(2, 64, 96)
    with torch.no_grad():
        plain = backbone(batch)
        backbone = backbone.to(memory_format=torch.channels_last)
        last = backbone(batch.to(memory_format=torch.channels_last))
    for one, other in zip(plain, last, strict=True):
        assert other.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


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
    maps = backbone(images(2, 64, 64))
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
    maps = backbone(images(2, 64, 64))
    sum(x.square().mean() for x in maps).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in backbone.parameters())


def test_unknown_name() -> None:
    with pytest.raises(InputError, match="'resnet19' is unknown; expected one of resnet18, "):
        build_backbone("resnet19")


@pytest.mark.parametrize("setting", [{"weights": "IMAGENET1K_V1"}, {"frozen_stages": 1}])
def test_the_small_resnet_learns_from_scratch(setting: dict[str, int]) -> None:
    with pytest.raises(InputError, match="'small_resnet' learns from scratch"):
        build_backbone("small_resnet", **setting)


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("resnet18", 5),
        ("mobilenet_v2", 8),
        ("shufflenet_v2_x1_0", 4),
        ("swin_t", 5),
        ("swin_t", -1),
    ],
)
def test_no_such_stage_to_freeze(name: str, stages: int) -> None:
    with pytest.raises(InputError, match=f"frozen_stages is {stages}: {name} has 0 to"):
        build_backbone(name, frozen_stages=stages)


@pytest.mark.parametrize("name", sorted(CHANNELS.keys() - {"mobilenet_v2", "shufflenet_v2_x1_0"}))
def test_others_can_not_be_leaky(name: str) -> None:
    with pytest.raises(InputError, match=f"leaky is True: expected False of {name}"):
        build_backbone(name, leaky=True)


class TestCaffe:
    @pytest.mark.parametrize("name", sorted(CHANNELS.keys() - {"resnet50", "resnet101"}))
    def test_is_refused_without_bottlenecks(self, name: str) -> None:
        with pytest.raises(InputError, match=f"caffe is True: expected False of {name}"):
            build_backbone(name, caffe=True)

    def test_only_the_place_of_the_stride_differs(self) -> None:
        caffe, plain = (build_backbone("resnet50", caffe=flag) for flag in (True, False))
        assert [*caffe.state_dict()] == [*plain.state_dict()]
        strided = 0
        for (name, ours), theirs in zip(caffe.named_modules(), plain.modules(), strict=True):
            if isinstance(ours, Bottleneck):
                assert ours.conv1.stride == theirs.conv2.stride, name
                assert ours.conv2.stride == theirs.conv1.stride == (1, 1), name
                strided += ours.conv1.stride == (2, 2)
            elif isinstance(ours, nn.Conv2d) and not name.endswith(("conv1", "conv2")):
                assert ours.stride == theirs.stride, name
        assert strided == 3  # the first block of each stage but the first
        with torch.no_grad():
            pairs = zip(caffe(images(1, 50, 70)), plain(images(1, 50, 70)), strict=True)
        assert all(one.shape == other.shape for one, other in pairs)


class TestWeights:
    def test_they_are_loaded_by_name(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        monkeypatch.setattr(published, "_fault", lambda *_: None)  # ours have other hashes
        known = torchvision.models.get_model_weights("mobilenet_v2")
        folder = tmp_path / "hub" / "checkpoints"
        folder.mkdir(parents=True)
        for seed, entry in enumerate((known.IMAGENET1K_V1, known.IMAGENET1K_V2)):
            torch.manual_seed(seed)
            written = torchvision.models.mobilenet_v2().state_dict()
            torch.save(written, folder / Path(entry.url).name)
        for name in ("IMAGENET1K_V2", "IMAGENET1K_V1"):
            entry = torch.load(folder / Path(known[name].url).name, weights_only=True)
            own = build_backbone("mobilenet_v2", name).state_dict()
            assert own and all(torch.equal(value, entry[key]) for key, value in own.items())

    def test_other_names_are_refused(self) -> None:
        expected = "'IMAGENET1K_V3' of resnet50; expected one of IMAGENET1K_V1, IMAGENET1K_V2"
        with pytest.raises(InputError, match=expected):
            build_backbone("resnet50", "IMAGENET1K_V3")

    def test_no_network(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def unreachable(*_: Any, **__: Any) -> None:
            raise ConnectionError("no route")

        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        monkeypatch.setattr(downloads, "_save", unreachable)
        expected = "swin_t-.* could not be downloaded .*no route.*no-pretrained"
        with pytest.raises(InputError, match=expected):
            build_backbone("swin_t", "IMAGENET1K_V1")


@pytest.fixture(scope="module")
def swin() -> SwinT:
    """In eval mode, not to be changed."""
    torch.manual_seed(0)
    return build_backbone("swin_t").eval()


class TestSwin:
    def test_maps_are_those_of_torchvision_normalised(self, swin: SwinT) -> None:
        torch.manual_seed(0)
        x, maps = images(2, 64, 96), []
        with torch.no_grad():
            for index, part in enumerate(torchvision.models.swin_t().eval().features):
                x = part(x)
                if index in (3, 5, 7):  # after the blocks of stages 2, 3 and 4
                    maps.append(nn.functional.layer_norm(x, x.shape[-1:]).permute(0, 3, 1, 2))
            found = swin(images(2, 64, 96))
        for ours, theirs in zip(found, maps, strict=True):
            torch.testing.assert_close(ours, theirs)

    def test_every_cell_is_normalised_over_channels(self, swin: SwinT) -> None:
        with torch.no_grad():
            for x in swin(images(1, 96, 64)):
                cells = x.shape[2:]
                torch.testing.assert_close(x.mean(1)[0], torch.zeros(cells), atol=1e-4, rtol=0)
                deviation = x.std(1, correction=0)[0]
                torch.testing.assert_close(deviation, torch.ones(cells), atol=1e-2, rtol=0)

    def test_a_norm_belongs_to_its_map_alone(self) -> None:
        swin, batch = build_backbone("swin_t").eval(), images(1, 32, 64)
        with torch.no_grad():
            before = swin(batch)
            swin.norms[1].bias += 2.0
            after = swin(batch)
        torch.testing.assert_close(after[1], before[1] + 2)
        assert torch.equal(after[0], before[0]) and torch.equal(after[2], before[2])

    def test_other_sizes_are_padded_to_whole_patches(self, swin: SwinT) -> None:
        batch = images(1, 50, 71)
        with torch.no_grad():
            alone, padded = swin(batch), swin(nn.functional.pad(batch, (0, 1, 0, 2)))
        assert all(torch.equal(one, other) for one, other in zip(alone, padded, strict=True))

    @pytest.mark.parametrize("frozen_stages", [0, 1, 2, 3, 4])
    def test_frozen_stages(self, frozen_stages: int) -> None:
        swin = build_backbone("swin_t", frozen_stages=frozen_stages).train()
        for index, stage in enumerate(swin.stages):
            frozen = index < frozen_stages
            modules = [stage, *swin.norms[index - 1 : index]]  # the first stage gives no map
            for module in modules:
                assert all(p.requires_grad != frozen for p in module.parameters()), index
                assert all(m.training != frozen for m in module.modules()), index
        free = sum(p.requires_grad for p in swin.parameters())
        assert (free == 0) == (frozen_stages == 4)

    def test_gradients_reach_what_is_not_frozen(self) -> None:
        torch.manual_seed(1)  # which branches stochastic depth drops
        swin = build_backbone("swin_t", frozen_stages=1).train()
        sum(x.square().mean() for x in swin(images(4, 64, 64))).backward()
        for name, p in swin.named_parameters():
            if p.requires_grad:
                assert p.grad is not None and p.grad.isfinite().all(), name
            else:
                assert p.grad is None and name.startswith("stages.0."), name

    def test_norm_eval_changes_nothing(self) -> None:
        swin = build_backbone("swin_t", norm_eval=True).train()
        assert all(module.training for module in swin.modules())
        assert all(p.requires_grad for p in swin.parameters())

    def test_training_drops_branches_and_evaluation_none(self) -> None:
        swin, batch = build_backbone("swin_t"), images(8, 32, 32)
        torch.manual_seed(0)
        with torch.no_grad():
            for training in (True, False):
                swin.train(training)
                first, second = swin(batch)[2], swin(batch)[2]
                assert torch.equal(first, second) != training


def test_other_weights_under_the_published_name_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A backbone may start from weights that somebody else trained; a web page are none."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    url = torchvision.models.get_model_weights("mobilenet_v2").IMAGENET1K_V1.url
    path = tmp_path / "hub" / "checkpoints" / url.rpartition("/")[2]
    path.parent.mkdir(parents=True)
    theirs = torchvision.models.mobilenet_v2().state_dict()
    torch.save(theirs, path)
    found = build_backbone("mobilenet_v2", "IMAGENET1K_V1").state_dict()
    assert torch.equal(found["features.0.0.weight"], theirs["features.0.0.weight"])
    assert f"{path} is not IMAGENET1K_V1 of mobilenet_v2 as published" in capsys.readouterr().out
    path.write_text("<html>not found</html>")
    with pytest.raises(InputError, match="it is a web page"):
        build_backbone("mobilenet_v2", "IMAGENET1K_V1")
