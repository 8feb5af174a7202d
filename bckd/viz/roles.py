"""Who is who among compared detectors, by the names that they are shown under."""

from __future__ import annotations

from collections.abc import Sequence

from bckd.viz.style import PALETTE, ROLE_COLOURS

# Names that say what a student was taught by.
ROLES = {
    "labels": "labels",
    "labels alone": "labels",
    "none": "labels",
    "softmax": "softmax",
    "BCKD": "BCKD",
}
# Students of other names, by their order.
OTHERS = {"student": ROLE_COLOURS["student"], "second": PALETTE[3], "third": PALETTE[4]}
COLOURS = ROLE_COLOURS | OTHERS


def roles_of(names: Sequence[str]) -> list[str]:
    """The role of each detector, a key of `COLOURS`.

    Args:
        names: the teacher's first, then those of at most three students.
    """
    others = iter(OTHERS)
    return ["teacher", *(ROLES.get(name) or next(others) for name in names[1:])]
