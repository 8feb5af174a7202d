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
from bckd.structures import Batch, DenseOutput

LONG_SIDE = 320  # pixels of a picture
THRESHOLD = 0.3  # boxes of a lower score are not drawn
_DASH = 6  # pixels
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
        boxed = _with_boxes(picture, boxes.nan_to_num(), labels)
        seen.append({who: boxed, f"{who}, scores": _scores_of(output, batch, n, boxed.size)})
    return seen


@torch.no_grad()
def scores_seen_by(detector: DenseDetector, batch: Batch) -> Image.Image:
    """The detector's highest score at every place of a batch of one image; arguments as above."""
    was_training = detector.training
    output = detector.eval()(batch.to(next(detector.parameters()).device).images)
    detector.train(was_training)
    return _scores_of(output, batch, 0, _at_long_side(*batch.sizes[0].flip(0).tolist()))


def _scores_of(output: DenseOutput, batch: Batch, n: int, size: tuple[int, int]) -> Image.Image:
    height, width = batch.sizes[n].tolist()
    whole = (int(batch.pixels.shape[2]), int(batch.pixels.shape[3]))
    heat = np.nan_to_num(overlay(score_map(output, n), whole))[:height, :width]
    return _in_colours(heat, size)


def with_outlines(
    picture: Image.Image, outlines: Sequence[tuple[Sequence[float], str, bool]]
) -> Image.Image:
    """The picture at `LONG_SIDE` with boxes on it.

    Args:
        outlines: of each box its corners, xyxy in pixels of the original, its colour, and whether
            its line is broken.
    """
    large = picture.resize(_at_long_side(*picture.size), Image.Resampling.BILINEAR)
    scale, draw = LONG_SIDE / max(picture.size), ImageDraw.Draw(large)
    for corners, edge, broken in outlines:
        left, top, right, bottom = _within([scale * x for x in corners], *large.size)
        if left > right or top > bottom:
            continue
        draw.rectangle((left, top, right, bottom), outline="black" if broken else "white", width=4)
        if not broken:
            draw.rectangle((left, top, right, bottom), outline=edge, width=3)
            continue
        for start in np.arange(left, right, 2 * _DASH).tolist():
            for y in (top, bottom):
                draw.line((start, y, min(start + _DASH, right), y), fill=edge, width=3)
        for start in np.arange(top, bottom, 2 * _DASH).tolist():
            for x in (left, right):
                draw.line((x, start, x, min(start + _DASH, bottom)), fill=edge, width=3)
    return large


def _at_long_side(width: int, height: int) -> tuple[int, int]:
    """The width and height of a picture of this one's shape."""
    scale = LONG_SIDE / max(width, height)
    return max(round(scale * width), 1), max(round(scale * height), 1)


def _within(corners: Sequence[float], width: int, height: int) -> tuple[float, ...]:
    left, right = (min(max(x, 0), width - 1) for x in (corners[0], corners[2]))
    top, bottom = (min(max(y, 0), height - 1) for y in (corners[1], corners[3]))
    return left, top, right, bottom


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
    """The picture with boxes (D, 4) in pixels of the original, coloured by class."""
    pairs = zip(boxes.tolist(), labels.tolist(), strict=True)
    return with_outlines(picture, [(box, colour(label), False) for box, label in pairs])


def _in_colours(values: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """A map (H, W) of 0..1 as a picture of that width and height."""
    pixels = matplotlib.colormaps[SCORES](values, bytes=True)[..., :3]
    return Image.fromarray(np.ascontiguousarray(pixels)).resize(size, Image.Resampling.NEAREST)
