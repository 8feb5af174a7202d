"""timm's models by their name: `timm:convnext_tiny`. The package timm is an optional extra."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from bckd.models.backbones.base import Backbone
from bckd.system.errors import InputError, reason
from bckd.system.extras import extra

PREFIX = "timm:"
STRIDES = (8, 16, 32)


class TimmBackbone(Backbone):
    """A model of timm that gives maps at strides 8, 16 and 32.

    Args:
        name: with its prefix.
        pretrained: start from the weights that timm has for that name, which timm downloads from
            the Hugging Face hub and checks.
        norm_eval: BatchNorm in eval mode while training; other norms have no statistics to fix.

    Raises:
        InputError: timm is not installed, has no such model or no weights of it, or the model
            gives no maps at these strides; or the download failed.
    """

    def __init__(self, name: str, pretrained: bool, norm_eval: bool) -> None:
        super().__init__()
        with extra("timm", f"backbone {name}"):
            import timm

        model = name.removeprefix(PREFIX)
        try:
            known: Any = timm.create_model(model, features_only=True, pretrained=False)
            reductions = known.feature_info.reduction()
            missing = [stride for stride in STRIDES if stride not in reductions]
            if missing:
                raise InputError(
                    f"backbone {name} gives maps at strides {', '.join(map(str, reductions))}; "
                    f"expected {', '.join(map(str, STRIDES))} among them"
                )
            levels = tuple(reductions.index(stride) for stride in STRIDES)
            network: Any = timm.create_model(
                model, features_only=True, pretrained=pretrained, out_indices=levels
            )
        except (RuntimeError, AttributeError, AssertionError, OSError) as error:
            raise InputError(f"backbone {name} could not be made: {reason(error)}") from error
        self.network, self.channels = network, tuple(network.feature_info.channels())
        self.freeze([], norm_eval)

    def forward(self, images: Tensor) -> list[Tensor]:
        """C3, C4, C5 of normalised images (N, 3, H, W)."""
        maps = self.network(images)
        # Some (Swin) have the channels last.
        return [
            x if x.shape[1] == channels else x.permute(0, 3, 1, 2)
            for x, channels in zip(maps, self.channels, strict=True)
        ]
