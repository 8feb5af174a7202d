"""The device that a name means, on this machine."""

from __future__ import annotations

import torch

from bckd.system.errors import InputError


def pick_device(name: str) -> torch.device:
    """The device of that name; "auto" is cuda where there is one, else cpu.

    Raises:
        InputError: there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        trial = torch.zeros(1, device=name)
        trial.item()  # a device that computes nothing, such as meta, has no numbers either
        return trial.device
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {name!r} is not available on this machine") from error
