"""How much each loss term pulls: at the class logits, by place, and at the student as a whole.

Only terms that look at the class logits have a gradient there. What all terms share, those of
features and boxes too, are the parameters in front of the head: `pull_of_terms` measures these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import inf

import torch
from torch import Tensor, nn

from bckd.system.distributed import mean_over_processes
from bckd.system.errors import InputError

# The flat gradient of each of some scalars on some parameters, one after the other.
Gradients = Callable[[Sequence[Tensor], Sequence[Tensor]], Iterable[Tensor]]


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


def pulled_parameters(student: nn.Module) -> list[nn.Parameter]:
    """The parameters that every term can move: those that learn and are no part of a `head`.

    The head's own are left out, as no term of features reaches them, and as the bias of the class
    logits, one number a class, would outweigh all others. Of a student that has nothing else, or
    calls nothing its head, they are all that learn.
    """
    learning = {name: x for name, x in student.named_parameters() if x.requires_grad}
    front = [x for name, x in learning.items() if "head" not in name.split(".")]
    return front or [*learning.values()]


def flat_gradients(terms: Sequence[Tensor], parameters: Sequence[Tensor]) -> Iterator[Tensor]:
    """Each scalar's gradient on the parameters as one vector; the graph stays."""
    for term in terms:
        yield flat_gradient([term], parameters)


def flat_gradient(
    outputs: Sequence[Tensor],
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor] | None = None,
) -> Tensor:
    """The gradient on all parameters as one vector, 0 where there is none.

    Args:
        outputs: scalars, or any tensors whose own gradients are given.

    Returns:
        float32, as long as all parameters together. The graph stays, no `.grad` changes.
    """
    found: Sequence[Tensor | None] = [None] * len(parameters)
    if outputs and all(x.requires_grad for x in outputs):
        found = torch.autograd.grad(
            outputs, parameters, gradients, retain_graph=True, allow_unused=True
        )
    pairs = zip(parameters, found, strict=True)
    return torch.cat([(torch.zeros_like(x) if g is None else g).reshape(-1) for x, g in pairs])


def pull_of_terms(
    weighted: dict[str, Tensor],
    parameters: Sequence[Tensor],
    gradients: Gradients = flat_gradients,
) -> dict[str, Tensor]:
    """The L2 norm of each loss term's gradient on the parameters; all processes take part.

    It is that of all processes' images, on any number of processes, and the host waits for
    nothing. It costs a backward pass a term.

    Args:
        weighted: scalar terms by name, weights applied.
        parameters: see `pulled_parameters`.
        gradients: how a term's gradient is found.

    Returns:
        Scalars by the terms' names, 0 of a term that reaches none of the parameters.
    """
    found = gradients([*weighted.values()], parameters)
    pairs = zip(weighted, found, strict=True)
    return {name: mean_over_processes(gradient).norm() for name, gradient in pairs}


def shares_of_pull(pull: dict[str, Tensor]) -> dict[str, float]:
    """Each term's part of the sum of all pulls; the host waits for it.

    Empty where nothing pulls, or a pull is no finite number.
    """
    sizes = torch.stack([*pull.values()]).tolist() if pull else []
    whole = sum(sizes)
    return dict(zip(pull, (x / whole for x in sizes), strict=True)) if 0 < whole < inf else {}
