from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from bckd.geometry import grid
from bckd.models.detector import Detector, DetectorConfig
from bckd.models.folding import folded, keeping_type
from bckd.models.heads.layers import ExactConv2d
from bckd.structures import DenseOutput


def shaken(network: nn.Module) -> nn.Module:
    """The network in eval mode, with statistics and weights of norms that are not 0 and 1."""
    generator = torch.Generator().manual_seed(0)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d | FrozenBatchNorm2d):
            for values in (norm.running_mean, norm.bias.data):
                values.copy_(0.3 * torch.randn(values.shape, generator=generator))
            for values in (norm.running_var, norm.weight.data):
                values.copy_(0.5 + torch.rand(values.shape, generator=generator))
    return network.eval()


def norms(network: nn.Module) -> int:
    return sum(isinstance(x, nn.BatchNorm2d | FrozenBatchNorm2d) for x in network.modules())


class Points(nn.Module):
    """Two logits a cell of stride 2: one convolution, or its output beside that of its norm."""

    def __init__(self, norm: nn.Module, both: bool) -> None:
        super().__init__()
        self.conv, self.norm, self.both = nn.Conv2d(3, 2, 3, 2, padding=1), norm, both

    def forward(self, images: Tensor) -> DenseOutput:
        found = self.conv(images)
        maps = self.norm(found) + found if self.both else self.norm(found)
        logits = maps.flatten(2).transpose(1, 2)
        places = grid([(maps.shape[-2], maps.shape[-1])], [2])
        return DenseOutput(logits, torch.zeros(*logits.shape[:2], 4), places)


IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


class TestFolded:
    def test_a_detector_says_the_same_without_norms(self) -> None:
        for backbone in ("resnet18", "mobilenet_v2", "shufflenet_v2_x1_0", "small_resnet"):
            torch.manual_seed(0)
            config = DetectorConfig(
                backbone=backbone,
                pretrained=False,
                frozen_stages=0,
                channels=32,
                head_convs=1,
                head_groups=8,
            )
            network = shaken(Detector(config, ("a", "b")))
            before = {name: x.clone() for name, x in network.state_dict().items()}
            fast = folded(network, IMAGES)
            assert norms(network) > 0 and norms(fast) == 0
            assert all(torch.equal(x, before[name]) for name, x in network.state_dict().items())
            expected, found = (x(IMAGES).per_location() for x in (network, fast))
            for name, value in expected.items():
                scale = value.abs().max().item()
                torch.testing.assert_close(found[name], value, rtol=0, atol=1e-5 * scale)

    def test_of_a_frozen_norm_of_torchvision(self) -> None:
        network = shaken(Points(FrozenBatchNorm2d(2), both=False))
        fast = folded(network, IMAGES)
        assert norms(fast) == 0
        torch.testing.assert_close(fast(IMAGES).cls_logits, network(IMAGES).cls_logits)

    def test_not_where_something_else_reads_the_convolution(self) -> None:
        network = shaken(Points(nn.BatchNorm2d(2), both=True))
        kept = folded(network, IMAGES)
        assert norms(kept) == 1
        assert torch.equal(kept(IMAGES).cls_logits, network(IMAGES).cls_logits)

    def test_not_where_the_norm_takes_the_statistics_of_its_batch(self) -> None:
        network = shaken(Points(nn.BatchNorm2d(2), both=False)).train()
        assert norms(folded(network, IMAGES)) == 1


def test_weights_are_kept_in_the_type_that_computes_but_for_exact_ones() -> None:
    config = DetectorConfig(
        backbone="small_resnet", pretrained=False, frozen_stages=0, channels=32, head_groups=8
    )
    network = Detector(config, ("a",))
    assert keeping_type(network, None) is network
    assert {x.dtype for x in network.parameters()} == {torch.float32}
    keeping_type(network, torch.bfloat16)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            exact = isinstance(module, ExactConv2d)
            assert module.weight.dtype == (torch.float32 if exact else torch.bfloat16)
    assert network.head.box.weight.dtype == torch.float32
