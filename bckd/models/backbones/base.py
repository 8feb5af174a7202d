"""What all backbones share: three maps, frozen stages, torchvision's ImageNet weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import torch
import torchvision
from torch import Tensor, nn

from bckd.errors import InputError


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
        InputError: no such weights, or they could not be downloaded.
    """
    if weights is None:
        return torchvision.models.get_model(name, weights=None)
    known = [entry.name for entry in torchvision.models.get_model_weights(name)]
    if weights not in known:
        raise InputError(
            f"torchvision has no weights {weights!r} of {name}; expected one of {', '.join(known)}"
        )
    try:
        return torchvision.models.get_model(name, weights=weights)
    except (OSError, RuntimeError) as error:  # no network, or a file of another hash
        raise InputError(
            f"ImageNet weights of {name} are not in {torch.hub.get_dir()} and could not be "
            f"downloaded ({error}); start without them by --model.no-pretrained"
        ) from error
