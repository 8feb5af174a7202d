"""Packages that only a part of bckd needs: an extra of its installation brings them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bckd.system.errors import InputError


@contextmanager
def extra(name: str, what: str) -> Iterator[None]:
    """Import within the block what an extra brings.

    Args:
        name: of the extra.
        what: what needs it, for the message.

    Raises:
        InputError: a package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise InputError(
            f"{what} needs the package {error.name}: pip install 'bckd[{name}]'"
        ) from error
