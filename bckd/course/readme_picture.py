"""The picture at the top of the README: a teacher and two students on scenes.

    python -m bckd.course.readme_picture notebooks/figures/overview.png

It needs the committed weights, and draws the scenes anew.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure

from bckd.datasets.scene_drawing import draw_scene
from bckd.reports.score_maps import overlay, score_map
from bckd.structures import GroundTruth
from bckd.system.files import write_atomically
from bckd.viz.box_and_map_strip import box_and_map_strip
from bckd.zoo.checkpoints import load_detector

WEIGHTS = Path(__file__).parents[2] / "data" / "weights"
DETECTORS = {  # titles and files
    "teacher (0.92 M)": WEIGHTS / "scenes_teacher.safetensors",
    "student alone (63 k)": WEIGHTS / "students" / "none.safetensors",
    "student with BCKD": WEIGHTS / "students" / "bckd.safetensors",
}
SCENES = (0, 7)  # of the validation images, which nothing was trained on
DOTS = 200  # an inch: twice what the README shows it at, for fine screens


@torch.no_grad()
def readme_picture(scenes: Sequence[int] = SCENES) -> Figure:
    """Objects, detections and score maps of the committed detectors on validation scenes.

    Args:
        scenes: by their number, from 0.

    Raises:
        InputError: the committed weights are not there.
    """
    drawn = [draw_scene(0, number, "val") for number in scenes]
    pictures = [picture for picture, _ in drawn]
    truth = GroundTruth.from_lists(
        [torch.tensor([item.box for item in objects]) for _, objects in drawn],
        [torch.tensor([item.label for item in objects]) for _, objects in drawn],
    )
    pixels = torch.stack([torch.from_numpy(picture) for picture in pictures]).permute(0, 3, 1, 2)
    sizes = torch.tensor([picture.shape[:2] for picture in pictures])
    detections, maps = {}, {}
    names: tuple[str, ...] = ()
    for title, path in DETECTORS.items():
        detector = load_detector(path).detector
        images = detector.normalisation.apply(pixels / 255)
        output, names = detector(images), detector.class_names
        detections[title] = detector.detect(images, sizes)
        maps[title] = [overlay(score_map(output, n), p.shape[:2]) for n, p in enumerate(pictures)]
    return box_and_map_strip(pictures, truth, detections, maps, names)


if __name__ == "__main__":
    drawing = readme_picture()
    write_atomically(Path(sys.argv[1]), lambda part: drawing.savefig(part, format="png", dpi=DOTS))
