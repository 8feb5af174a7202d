"""What backbones share: three maps, frozen stages, torchvision's weights, other activations."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Self

from torch import Tensor, nn

from bckd.system.errors import InputError

COARSEST = 32  # stride of C5


class Backbone(nn.Module):
    """An image becomes maps at strides 8, 16 and 32; some stages need not learn.

    Attributes:
        channels: channels of C3, C4, C5.
        frozen: stages that do not learn (no gradient, in eval mode).
        norm_eval: keep every BatchNorm in eval mode while training; other norms have no
            statistics to fix.
    """

    channels: tuple[int, int, int]
    frozen: list[nn.Module]
    norm_eval: bool

    def forward(self, images: Tensor) -> list[Tensor]:
        """C3, C4, C5 of normalised images (N, 3, H, W).

        A map's grid is (ceil(H / stride), ceil(W / stride)).
        """
        raise NotImplementedError

    def freeze(self, frozen: list[nn.Module], norm_eval: bool) -> None:
        """Stop the gradient of `frozen`; fix BatchNorm's statistics if `norm_eval`."""
        self.frozen, self.norm_eval = frozen, norm_eval
        for stage in frozen:
            stage.requires_grad_(False)

    def fix_norms(self) -> None:
        """Stop the gradient of every BatchNorm's weight and bias."""
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.requires_grad_(False)

    def undecayed(self) -> Iterator[nn.Parameter]:
        """Parameters that the backbone's official recipes keep out of weight decay; none."""
        return iter(())

    def train(self, mode: bool = True) -> Self:
        """As in every module, but what is fixed stays in eval mode."""
        super().train(mode)
        for stage in self.frozen:
            stage.eval()
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self


def torchvision_model(name: str, weights: str | None) -> nn.Module:
    """torchvision's classifier, with its ImageNet weights of that name (None: random).

    Raises:
        InputError: no such weights, or they are not as published, or could not be downloaded.
    """
    # Late, here and elsewhere below: torchvision takes a second, which `--help` can do without.
    from torchvision.models import get_model

    from bckd.weights.torchvision_models import with_published

    build = partial(get_model, name, weights=None)
    if weights is None:
        return build()
    try:
        return with_published(build, name, weights)
    except InputError as error:
        raise InputError(f"{error}; or start without them by --model.no-pretrained") from error


def replace_activations(module: nn.Module, kind: type[nn.Module], slope: float) -> None:
    """Put a LeakyReLU of that slope in place of every activation of that kind, at any depth."""
    for name, child in module.named_children():
        if isinstance(child, kind):
            setattr(module, name, nn.LeakyReLU(slope, inplace=True))
        else:
            replace_activations(child, kind, slope)
