"""The frames of the replay, made anew: three students trained with a copy every ten steps.

    python -m bckd.course.replay_training data/weights/students/replay.safetensors

It draws the benchmark into data/scenes, trains the students of `METHODS` by the preset `scenes`
(seed 0, one thread) in runs/replay, where a training that was broken off goes on, and judges every
frame on the 400 validation scenes: 25 minutes on one core of a busy machine. On another machine
the last digits differ, and with them the weights.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch

from bckd.course.replay_data import Replay, drawn_scenes, save_replay
from bckd.datasets.coco import CocoDataset
from bckd.datasets.scenes import write_scenes
from bckd.evaluation.average_precision import evaluate
from bckd.models.dense import DenseDetector
from bckd.models.postprocess import postprocess
from bckd.recipes import Recipe
from bckd.recipes.presets import PRESETS, SCENES_TEACHER
from bckd.structures import DenseOutput, Detections
from bckd.training.data import validation_data
from bckd.training.run import snapshot
from bckd.training.student import build_student
from bckd.training.trainer import train
from bckd.viz.replay_frames import THRESHOLD
from bckd.zoo.checkpoints import load_detector

# As the committed students: weights of the distillation terms.
METHODS = {"labels": {}, "softmax": {"softmax": 0.75}, "BCKD": {"binary": 4.0, "iou": 16.0}}
SCENE = 3
EVERY = 10
WATCHED = 20  # validation scenes that a training is judged on while copies are kept
# Maps are born in the first 200 steps, so half of the frames are there.
STEPS = (0, 10, 20, 30, 40, 50, 60, 80, 100, 120, 150, 180, 200, 250, 300, 400, 500, 600, 800, 1000)


def main(path: Path, runs: Path = Path("runs/replay")) -> None:
    """Train the students, look at them at every step of `STEPS` and at the end, and write it."""
    torch.set_num_threads(1)
    outputs, detections, precision = {}, {}, {}
    for method in METHODS:
        recipe = recipe_of(method, runs / method)
        write_scenes(recipe.data.root)
        train(recipe, resume=True)
        judged = validation_data(replace(recipe.data, first_val=None))
        students = detectors_along(recipe, judged.annotations.class_names)
        frames = [frame(student, judged) for student in students]
        said, found, scored = zip(*frames, strict=True)
        outputs[method], detections[method], precision[method] = [*said], [*found], [*scored]
    steps = (*STEPS, PRESETS["scenes"].recipe.steps)
    save_replay(path, Replay(SCENE, steps, outputs, detections, precision))


def recipe_of(method: str, out: Path) -> Recipe:
    """The preset `scenes` with this method's weights."""
    recipe, weights = PRESETS["scenes"].recipe, METHODS[method]
    return replace(
        recipe,
        data=replace(recipe.data, first_val=WATCHED),
        weights=replace(recipe.weights, **({"binary": 0.0, "iou": 0.0} | weights)),
        teacher=SCENES_TEACHER if weights else None,
        evaluate_every=EVERY,
        device="cpu",
        out=out,
    )


def detectors_along(recipe: Recipe, class_names: tuple[str, ...]) -> list[DenseDetector]:
    """The student before its training, at the further steps of `STEPS`, and at the end."""
    copies = [snapshot(recipe.out, step) for step in STEPS[1:]]
    trained = [load_detector(path).detector for path in (*copies, recipe.out)]
    return [build_student(recipe, class_names).eval(), *trained]


@torch.no_grad()
def frame(
    detector: DenseDetector, judged: CocoDataset
) -> tuple[DenseOutput, list[Detections], float]:
    """A student's dense output of the scene, its detections on all scenes, its AP."""
    pixels, _ = drawn_scenes()
    output = detector(detector.normalisation.apply(pixels / 255))
    sizes = torch.tensor(pixels.shape[2:]).expand(len(pixels), 2)
    settings = replace(detector.settings, score_threshold=THRESHOLD)
    one = DenseOutput(output.cls_logits[[SCENE]], output.boxes[[SCENE]], output.locations)
    metrics, _ = evaluate(detector, judged, 16, progress=False)
    return one, postprocess(output, sizes, settings), metrics.AP


if __name__ == "__main__":
    main(Path(sys.argv[1]))
