"""Protocol lab: drag one location's logits and see which loss notices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from bckd.system.errors import InputError
from bckd.viz.descent import descent_rules
from bckd.viz.explorers.base import Explorer
from bckd.viz.protocol_figure import CLASS_NAMES, THRESHOLD, check_logits, protocol_values

TEMPERATURES = (1.0, 2.0, 4.0)


class ProtocolLab(Explorer):
    """Teacher's and student's logits of one location as bars to drag, and both losses of them.

    The browser computes what `bckd.viz.protocol_figure.protocol_values` computes here, and
    "Train both" what `bckd.viz.descent.descend` does. `state` holds the settings, "names",
    "teacher", "student" (logits), "temperature", "detach_weight", "preset" (the last one pressed,
    or "") and "trained" (steps that the two copies have taken), every value shown, under the
    names of `ProtocolValues`, and the copies' present logits, "by_softmax" and "by_binary".
    """

    stem = "protocol_lab"
    parts = ("losses", "descent")

    def __init__(
        self,
        teacher: Sequence[float] = (2.0, -2.0, -4.0, -3.0),
        student: Sequence[float] = (0.5, -1.0, -2.0, -3.5),
        names: Sequence[str] | None = None,
        *,
        temperature: float = 2.0,
        detach_weight: bool = False,
    ) -> None:
        """Start from these logits.

        Args:
            teacher, student: class logits of one location, 1 to 8.
            names: of the classes; by default `CLASS_NAMES`.
            temperature: of the softmax, one of `TEMPERATURES`.
            detach_weight: the weight of L_cls is a constant (the formula leaves it open); the
                official code lets the gradient flow through it.

        Raises:
            InputError: the logits differ in length, are none or too many, a number is not
                finite, there is not one name a class, or the temperature is another.
        """
        check_logits(teacher, student, names)
        if temperature not in TEMPERATURES:
            choices = ", ".join(f"{choice:g}" for choice in TEMPERATURES)
            raise InputError(f"the temperature is {temperature}; expected one of {choices}")
        values = protocol_values(
            teacher, student, temperature=temperature, detach_weight=detach_weight
        )
        settings = {
            "names": list(CLASS_NAMES[: len(teacher)] if names is None else names),
            "teacher": [float(logit) for logit in teacher],
            "student": [float(logit) for logit in student],
            "temperature": float(temperature),
            "detach_weight": detach_weight,
            "preset": "",
            "trained": 0,
        }
        shown = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(values).items()
        }
        copies = {"by_softmax": settings["student"], "by_binary": settings["student"]}
        data = {"names": list(CLASS_NAMES), "threshold": THRESHOLD, "descent": descent_rules()}
        super().__init__(state={**settings, **shown, **copies}, data=data)
