"""Training replay: one picture's score map as a run goes on, above the run's curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bckd.structures import DenseOutput
from bckd.system.errors import InputError
from bckd.system.nearest import expected
from bckd.viz.explorers.base import Explorer
from bckd.viz.explorers.map_data import checked_opacity, map_data
from bckd.viz.picture_outputs import outputs_of_picture
from bckd.viz.replay_curves import Curves, check_replay, value_at

SCORE_UNITS = 65535  # of a score in the data: 16 bits hold it to 1e-5


class TrainingReplay(Explorer):
    """Score maps of checkpoints along a run, moved through by a slider or played.

    `state` holds the settings, by the names of `choose`, and "shown": the "highest" and "mean"
    score of the map's locations, and each of the "curves" at the step (on the line between
    two values; None before the first).

    Attributes:
        pictured: the numbers behind the maps, by "step 100" and so on.
        scores: (S, A, K) sigmoid scores of the S checkpoints.
    """

    stem = "replay"

    def __init__(
        self,
        picture: np.ndarray,
        steps: Sequence[int],
        outputs: Sequence[DenseOutput],
        curves: Curves,
        class_names: Sequence[str],
        image: int = 0,
        **settings: Any,
    ) -> None:
        """Pack one picture's part of the checkpoints' outputs.

        Args:
            picture: (H, W, 3) uint8, as the detector saw it: padding included
                (`bckd.viz.pictures.pictures_of`).
            steps: of the checkpoints, growing.
            outputs: one a step, for the same batch.
            curves: by title, (step, value) pairs; may be empty (see `replay_data`).
            class_names: the K names.
            image: position of the picture in the batch.
            settings: to begin with, as `choose` takes them.

        Raises:
            InputError: as `check_replay`, `outputs_of_picture` and `choose` say, or the data
                exceeds 5 MB.
        """
        check_replay(steps, outputs, curves)
        named = {f"step {step}": output for step, output in zip(steps, outputs, strict=True)}
        self.pictured = outputs_of_picture(picture, named, class_names, image)
        self.steps, self.curves = list(steps), dict(curves)
        self.scores = np.stack([self.pictured.scores(name) for name in named])
        data = map_data(self.pictured) | {
            "steps": self.steps,
            "scores": (self.scores * SCORE_UNITS).round().astype(np.uint16),
            "curves": [
                {"title": title, "points": np.array(curve, dtype=np.float64)}
                for title, curve in curves.items()
            ],
        }
        state = {
            "step": self.steps[0],
            "class_name": None,
            "stride": None,
            "opacity": 0.6,
            "shown": None,
        }
        super().__init__(state=state, data=data)
        self.choose(**settings)

    def choose(self, **settings: Any) -> None:
        """Change settings; those not named stay.

        Args:
            step: of a checkpoint.
            class_name: one class, or None for the highest of all classes.
            stride: one level's, or None for the highest of all levels.
            opacity: of the map, 0..1.

        Raises:
            InputError: there is no such setting, checkpoint, class or level.
        """
        known = self.state.keys() - {"shown"}
        unknown = sorted(settings.keys() - known)
        if unknown:
            listed = expected(unknown[0], sorted(known))
            raise InputError(f"there is no setting {unknown[0]!r}; {listed}")
        state = {**self.state, **settings}
        if state["step"] not in self.steps:
            listed = ", ".join(str(each) for each in self.steps)
            raise InputError(
                f"there is no checkpoint of step {state['step']}; expected one of {listed}"
            )
        state["opacity"] = checked_opacity(state["opacity"])
        self.state = {**state, "shown": self._shown(state)}

    def _shown(self, state: dict[str, Any]) -> dict[str, Any]:
        label = self.pictured.label(state["class_name"])
        level = self.pictured.level(state["stride"])
        scores = self.scores[self.steps.index(state["step"])]
        values = scores.max(axis=1) if label is None else scores[:, label]
        if level is not None:
            values = values[np.unique(self.pictured.stack[level])]
        return {
            "highest": float(values.max()),
            "mean": float(values.mean()),
            "curves": {name: value_at(curve, state["step"]) for name, curve in self.curves.items()},
        }
