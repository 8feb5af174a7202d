"""Training replay: a teacher's map and those of its students as their trainings go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from bckd.structures import DenseOutput, Detections
from bckd.system.errors import InputError
from bckd.system.nearest import expected
from bckd.viz.explorers.base import Explorer
from bckd.viz.explorers.map_data import map_data
from bckd.viz.picture_outputs import checked_ground_truth
from bckd.viz.replay_curves import Curves, check_replay, value_at
from bckd.viz.replay_frames import THRESHOLD, Frames, found_on, frames_of
from bckd.viz.roles import roles_of

SCORE_UNITS = 65535  # of a score in the data: 16 bits hold it to 1e-5
LOWEST = 0.05  # threshold, below which nothing was kept


class Phase(NamedTuple):
    """A part of the trainings, from a step on: the step, a few words, and what to see there."""

    step: int
    title: str
    caption: str


class TrainingReplay(Explorer):
    """Maps and boxes of a teacher and its students, all students after the same steps.

    `state` holds the settings, by the names of `choose`, and "shown": by detector the "objects"
    that it has a box of at the threshold, those "named" rightly, and its "highest" score; and by
    title and detector the "curves" at the step (on the line between two values; None before the
    first).

    Attributes:
        frames: the numbers behind the maps.
    """

    stem = "replay"

    def __init__(
        self,
        picture: np.ndarray,
        steps: Sequence[int],
        teacher: DenseOutput,
        students: Mapping[str, Sequence[DenseOutput]],
        class_names: Sequence[str],
        ground_truth: tuple[Tensor, Tensor],
        curves: Curves,
        phases: Sequence[Phase],
        **settings: Any,
    ) -> None:
        """Pack what all of them say of one picture.

        Args:
            picture: (H, W, 3) uint8, as the detectors saw it: padding included
                (`bckd.viz.pictures.pictures_of`).
            steps: that were taken before each frame, growing.
            teacher: of the picture alone, as are the students'.
            students: of one to three, by name, an output a frame; the names "labels", "softmax"
                and "BCKD" have the colours of these roles.
            class_names: the K names.
            ground_truth: boxes (G, 4) and labels (G,) of the picture.
            curves: by title and name of a detector, (step, value) pairs; may be empty.
            phases: the guided steps, in order, each at the step of a frame.
            settings: to begin with, as `choose` takes them.

        Raises:
            InputError: as `check_replay`, `frames_of`, `checked_ground_truth` and `choose` say, a
                phase has no frame, a curve's detector is unknown, or the data exceeds 5 MB.
        """
        check_replay(steps, students, curves)
        self.frames = frames_of(picture, teacher, students, class_names)
        self.steps, self.curves = list(steps), curves
        names = list(self.frames.scores)
        boxes, labels = checked_ground_truth(ground_truth, class_names)
        self.objects = (torch.from_numpy(boxes), torch.tensor(labels))
        for phase in phases:
            self._frame(phase.step)
        data = map_data(self.frames.pictured) | {
            "models": names,
            "roles": roles_of(names),
            "steps": self.steps,
            **_packed_frames(self.frames, names),
            "objects": {"boxes": boxes, "labels": labels},
            "curves": _packed_curves(curves, names),
            "phases": [phase._asdict() for phase in phases],
            "lowest": LOWEST,
        }
        state = {
            "step": self.steps[0],
            "kind": "score",
            "class_name": None,
            "stride": None,
            "threshold": THRESHOLD,
            "shown": None,
        }
        super().__init__(state=state, data=data)
        self.choose(**settings)

    def choose(self, **settings: Any) -> None:
        """Change settings; those not named stay.

        Args:
            step: of a frame.
            kind: of the students' maps, "score" or "difference" (to the teacher).
            class_name: one class, or None for the highest of all classes.
            stride: one level's, or None for the highest of all levels.
            threshold: score from which a box is drawn, .05 to 1.

        Raises:
            InputError: there is no such setting, frame, kind, class or level.
        """
        known = self.state.keys() - {"shown"}
        unknown = sorted(settings.keys() - known)
        if unknown:
            listed = expected(unknown[0], sorted(known))
            raise InputError(f"there is no setting {unknown[0]!r}; {listed}")
        state = {**self.state, **settings}
        if state["kind"] not in ("score", "difference"):
            listed = expected(state["kind"], ("score", "difference"))
            raise InputError(f"there is no kind {state['kind']!r}; {listed}")
        if not LOWEST <= state["threshold"] <= 1:
            raise InputError(f"the threshold is {state['threshold']}; expected {LOWEST} to 1")
        self.frames.pictured.label(state["class_name"])
        self.frames.pictured.level(state["stride"])
        self.state = {**state, "shown": self._shown(state["step"], state["threshold"])}

    def _frame(self, step: int) -> int:
        if step not in self.steps:
            listed = ", ".join(str(each) for each in self.steps)
            raise InputError(f"there is no frame of step {step}; expected one of {listed}")
        return self.steps.index(step)

    def _shown(self, step: int, threshold: float) -> dict[str, Any]:
        frame = self._frame(step)
        shown: dict[str, Any] = {}
        for name, detections in self.frames.detections.items():
            found = found_on(detections[frame], *self.objects, threshold)
            highest = round(float(self.frames.scores[name][frame].max()), 4)
            shown[name] = {"objects": found.found, "named": found.named, "highest": highest}
        curves = {
            title: {name: value_at(curve, step) for name, curve in of_title.items()}
            for title, of_title in self.curves.items()
        }
        return {"detectors": shown, "curves": curves}


def _packed_frames(frames: Frames, names: Sequence[str]) -> dict[str, Any]:
    """What each detector says, the teacher's once: it doesn't change."""
    kept = {name: slice(1 if name == names[0] else None) for name in names}
    return {
        "scores": [_units(frames.scores[name][kept[name]]) for name in names],
        "detections": [
            [_listed(found) for found in frames.detections[name][kept[name]]] for name in names
        ],
    }


def _packed_curves(curves: Curves, names: Sequence[str]) -> list[dict[str, Any]]:
    """Curves as arrays; of no other detector than these."""
    packed = []
    for title, of_title in curves.items():
        for name in sorted(set(of_title) - set(names)):
            raise InputError(f"curve {title!r} is of {name!r}; {expected(name, names)}")
        lines = {name: np.array(curve, dtype=np.float64) for name, curve in of_title.items()}
        packed.append({"title": title, "lines": lines})
    return packed


def _units(scores: np.ndarray) -> np.ndarray:
    return (scores * SCORE_UNITS).round().astype(np.uint16)


def _listed(found: Detections) -> dict[str, np.ndarray]:
    """Detections as arrays."""
    return {
        "boxes": found.boxes.detach().numpy().astype(np.float32),
        "scores": found.scores.detach().numpy().astype(np.float32),
        "labels": found.labels.numpy().astype(np.uint8),
    }
