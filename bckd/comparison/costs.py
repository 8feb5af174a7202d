"""What a detector costs on this machine: parameters, operations, milliseconds."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import torch

from bckd.bench.flop import counted
from bckd.bench.timing import timed
from bckd.comparison.subjects import Subject
from bckd.reports.findings import Costs
from bckd.system.precision import Precision, autocast_type, computing_in

_REPEAT, _WARM_UP = 10, 2


@torch.no_grad()
def costs(subject: Subject, precision: Precision) -> Costs:
    """Measure detection on one image, the first of the size that most images are brought to."""
    detector, dataset = subject.detector.eval(), subject.dataset
    device = next(detector.parameters()).device
    canvases = [dataset.canvas(n) for n in range(len(dataset))]
    usual = Counter(canvases).most_common(1)[0][0]
    batch = dataset.batch([canvases.index(usual)]).to(device)

    def detect() -> object:
        fresh = replace(batch)  # its pixels are not normalised yet
        return detector.detect(fresh.images, fresh.sizes)

    flop, _ = counted(lambda: detector(batch.images))
    with computing_in(autocast_type(precision, device, detector), device):
        spread = timed(detect, device, _REPEAT, _WARM_UP)
    return Costs(
        parameters=sum(x.numel() for x in subject.checkpoint.detector.parameters()),
        gflop=flop / 1e9,
        milliseconds=1000 * spread.median,
        fastest_half=(1000 * spread.lower, 1000 * spread.upper),
        canvas=usual,
    )
