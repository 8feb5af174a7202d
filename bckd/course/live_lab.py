"""The live lab of the course: the committed detectors on the first validation pictures."""

from __future__ import annotations

from pathlib import Path

from bckd.datasets.scene_drawing import describe_scene
from bckd.models.detector import Detector
from bckd.system.errors import InputError
from bckd.viz.explorers.live_lab import LiveLab
from bckd.zoo.checkpoints import load_detector

WEIGHTS = {
    "teacher": "scenes_teacher.safetensors",
    "none": "students/none.safetensors",
    "softmax": "students/softmax.safetensors",
    "BCKD": "students/bckd.safetensors",
}
PICTURES = range(6)  # of the validation split, not chosen


def live_lab(data: Path = Path("../data")) -> LiveLab:
    """The lab with the committed teacher and students.

    Args:
        data: the repository's data folder, as seen from the working folder.

    Raises:
        InputError: a file of weights is absent or another one.
    """
    scenes = {f"validation picture {n + 1}": describe_scene(0, n, "val") for n in PICTURES}
    return LiveLab(committed_detectors(data), scenes)


def committed_detectors(data: Path = Path("../data")) -> dict[str, Detector]:
    """The committed teacher and students of the scenes, by role.

    Raises:
        InputError: a file of weights is absent or another one.
    """
    found = {}
    for role, name in WEIGHTS.items():
        detector = load_detector(data / "weights" / name).detector
        if not isinstance(detector, Detector):
            raise InputError(f"{name} holds a {type(detector).__name__}; expected a Detector")
        found[role] = detector
    return found
