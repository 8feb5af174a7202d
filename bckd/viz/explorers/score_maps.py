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
from bckd.viz.explorers.map_data import checked_opacity, map_data
from bckd.viz.picture_outputs import (
    TOP_CLASSES,
    PictureOutputs,
    Protocol,
    checked_ground_truth,
    compared_outputs,
)

DIGITS = 6  # behind the point, of the values in `state`


class ScoreMapExplorer(Explorer):
    """A picture with a map on top; pointing at a location shows its scores and boxes.

    `state` holds the settings, by the names of `choose`, "pinned" (the location stays while
    the pointer moves) and "shown": `location_values` of the location at "point", or None.

    Attributes:
        pictured: the numbers behind the maps.
    """

    stem = "score_maps"

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
            outputs: by name, the teacher's first, then those of one or two students.
            class_names: the K names.
            ground_truth: boxes (G, 4) and labels (G,) of the picture.
            image: position of the picture in the batch.
            settings: to begin with, as `choose` takes them.

        Raises:
            InputError: as `compared_outputs`, `checked_ground_truth` and `choose` say, or the
                data exceeds 5 MB.
        """
        self.pictured = compared_outputs(picture, outputs, class_names, image)
        names = self.pictured.names
        data = map_data(self.pictured) | {
            "models": list(names),
            "centres": self.pictured.centres,
            # As bits: not every browser has an array of half precision.
            "logits": [self.pictured.logits[name].view(np.uint16) for name in names],
            "boxes": [self.pictured.boxes[name] for name in names],
            "top": TOP_CLASSES,
            "objects": None,
        }
        if ground_truth is not None:
            boxes, labels = checked_ground_truth(ground_truth, class_names)
            data["objects"] = {"boxes": boxes, "labels": labels}
        state = {
            "kind": "score",
            "model": names[0],
            "protocol": get_args(Protocol)[0],
            "class_name": None,
            "stride": None,
            "opacity": 0.6,
            "ground_truth": ground_truth is not None,
            "point": None,
            "pinned": False,
            "shown": None,
        }
        super().__init__(state=state, data=data)
        self.choose(**settings)

    def choose(self, **settings: Any) -> None:
        """Change settings; those not named stay.

        Args:
            kind: "score", "difference" (to the teacher) or "weight" (of L_loc).
            model: whose; a student's unless `kind` is "score".
            protocol: of the scores, "sigmoid" or "softmax" (T = 1).
            class_name: one class, or None for the highest of all classes.
            stride: one level's, or None for the highest of all levels.
            opacity: of the map, 0..1.
            ground_truth: show the annotated boxes.
            point: x and y in pixels, or None; the location there is pinned.

        Raises:
            InputError: there is no such setting, map, class or level, or the point is outside
                the picture.
        """
        known = self.state.keys() - {"pinned", "shown"}
        unknown = sorted(settings.keys() - known)
        if unknown:
            listed = expected(unknown[0], sorted(known))
            raise InputError(f"there is no setting {unknown[0]!r}; {listed}")
        state = {**self.state, **settings}
        self.pictured.check_view(state["kind"], state["model"], state["protocol"])
        state["opacity"] = checked_opacity(state["opacity"])
        label = self.pictured.label(state["class_name"])
        level = self.pictured.level(state["stride"])
        state["shown"] = None
        if "point" in settings:
            state["pinned"] = state["point"] is not None
        if state["point"] is not None:
            view = (state["kind"], state["model"], state["protocol"])
            values = self.pictured.values(*view, label)
            state["point"] = [float(each) for each in state["point"]]
            location = self.pictured.at_point(values, state["point"], level)
            state["shown"] = location_values(self.pictured, location, values[location])
        self.state = state


def location_values(pictured: PictureOutputs, location: int, value: float) -> dict[str, Any]:
    """What the explorer says of a location, rounded to six digits behind the point.

    Args:
        location: position among the A locations.
        value: of the map there.

    Returns:
        "location", "stride", "row", "column" and "centre" (pixels); "value"; "classes", the top
        ones, best first, each with "name", "sigmoid" and "softmax" (score by detector);
        "boxes" and "mean_logit" by detector; "iou" (with the teacher's box) and "weight" (of
        L_loc) by student.
    """
    level, row, column = pictured.cell(location)
    names = pictured.names
    scores = {p: {n: pictured.scores(n, p)[location] for n in names} for p in get_args(Protocol)}
    classes = [
        {"name": pictured.class_names[label]}
        | {p: {n: _round(by_name[n][label]) for n in names} for p, by_name in scores.items()}
        for label in pictured.top_classes(location)
    ]
    boxes = {name: torch.from_numpy(pictured.boxes[name][location]) for name in names}
    iou = {name: box_similarity(boxes[name], boxes[names[0]]) for name in names[1:]}
    return {
        "location": location,
        "stride": level.stride,
        "row": row,
        "column": column,
        "centre": pictured.centres[location].tolist(),
        "value": _round(value),
        "classes": classes,
        "boxes": {name: [_round(side) for side in box] for name, box in boxes.items()},
        "mean_logit": {n: _round(pictured.logits[n][location].astype(float).mean()) for n in names},
        "iou": {name: _round(similarity) for name, similarity in iou.items()},
        "weight": {n: _round(pictured.values("weight", n)[location]) for n in names[1:]},
    }


def _round(value: Any) -> float:
    return round(float(value), DIGITS)
