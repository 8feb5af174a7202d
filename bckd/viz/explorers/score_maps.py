"""Score-map explorer: what a teacher and its students say at every location of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from bckd.geometry import box_similarity
from bckd.structures import DenseOutput
from bckd.system.errors import InputError
from bckd.system.nearest import expected
from bckd.viz.explorers.base import Explorer
from bckd.viz.explorers.map_data import map_data
from bckd.viz.location_losses import TEMPERATURE, binary_pull, softmax_pull
from bckd.viz.picture_outputs import (
    LITTLE,
    TOP_CLASSES,
    Kind,
    PictureOutputs,
    Protocol,
    checked_ground_truth,
    compared_outputs,
)
from bckd.viz.roles import roles_of

DIGITS = 6  # behind the point, of the values in `state`


class ScoreMapExplorer(Explorer):
    """A picture and the maps of all detectors beside it, with one cross-hair through them.

    The cross-hair is a cell, of a level, a row and a column. It begins at a cell of the
    background, and stays in its cell when the protocol or the kind of map changes. The browser
    computes both losses of the cell and their gradients, as `bckd.losses` does.

    `state` holds the settings, by the names of `choose`, "preset" (the guided step last pressed,
    or "") and "shown": `location_values` of the cell.

    Attributes:
        pictured: the numbers behind the maps.
    """

    stem = "score_maps"
    parts = ("losses",)

    def __init__(
        self,
        picture: np.ndarray,
        outputs: dict[str, DenseOutput],
        class_names: Sequence[str],
        ground_truth: tuple[Tensor, Tensor] | None = None,
        image: int = 0,
        **settings: Any,
    ) -> None:
        """Pack one picture's part of a batch's outputs.

        Args:
            picture: (H, W, 3) uint8, as the detectors saw it: padding included
                (`bckd.viz.pictures.pictures_of`).
            outputs: by name, the teacher's first, then those of one to three students; the names
                "labels", "softmax" and "BCKD" have the colours of these roles.
            class_names: the K names.
            ground_truth: boxes (G, 4) and labels (G,) of the picture.
            image: position of the picture in the batch.
            settings: to begin with, as `choose` takes them; by default the first guided step.

        Raises:
            InputError: as `compared_outputs`, `checked_ground_truth` and `choose` say, or the
                data exceeds 5 MB.
        """
        self.pictured = compared_outputs(picture, outputs, class_names, image)
        names = self.pictured.names
        truth = None if ground_truth is None else checked_ground_truth(ground_truth, class_names)
        places = {
            "background": self.pictured.background_location(),
            "object": self.pictured.object_location(),
            "haze": self.pictured.haze_location(None if truth is None else truth[0]),
        }
        cells = {name: self._cell(location) for name, location in places.items()}
        data = map_data(self.pictured) | {
            "models": list(names),
            "roles": roles_of(names),
            "centres": self.pictured.centres,
            # As bits: not every browser has an array of half precision.
            "logits": [self.pictured.logits[name].view(np.uint16) for name in names],
            "boxes": [self.pictured.boxes[name] for name in names],
            "top": TOP_CLASSES,
            "little": LITTLE,
            "temperature": TEMPERATURE,
            "cells": cells,
            "objects": None if truth is None else {"boxes": truth[0], "labels": truth[1]},
        }
        state = {
            "kind": get_args(Kind)[0],
            "protocol": get_args(Protocol)[0],
            "class_name": None,
            "stride": None,
            "cell": cells["background"],
            "ground_truth": ground_truth is not None,
            "preset": "" if settings else "background",
            "shown": None,
        }
        super().__init__(state=state, data=data)
        self.choose(**settings)

    def choose(self, **settings: Any) -> None:
        """Change settings; those not named stay.

        Args:
            kind: of the students' maps: "score", "difference" (to the teacher) or "pull" (size of
                a loss's gradient); the teacher's map is always its score.
            protocol: "sigmoid" or "softmax" (T = 1); of a pull, that of L_cls or of softmax
                distillation.
            class_name: one class, or None for all.
            stride: one level's, or None for the highest of all levels.
            cell: stride of the level, row and column of the cross-hair.
            ground_truth: show the annotated boxes.

        Raises:
            InputError: there is no such setting, kind, protocol, class, level or cell.
        """
        known = self.state.keys() - {"preset", "shown"}
        unknown = sorted(settings.keys() - known)
        if unknown:
            listed = expected(unknown[0], sorted(known))
            raise InputError(f"there is no setting {unknown[0]!r}; {listed}")
        state = {**self.state, **settings}
        self.pictured.check_view(state["kind"], state["protocol"])
        self.pictured.label(state["class_name"])
        self.pictured.level(state["stride"])
        location = self.pictured.location(state["cell"])
        state["cell"] = self._cell(location)
        state["preset"] = "" if settings else state["preset"]
        self.state = {**state, "shown": location_values(self.pictured, location)}

    def _cell(self, location: int) -> list[int]:
        level, row, column = self.pictured.cell(location)
        return [level.stride, row, column]


def location_values(pictured: PictureOutputs, location: int) -> dict[str, Any]:
    """What the explorer says of a location, rounded to six digits behind the point.

    Args:
        location: position among the A locations.

    Returns:
        "location" and "centre" (pixels); "classes", the top ones, best first, each with "name",
        "sigmoid" and "softmax" (score by detector) and "binary_gradient" and "softmax_gradient"
        (by student, on the student's logit); "boxes" and "mean_logit" by detector; by student
        "iou" (with the teacher's box), "binary_loss", "softmax_loss", and "binary_sum" and
        "softmax_sum", of the gradient over all K classes.
    """
    names = pictured.names
    scores = {p: {n: pictured.scores(n, p)[location] for n in names} for p in get_args(Protocol)}
    top = pictured.top_classes(location)
    classes: list[dict[str, Any]] = [
        {"name": pictured.class_names[label]}
        | {p: {n: _round(by_name[n][label]) for n in names} for p, by_name in scores.items()}
        for label in top
    ]
    boxes = {name: torch.from_numpy(pictured.boxes[name][location]) for name in names}
    iou = {name: box_similarity(boxes[name], boxes[names[0]]) for name in names[1:]}
    found: dict[str, Any] = {
        "location": location,
        "centre": pictured.centres[location].tolist(),
        "classes": classes,
        "boxes": {name: [_round(side) for side in box] for name, box in boxes.items()},
        "mean_logit": {n: _round(pictured.logits[n][location].astype(float).mean()) for n in names},
        "iou": {name: _round(similarity) for name, similarity in iou.items()},
    }
    logits = {n: torch.from_numpy(pictured.logits[n][location : location + 1]) for n in names}
    for key, pull in (("binary", binary_pull), ("softmax", softmax_pull)):
        pulls = {name: pull(logits[name], logits[names[0]]) for name in names[1:]}
        found[f"{key}_loss"] = {name: _round(loss) for name, (loss, _) in pulls.items()}
        found[f"{key}_sum"] = {
            name: _round(gradient.sum()) for name, (_, gradient) in pulls.items()
        }
        for own, label in zip(classes, top, strict=True):
            own[f"{key}_gradient"] = {n: _round(g[0, label]) for n, (_, g) in pulls.items()}
    return found


def _round(value: Any) -> float:
    return round(float(value), DIGITS)
