"""Live lab: a teacher and its students, running in the page on a scene that the reader makes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bckd.datasets.scene_drawing import class_names, unit_shape
from bckd.datasets.scene_painting import IMAGE_SIZE, SceneDescription
from bckd.models.dense import DenseDetector
from bckd.system.errors import InputError
from bckd.viz.explorers.base import Explorer
from bckd.viz.explorers.network_weights import packed_network
from bckd.viz.explorers.scene_data import scene_data, scene_items

ROLES = ("teacher", "none", "softmax", "BCKD")  # whose weights it shows, in this order
THRESHOLD = 0.4  # of the scores of the detections that are shown at first


class LiveLab(Explorer):
    """A scene to change by hand, and the score maps of four detectors that follow.

    `state` holds the settings: "scene" (the name of the one given), its "items" from the back to
    the front (`scene_items`), "blur" (pixels), "reading" ("sigmoid" or "softmax"), "class_name"
    (None: the highest of all), "threshold" of the detections, "selected" (an item's place, or
    None) and "preset" (the guided step, or ""). "shown" is None until the page has computed, then
    "objects" (how many there are) and, by detector, how many are "found", the "false_alarms" and
    of the students the "gap": mean absolute difference to the teacher's scores in the reading.
    """

    stem = "live_lab"
    parts = (
        "detections",
        "label_targets",
        "lab_numbers",
        "lab_workers",
        "scene_items",
        "scene_editor",
        "lab_steps",
        "lab_controls",
    )
    worker_parts = ("network", "detections", "scene_drawing", "live_lab_worker")

    def __init__(
        self, networks: Mapping[str, DenseDetector], scenes: Mapping[str, SceneDescription]
    ) -> None:
        """Pack networks and scenes; the page begins with the first scene.

        Args:
            networks: GFL detectors of the scenes' six classes on the small ResNet, by `ROLES`.
            scenes: by name, as they are listed.

        Raises:
            InputError: the networks are not those of `ROLES`, have other classes, or are of
                another kind (`packed_network`); there is no scene; or the data exceeds 5 MB.
        """
        _check(networks, scenes)
        teacher = networks["teacher"]
        settings = teacher.settings
        given: list[dict[str, Any]] = [
            {"name": name, "items": scene_items(scene), **scene_data(scene)}
            for name, scene in scenes.items()
        ]
        data = {
            "networks": {role: packed_network(networks[role]) for role in ROLES},
            "classes": list(teacher.class_names),
            "levels": [[s, IMAGE_SIZE // s, IMAGE_SIZE // s] for s in teacher.strides],
            "detection": {
                "threshold": settings.score_threshold,
                "perLevel": settings.candidates_per_level,
                "overlap": settings.nms_iou,
                "most": settings.max_detections,
            },
            "units": [_unit(label) for label in range(len(class_names()))],
            "scenes": given,
        }
        state: dict[str, Any] = {
            "scene": given[0]["name"],
            "items": given[0]["items"],
            "blur": 0.0,
            "reading": "sigmoid",
            "class_name": None,
            "threshold": THRESHOLD,
            "selected": None,
            "preset": "ordinary",
            "shown": None,
        }
        super().__init__(state=state, data=data)


def _check(networks: Mapping[str, DenseDetector], scenes: Mapping[str, SceneDescription]) -> None:
    if set(networks) != set(ROLES):
        found = ", ".join(networks) or "none"
        raise InputError(f"the live lab shows the networks {', '.join(ROLES)}; found {found}")
    for role, network in networks.items():
        if tuple(network.class_names) != class_names():
            raise InputError(
                f"the classes of {role} are {', '.join(network.class_names)}; expected those of "
                f"the scenes: {', '.join(class_names())}"
            )
    if not scenes:
        raise InputError("no scene was given; expected at least one")


def _unit(label: int) -> dict[str, Any]:
    shape = unit_shape(label)
    return {"points": shape.points.tolist(), "hole": shape.hole}
