from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.transforms.v2 import functional as F

from bckd.normalisation import CAFFE, IMAGENET, Normalisation, renormalise

UNEVEN = Normalisation((0.1, 0.2, 0.3), (0.5, 1.0, 2.0), bgr=True)
KINDS = [IMAGENET, CAFFE, UNEVEN]


def pixels(*shape: int) -> Tensor:
    """RGB in 0..1; no pixel is the mean of any kind."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def test_apply_is_torchvisions() -> None:
    images = pixels(2, 3, 4, 5)
    expected = F.normalize(images, list(IMAGENET.mean), list(IMAGENET.deviation))
    torch.testing.assert_close(IMAGENET.apply(images), expected)


def test_mean_and_deviation_are_in_the_networks_order() -> None:
    red, green, blue = 0.6, 0.5, 0.4
    image = torch.tensor([red, green, blue]).view(3, 1, 1)
    expected = [(blue - 0.1) / 0.5, (green - 0.2) / 1.0, (red - 0.3) / 2.0]
    assert UNEVEN.apply(image).flatten().tolist() == pytest.approx(expected)


def test_caffes_networks_take_blue_green_red_minus_a_mean() -> None:
    bytes_rgb = torch.tensor([200.0, 100.0, 7.0]).view(1, 3, 1, 1)
    expected = [7 - 102.9801, 100 - 115.9465, 200 - 122.7717]
    found = CAFFE.apply(bytes_rgb / 255).flatten().tolist()
    assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("kind", KINDS, ids=["imagenet", "caffe", "uneven"])
@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 3, 4, 5)])
def test_undo_gives_the_pixels_back(kind: Normalisation, shape: tuple[int, ...]) -> None:
    images = pixels(*shape)
    before = images.clone()
    torch.testing.assert_close(kind.undo(kind.apply(images)), images, atol=1e-5, rtol=1e-5)
    assert torch.equal(images, before)


class TestImagesOf:
    sizes = torch.tensor([[4, 5], [3, 6], [6, 2]])

    @pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
    @pytest.mark.parametrize("kind", KINDS, ids=["imagenet", "caffe", "uneven"])
    def test_is_each_image_normalised_and_its_padding_0(
        self, kind: Normalisation, layout: torch.memory_format
    ) -> None:
        batch = (255 * pixels(3, 3, 6, 6)).round().byte().contiguous(memory_format=layout)
        before = batch.clone()
        found = kind.images_of(batch, self.sizes)
        assert found.is_contiguous() and torch.equal(batch, before)
        for image, raw, (height, width) in zip(found, batch, self.sizes.tolist(), strict=True):
            expected = kind.apply(F.to_dtype(raw[:, :height, :width], scale=True))
            assert torch.equal(image[:, :height, :width], expected)
            assert not image[:, height:].any() and not image[:, :, width:].any()

    def test_nothing_comes_from_the_host(self) -> None:
        with FakeTensorMode(), Operations() as operations:
            with torch.device("cuda"):
                batch, sizes = torch.zeros(3, 3, 6, 6, dtype=torch.uint8), self.sizes.shape
                sizes = torch.ones(sizes, dtype=torch.long)
            assert CAFFE.images_of(batch, sizes).device.type == "cuda"
            assert not operations.copies
            torch.tensor(CAFFE.mean, device="cuda")  # what this test is to see
            assert operations.copies


class Operations(TorchDispatchMode):
    """Lists what brings a tensor from the host to a device."""

    def __init__(self) -> None:
        super().__init__()
        self.copies: list[str] = []

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None):
        found = operation(*args, **(kwargs or {}))
        name = operation.overloadpacket.__name__
        given = [x for x in args if isinstance(x, Tensor) and x.device.type == "cpu"]
        if name == "lift_fresh" or (given and getattr(found, "is_cuda", False)):
            self.copies.append(name)
        return found


class TestRenormalise:
    sizes = ((4, 5), (3, 6), (6, 2))

    def batch(self, kind: Normalisation) -> Tensor:
        """Three images of `sizes`, normalised and padded with 0 to (6, 6)."""
        images = torch.zeros(3, 3, 6, 6)
        for n, (height, width) in enumerate(self.sizes):
            images[n, :, :height, :width] = kind.apply(pixels(3, 6, 6)[:, :height, :width])
        return images

    @pytest.mark.parametrize("theirs", KINDS, ids=["imagenet", "caffe", "uneven"])
    @pytest.mark.parametrize("ours", KINDS, ids=["imagenet", "caffe", "uneven"])
    def test_is_what_the_other_would_have_made_of_the_pixels(
        self, ours: Normalisation, theirs: Normalisation
    ) -> None:
        images = self.batch(ours)
        before = images.clone()
        found = renormalise(images, ours, theirs)
        torch.testing.assert_close(found, self.batch(theirs), atol=1e-3, rtol=1e-4)
        for n, (height, width) in enumerate(self.sizes):
            assert not found[n, :, height:].any() and not found[n, :, :, width:].any()
            assert found[n, :, :height, :width].ne(0).any(dim=0).all()
        assert torch.equal(images, before)

    def test_a_zero_of_one_channel_is_no_padding(self) -> None:
        image = torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1)
        expected = CAFFE.apply(IMAGENET.undo(image))
        torch.testing.assert_close(renormalise(image, IMAGENET, CAFFE), expected)

    def test_nothing_to_change(self) -> None:
        images = self.batch(CAFFE)
        assert renormalise(images, CAFFE, Normalisation(**vars(CAFFE))) is images
