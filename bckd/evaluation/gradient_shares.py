"""How much each loss term pulls at the class logits of objects and of background."""

from __future__ import annotations

import torch
from torch import Tensor

from bckd.system.errors import InputError


def gradient_shares(
    weighted: dict[str, Tensor], cls_logits: Tensor, positive: Tensor, valid: Tensor
) -> dict[str, dict[str, float]]:
    """L1 norm of each loss term's gradient with respect to the class logits, by place.

    Nothing is accumulated into any `.grad`, and the graph stays for the backward pass.

    Args:
        weighted: scalar terms by name, weights applied.
        cls_logits: (N, A, K), as the terms were computed from them.
        positive: (N, A) bool.
        valid: (N, A) bool, as in `Assignment`.

    Returns:
        By name of the term: "foreground", sum over the positives and all classes of
        |d term / d logit|, and "background", the same over the other valid locations.
        Terms that do not depend on the class logits are left out.

    Raises:
        InputError: the logits take no gradient, or shapes do not correspond.
    """
    if not cls_logits.requires_grad:
        raise InputError("cls_logits take no gradient; expected those the terms were computed from")
    for name, mask in (("positive", positive), ("valid", valid)):
        if mask.shape != cls_logits.shape[:-1]:
            raise InputError(
                f"{name} has shape {tuple(mask.shape)}; expected {tuple(cls_logits.shape[:-1])}, "
                f"one value a location of cls_logits"
            )
    shares = {}
    for name, term in weighted.items():
        if not term.requires_grad:
            continue
        (gradient,) = torch.autograd.grad(term, cls_logits, retain_graph=True, allow_unused=True)
        if gradient is None:
            continue
        size = gradient.abs().sum(dim=-1).cpu().double()  # (N, A); some devices have no double
        shares[name] = {
            "foreground": size[positive.cpu()].sum().item(),
            "background": size[(valid & ~positive).cpu()].sum().item(),
        }
    return shares


def parts_of_gradient(sizes: dict[str, dict[str, float]]) -> dict[str, float]:
    """What `gradient_shares` gives, as each term's part of the sum over terms and places.

    Empty where there is no gradient, or one that is no number.
    """
    of_term = {name: sum(places.values()) for name, places in sizes.items()}
    whole = sum(of_term.values())
    return {name: size / whole for name, size in of_term.items()} if whole > 0 else {}
