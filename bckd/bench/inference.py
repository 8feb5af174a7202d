"""Inference: images to detections, by the network and by what comes after it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from bckd.bench.flop import flop_of_an_image
from bckd.bench.random_batches import random_batch
from bckd.bench.results import Line
from bckd.bench.subject import Subject, network_of
from bckd.bench.timing import timed
from bckd.models.detector import Detector
from bckd.models.postprocess import PostProcess, postprocess
from bckd.system.memory import forget_memory, most_memory
from bckd.system.precision import computing_in

PART = "inference"
BATCHES = (1, 16)  # images
_CANDIDATES = 2000  # pairs of location and class that pass a trained detector's threshold, an image


def time_inference(subject: Subject) -> Iterator[Line]:
    """Lines of detection, and of its two halves, for each number of images."""
    detector = network_of(subject.recipe.model, subject.class_names).eval()
    detector = detector.to(subject.device).to(memory_format=torch.channels_last)
    flop = flop_of_an_image(subject)
    for count in BATCHES:
        yield from _detection(subject, detector, count, flop * count)


@torch.no_grad()
def _detection(subject: Subject, detector: Detector, count: int, flop: int) -> Iterator[Line]:
    device, repeat = subject.device, subject.repeat
    batch = random_batch(subject, count, seed=0).to(device)
    with computing_in(subject.autocast, device):
        output = detector(batch.images)
        settings = _as_if_trained(detector.settings, output.cls_logits)
        detector.settings = settings

        def detect() -> object:
            fresh = replace(batch)  # its pixels are not normalised yet
            return detector.detect(fresh.images, fresh.sizes)

        forget_memory(device)
        whole = timed(detect, device, repeat, warm_up=2)
        memory = most_memory(device)
        network = timed(lambda: detector(batch.images), device, repeat, warm_up=1)
        after = timed(lambda: postprocess(output, batch.sizes, settings), device, repeat, warm_up=1)
    name = f"batch of {count}"
    yield Line(PART, name, whole, count, flop, memory)
    yield Line(PART, f"{name}: network", network, count, flop)
    yield Line(PART, f"{name}: post-processing", after, count)


def _as_if_trained(settings: PostProcess, cls_logits: Tensor) -> PostProcess:
    """The settings with a threshold that as many candidates pass as a trained detector has.

    With random weights none would pass the real one, or all.
    """
    scores = cls_logits[0].sigmoid().flatten()
    lowest = scores.topk(min(_CANDIDATES, len(scores))).values[-1]
    return replace(settings, score_threshold=float(lowest))
