from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import mobilenet_v2

from bckd.models.backbones import build_backbone
from bckd.models.backbones.strided_depthwise import StridedDepthwise, replace_strided_depthwise


def strided(bias: bool = False) -> tuple[nn.Conv2d, StridedDepthwise]:
    """A convolution of torch and the one that took it over."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8, bias=bias))
    theirs = module[0]
    replace_strided_depthwise(module)
    assert isinstance(theirs, nn.Conv2d)
    own = module[0]
    assert isinstance(own, StridedDepthwise)
    return theirs, own


@pytest.fixture
def image() -> Tensor:
    return torch.randn(2, 8, 9, 12, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("bias", [False, True])
def test_it_is_the_convolution_that_it_took_over(image: Tensor, bias: bool) -> None:
    theirs, own = strided(bias)
    assert own.weight is theirs.weight and own.bias is theirs.bias
    torch.testing.assert_close(own(image), theirs(image), rtol=0, atol=0)


def test_it_learns_in_float32_where_a_cpu_computes_in_bfloat16(image: Tensor) -> None:
    theirs, own = strided()
    coarse = image.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        assert theirs(coarse).dtype is torch.bfloat16
        found = own(coarse)
    assert found.dtype is torch.float32
    torch.testing.assert_close(found, theirs(coarse.float()), rtol=0, atol=0)
    gradient = torch.autograd.grad(found.sum(), own.weight)[0]
    expected = torch.autograd.grad(theirs(coarse.float()).sum(), theirs.weight)[0]
    torch.testing.assert_close(gradient, expected, rtol=0, atol=0)


def test_it_computes_in_bfloat16_where_nothing_learns(image: Tensor) -> None:
    _, own = strided()
    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad():
            assert own(image).dtype is torch.bfloat16
        own.requires_grad_(False)
        assert own(image).dtype is torch.bfloat16


def test_it_takes_other_types_as_they_come_without_autocast(image: Tensor) -> None:
    _, own = strided()
    assert own.double()(image.double()).dtype is torch.float64


def test_mobilenet_has_them_in_all_four_places_and_draws_as_torchvision_does() -> None:
    torch.manual_seed(5)
    theirs = mobilenet_v2(weights=None)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    own = build_backbone("mobilenet_v2")
    assert torch.equal(torch.rand(1), drawn)
    assert sum(isinstance(module, StridedDepthwise) for module in own.modules()) == 4
    expected = theirs.state_dict()
    for name, value in own.state_dict().items():
        assert torch.equal(value, expected[name])


def test_other_convolutions_stay_as_they_are() -> None:
    module = nn.Sequential(
        nn.Conv2d(8, 8, 3, stride=2),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.Conv2d(8, 16, 3, stride=2, groups=2),
    )
    replace_strided_depthwise(module)
    assert {type(x) for x in module} == {nn.Conv2d}
