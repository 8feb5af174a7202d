"""What is compared on photographs, by how many of them have labels.

CrossKD is not among it: its teacher's head reads the student's maps, and NanoDet-m's heads are one
a level, of another kind than the students'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from bckd.studies.label_files import OTHER_THRESHOLDS, STUDENTS_SIDE
from bckd.studies.methods import PSEUDO
from bckd.studies.photographs import Labels, labelled_alone, learning_from
from bckd.studies.study import Method

# What two cores compare where all photographs have labels: both protocols, each with L_loc too, and
# one after the other; and where few or none have.
PROTOCOLS = ("none", "softmax", "BCKD", "softmax + L_loc", "softmax, then BCKD")
BARE = ("none", "softmax", "BCKD")  # with few labels and none, beside pseudo-labels
METHODS = (*PROTOCOLS, "L_cls", "YOLOv6", "MGD", "MGD + BCKD")
WITHOUT_L_LOC = Method("BCKD without L_loc", {"binary": 1.0}, swept=False, scale_of="BCKD")


def compared(methods: Sequence[Method], labels: Labels) -> tuple[Method, ...]:
    """What a regime compares: with labels for some images or none, pseudo-labels too.

    Args:
        methods: with published weights of 20 classes; "none" comes first.
    """
    none, *taught = methods
    if labels == "all":
        return (none, *taught)
    pseudo = Method(PSEUDO, changes=learning_from(labels))
    if labels == "none":  # of which nobody learns without a teacher
        return (pseudo, *taught)
    return (replace(none, changes=labelled_alone(labels)), pseudo, *taught)


# Of the teacher as distillation hears it, on the students' images.
SMALL_PSEUDO = Method(
    f"{PSEUDO} at {STUDENTS_SIDE} pixels", changes=learning_from("none", side=STUDENTS_SIDE)
)


def other_pseudo(labels: Labels) -> tuple[Method, ...]:
    """Pseudo-labels of other scores than those of `compared`."""
    return tuple(
        Method(f"{PSEUDO} from {threshold}", changes=learning_from(labels, threshold=threshold))
        for threshold in OTHER_THRESHOLDS
    )


def with_pseudo(methods: Mapping[str, Method], labels: Labels) -> tuple[Method, ...]:
    """Both protocols beside pseudo-labels, on the images that have no other labels."""
    return tuple(
        Method(
            f"{name} + {PSEUDO}",
            methods[name].weights,
            learning_from(labels),
            swept=False,
            scale_of=name,
        )
        for name in BARE[1:]
    )
