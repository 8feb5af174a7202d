"""Three trainings in frames: what the students said of one scene, and found on many, from step 0.

The committed file holds them; `bckd.course.replay_training` makes it anew.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bckd.datasets.scene_drawing import draw_scene
from bckd.structures import DenseOutput, Detections, Locations
from bckd.system.errors import InputError
from bckd.weights.tensor_files import read_tensors, save_tensors

SCENES_SEED, SCENES = 7, 40  # the validation scenes of the notebooks' small data set
_KIND = "bckd replay"  # in the header


@dataclass(frozen=True)
class Replay:
    """S frames of each student's training.

    Attributes:
        scene: number of the scene that is shown, among the 40.
        steps: that were taken before each frame; they grow.
        outputs: by student, of each frame the dense output of the scene, in 16 bits when saved.
        detections: by student, of each frame those of the 40 scenes, of a score of .3 or more.
        precision: by student, of each frame AP on the benchmark's 400 validation scenes.
    """

    scene: int
    steps: tuple[int, ...]
    outputs: dict[str, list[DenseOutput]]
    detections: dict[str, list[list[Detections]]]
    precision: dict[str, list[float]]


def drawn_scenes() -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """The 40 scenes as uint8 pixels (40, 3, 128, 128), and boxes and labels of their objects."""
    drawn = [draw_scene(SCENES_SEED, number, "val") for number in range(SCENES)]
    pixels = torch.stack([torch.from_numpy(picture) for picture, _ in drawn]).permute(0, 3, 1, 2)
    boxes = [torch.tensor([each.box for each in objects]).float() for _, objects in drawn]
    labels = [torch.tensor([each.label for each in objects]) for _, objects in drawn]
    return pixels, list(zip(boxes, labels, strict=True))


def save_replay(path: Path, replay: Replay) -> None:
    """Write the file of a replay; numbers of 32 bits become ones of 16."""
    tensors: dict[str, Tensor] = {}
    for name, outputs in replay.outputs.items():
        tensors[f"{name}.logits"] = torch.stack([each.cls_logits[0] for each in outputs]).half()
        tensors[f"{name}.boxes"] = torch.stack([each.boxes[0] for each in outputs]).half()
        of_scenes = [each for frame in replay.detections[name] for each in frame]
        counts = torch.tensor([len(each.scores) for each in of_scenes])
        tensors[f"{name}.detections.counts"] = counts.view(len(outputs), -1).short()
        tensors[f"{name}.detections.boxes"] = torch.cat([x.boxes for x in of_scenes]).half()
        tensors[f"{name}.detections.scores"] = torch.cat([x.scores for x in of_scenes]).half()
        tensors[f"{name}.detections.labels"] = torch.cat([x.labels for x in of_scenes]).byte()
    told = {
        "scene": replay.scene,
        "steps": replay.steps,
        "precision": {
            name: [round(value, 4) for value in values] for name, values in replay.precision.items()
        },
    }
    save_tensors(path, tensors, {_KIND: json.dumps(told)})


def read_replay(path: Path, locations: Locations) -> Replay:
    """The replay of a file.

    Args:
        locations: of a detector of the benchmark at a scene, such as its teacher's.

    Raises:
        InputError: the file is absent or no replay, or of other locations.
    """
    tensors, header = read_tensors(path)
    if _KIND not in header:
        raise InputError(f"{path} is no replay; expected what bckd.course.replay_training writes")
    told = json.loads(header[_KIND])
    outputs, detections = {}, {}
    for name in told["precision"]:
        logits, boxes = (tensors[f"{name}.{part}"].float() for part in ("logits", "boxes"))
        if logits.shape[1] != len(locations.centres):
            raise InputError(
                f"{path} is of {logits.shape[1]} locations; these are {len(locations.centres)}"
            )
        pairs = zip(logits, boxes, strict=True)
        outputs[name] = [DenseOutput(one[None], box[None], locations) for one, box in pairs]
        counts = tensors[f"{name}.detections.counts"].tolist()
        detections[name] = _in_frames(counts, _detections(tensors, name))
    steps = tuple(told["steps"])
    return Replay(told["scene"], steps, outputs, detections, told["precision"])


def _detections(tensors: dict[str, Tensor], name: str) -> Detections:
    """All of a student's, one frame and scene after the other."""
    boxes, scores, labels = (
        tensors[f"{name}.detections.{part}"] for part in ("boxes", "scores", "labels")
    )
    return Detections(boxes.float(), scores.float(), labels.long())


def _in_frames(counts: list[list[int]], every: Detections) -> list[list[Detections]]:
    """The detections of each frame and scene."""
    sizes = [count for of_frame in counts for count in of_frame]
    parts = zip(*(x.split(sizes) for x in (every.boxes, every.scores, every.labels)), strict=True)
    of_scenes = [Detections(*part) for part in parts]
    scenes = len(counts[0])
    return [of_scenes[first : first + scenes] for first in range(0, len(of_scenes), scenes)]
