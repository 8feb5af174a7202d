"""Groups of images, each of which the official code has on a GPU of its own.

The official code trains with two images a GPU, and some of what it does looks at these alone:
whether a level has a positive, LD's sums, RetinaNet's divisor, the least value of the others',
the size to which images are padded, a BatchNorm that learns. A group stands for such a GPU. Its
size, `images_per_group`, is part of the recipe; how many groups a process has is not, so that
a run is the same run on any number of processes. Groups are images in a row; None means that the
images of a step, of all processes together, are one group.
"""

from __future__ import annotations

from torch import Tensor

from bckd.system.distributed import (
    mean_over_processes,
    process_count,
    process_index,
    rows_of_all_processes,
)
from bckd.system.errors import InputError


def group_count(images: int, images_per_group: int | None) -> float:
    """Groups of this process, which has so many images; a fraction of one that is shared.

    The official loss of a GPU is the sum over its images divided by a mean over GPUs, and
    gradients are averaged over GPUs. So a process divides its own sum by that mean and by this.
    """
    return images / images_per_group if images_per_group else 1 / process_count()


def group_divisor(
    total: Tensor,
    images: int,
    images_per_group: int | None,
    least: float = 0.0,
    added: float = 0.0,
) -> Tensor:
    """What this process divides its sum by: the mean of a total over groups, at least so much.

    Args:
        total: scalar, over this process's images.
        images: of this process.
        least: of the mean, once `added` is added to it.
    """
    groups = group_count(images, images_per_group)
    mean = mean_over_processes(total) / groups
    return groups * (mean + added).clamp(min=least)


def sum_in_group(values: Tensor, images_per_group: int | None) -> Tensor:
    """The sum over its group, for every image: (N, ...) from (N, ...).

    Raises:
        InputError: the images are no whole number of groups.
    """
    own = len(values)
    spread = process_count() > 1 and (images_per_group is None or own % images_per_group != 0)
    every = rows_of_all_processes(values) if spread else values
    size = images_per_group or len(every)
    if len(every) % size:
        raise InputError(
            f"images_per_group is {size}; expected a divisor of the batch's {len(every)} images"
        )
    sums = every.unflatten(0, (-1, size)).sum(dim=1).repeat_interleave(size, dim=0)
    start = own * process_index() if spread else 0
    return sums[start : start + own]
