"""torchvision's published weights in torchvision's models, without torch.hub, which unpickles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeVar

from torch import nn

from bckd.weights.published import torchvision_weights
from bckd.weights.tensor_files import fill

TorchvisionName = Literal[  # of a dense detector
    "fcos_resnet50_fpn", "retinanet_resnet50_fpn", "retinanet_resnet50_fpn_v2"
]
M = TypeVar("M", bound=nn.Module)
_COUNTER = "num_batches_tracked"  # older files lack it, and fixed norms have none


def with_published(
    build: Callable[[], M],
    name: str,
    weights: str,
    keep: str = "",
    leave: str = "",
) -> M:
    """torchvision's model with its weights of that name.

    Args:
        build: makes the model, once the weights are there.
        name: of the model, as torchvision calls it.
        keep: the beginning of the names of weights that stay as they were built; "": none do.
        leave: that of published ones which the model does not have; "": there are none.

    Raises:
        InputError: no such weights, or they are not as published, or could not be downloaded.
    """
    tensors = torchvision_weights(name, weights)
    model = build()
    own = model.state_dict()
    counters = {key: value for key, value in own.items() if key.endswith(_COUNTER)}
    kept = {key: value for key, value in own.items() if keep and key.startswith(keep)}
    published = {
        key: value
        for key, value in tensors.items()
        if (key in own or not key.endswith(_COUNTER)) and not (leave and key.startswith(leave))
    }
    who = f"torchvision's weights {weights}"
    fill(model, counters | published | kept, who, f"do not fit {name}")
    return model
