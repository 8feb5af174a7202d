"""What detectors see on a few images that stay the same: boxes and score maps, as pictures."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from bckd.datasets.coco import CocoDataset
from bckd.models.dense import DenseDetector
from bckd.models.postprocess import postprocess
from bckd.reports.colours import SCORES, colour
from bckd.reports.score_maps import overlay, score_map
from bckd.structures import Batch

LONG_SIDE = 320  # pixels of a picture
THRESHOLD = 0.3  # boxes of a lower score are not drawn
# Pictures of an image, by what they show.
Pictures = dict[str, Image.Image]


def pick_images(validation: CocoDataset, count: int = 4) -> list[int]:
    """Positions of images with the most objects, by a fixed rule: the first of each tier."""
    counts = [len(validation.annotations.objects_of(x.id).labels) for x in validation.images]
    busiest = sorted(range(len(counts)), key=lambda index: (-counts[index], index))
    step = max(len(busiest) // (2 * count), 1)
    return busiest[: step * count : step][:count]


def seen_by_labels(batch: Batch) -> list[Pictures]:
    """Each image of a batch with the boxes of its objects."""
    truth = batch.ground_truth
    seen: list[Pictures] = []
    for n, picture in enumerate(_pictures_of(batch)):
        here = truth.objects[n]
        seen.append({"objects": _with_boxes(picture, truth.boxes[n][here], truth.labels[n][here])})
    return seen


@torch.no_grad()
def seen_by(detector: DenseDetector, batch: Batch, who: str) -> list[Pictures]:
    """Each image of a batch with the detector's boxes, and its highest score at every place.

    The detector is put into eval mode and left as it was found. Numbers that are none are drawn
    as 0.

    Args:
        batch: on the CPU.
        who: the detector's name in the titles of the pictures.
    """
    was_training = detector.training
    moved = batch.to(next(detector.parameters()).device)
    output = detector.eval()(moved.images)
    found = postprocess(output, moved.sizes, detector.settings)
    detector.train(was_training)
    seen: list[Pictures] = []
    for n, picture in enumerate(_pictures_of(batch)):
        boxes = found[n].boxes[found[n].scores >= THRESHOLD].cpu()
        labels = found[n].labels[found[n].scores >= THRESHOLD].cpu()
        height, width = batch.sizes[n].tolist()
        whole = (int(batch.pixels.shape[2]), int(batch.pixels.shape[3]))
        heat = np.nan_to_num(overlay(score_map(output, n), whole))[:height, :width]
        boxed = _with_boxes(picture, boxes.nan_to_num(), labels)
        seen.append({who: boxed, f"{who}, scores": _in_colours(heat, boxed.size)})
    return seen


def side_by_side(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures of one size as one."""
    return Image.fromarray(np.concatenate([np.asarray(x) for x in pictures], axis=1))


def _pictures_of(batch: Batch) -> list[Image.Image]:
    """The images of a batch without their padding."""
    pictures = []
    for pixels, (height, width) in zip(batch.pixels.cpu(), batch.sizes.tolist(), strict=True):
        pictures.append(Image.fromarray(pixels[:, :height, :width].permute(1, 2, 0).numpy()))
    return pictures


def _with_boxes(picture: Image.Image, boxes: Tensor, labels: Tensor) -> Image.Image:
    """The picture at `LONG_SIDE`, with boxes (D, 4) in pixels of the original."""
    scale = LONG_SIDE / max(picture.size)
    width, height = (max(round(scale * side), 1) for side in picture.size)
    large = picture.resize((width, height), Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(large)
    for box, label in zip((scale * boxes).tolist(), labels.tolist(), strict=True):
        left, right = (min(max(x, 0), width - 1) for x in (box[0], box[2]))
        top, bottom = (min(max(y, 0), height - 1) for y in (box[1], box[3]))
        if left <= right and top <= bottom:
            draw.rectangle((left, top, right, bottom), outline="white", width=4)
            draw.rectangle((left, top, right, bottom), outline=colour(label), width=3)
    return large


def _in_colours(values: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """A map (H, W) of 0..1 as a picture of that width and height."""
    pixels = matplotlib.colormaps[SCORES](values, bytes=True)[..., :3]
    return Image.fromarray(np.ascontiguousarray(pixels)).resize(size, Image.Resampling.NEAREST)
