"""Valley and bowl: two classes, two losses over the student's two logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from bckd.system.errors import InputError
from bckd.viz.descent import descent_rules
from bckd.viz.explorers.base import Explorer
from bckd.viz.protocol_figure import THRESHOLD, check_logits, protocol_values

REACH = 8.0  # the axes end here
TEMPERATURE = 2.0  # of the softmax, as published


class ValleyAndBowl(Explorer):
    """Softmax distillation and L_cls as landscapes over a student's two logits.

    The student is a point in both; it and the teacher can be dragged. "Train both" lets two
    copies of the student roll downhill, as `bckd.viz.descent.descend` does.

    `state` holds the settings, "names", "teacher", "student" (logits), "temperature", "preset"
    (the guided step last pressed, or "") and "trained" (steps that the copies have taken), every
    value shown of the student under the names of `ProtocolValues`, and the copies' present
    logits, "by_softmax" and "by_binary".
    """

    stem = "valley_and_bowl"
    parts = ("losses", "descent", "landscape")

    def __init__(
        self,
        teacher: Sequence[float] = (2.0, -2.0),
        student: Sequence[float] = (3.0, 3.0),
        names: Sequence[str] = ("circle", "square"),
    ) -> None:
        """Start from these logits, to which the guided steps return.

        Args:
            teacher, student: two logits each, from -8 to 8.
            names: of the two classes.

        Raises:
            InputError: there are not two logits or names, or a logit is beyond the axes.
        """
        check_logits(teacher, student, names)
        if len(teacher) != 2:
            raise InputError(f"the landscapes are of 2 classes, not of {len(teacher)}")
        for owner, logits in (("teacher", teacher), ("student", student)):
            for logit in logits:
                if abs(logit) > REACH:
                    raise InputError(
                        f"a logit of the {owner} is {logit}; expected {-REACH:g} to {REACH:g}"
                    )
        start = {
            "teacher": [float(logit) for logit in teacher],
            "student": [float(logit) for logit in student],
        }
        values = asdict(protocol_values(teacher, student, temperature=TEMPERATURE))
        state = {
            "names": list(names),
            **start,
            "temperature": TEMPERATURE,
            "preset": "",
            "trained": 0,
            **{key: list(x) if isinstance(x, tuple) else x for key, x in values.items()},
            "by_softmax": start["student"],
            "by_binary": start["student"],
        }
        data = {
            "reach": REACH,
            "start": start,
            "threshold": THRESHOLD,
            "descent": descent_rules(),
        }
        super().__init__(state=state, data=data)
