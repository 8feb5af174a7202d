"""All that is measured of detectors, from one run of each over the images."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import combinations

import numpy as np
import torch

from bckd import __version__
from bckd.bench.machine import device_name
from bckd.comparison.costs import costs
from bckd.comparison.making import made
from bckd.comparison.subjects import Subject
from bckd.evaluation.average_precision import Metrics, detect, evaluation_loader, score
from bckd.evaluation.error_analysis import analyse_errors
from bckd.evaluation.matches import Matches, match
from bckd.evaluation.operating_points import (
    IOU,
    ImageCounts,
    best_point,
    confusion,
    image_counts,
)
from bckd.evaluation.resampling import (
    Interval,
    Scores,
    interval,
    precision_at,
    resamples,
    scores_of,
)
from bckd.evaluation.scorers import Results
from bckd.recipes import EvaluationConfig
from bckd.reports.findings import (
    DataFacts,
    DetectorFindings,
    Difference,
    Findings,
    ImageErrors,
    Machine,
)
from bckd.system.files import finite_or_none
from bckd.system.precision import Precision

SHOWN = 4  # images that a detector does worst on, or two do most differently on
SEED = 0


@dataclass(frozen=True)
class Measured:
    """One detector's detections, and what they are matched with.

    Attributes:
        metrics: what `bckd eval` prints.
        scores: on the resampled images.
        counts: of its images, at the threshold that is best for all classes together.
    """

    subject: Subject
    results: Results
    metrics: Metrics
    matches: Matches
    scores: Scores
    threshold: float | None
    counts: ImageCounts


def measure(
    subjects: Sequence[Subject],
    evaluation: EvaluationConfig,
    resamplings: int,
    progress: bool = True,
) -> list[Measured]:
    """Run each detector over the images once, and judge what it finds.

    Raises:
        InputError: a box or a score is nan, on which images.
    """
    weights = resamples(len(subjects[0].dataset), resamplings, SEED)
    found = []
    for subject in subjects:
        detector, dataset = subject.detector, subject.dataset
        pinned = next(detector.parameters()).is_cuda
        batch_size = evaluation.batch_size or 16
        loader = evaluation_loader(dataset, batch_size, subject.workers, pinned=pinned)
        who, annotations = subject.name, dataset.annotations
        results = detect(detector, loader, annotations, progress, who, evaluation.precision)
        place = {image.id: n for n, image in enumerate(dataset.images)}
        results.sort(key=lambda row: place[row["image_id"]])  # as `evaluate` does
        metrics = score(results, annotations, scorer=evaluation.scorer)
        matches = match(results, annotations)
        threshold = best_point(matches.classes["all"]).threshold
        scores, counts = scores_of(matches, weights), image_counts(matches, threshold)
        found.append(Measured(subject, results, metrics, matches, scores, threshold, counts))
    return found


def findings_of(measured: Sequence[Measured], precision: Precision) -> Findings:
    """The content of the report."""
    first = measured[0].subject
    annotations = first.dataset.annotations
    names = measured[0].matches.class_names
    totals = [int(one.objects.sum()) for one in measured[0].matches.classes["all"]]
    device = next(first.detector.parameters()).device
    findings = Findings(
        data=DataFacts(
            annotations.path.as_posix(), len(first.dataset), dict(zip(names, totals, strict=True))
        ),
        machine=Machine(
            device=device_name(device),
            threads=torch.get_num_threads(),
            precision=precision,
            bckd=__version__,
            torch=torch.__version__,
            python=platform.python_version(),
            date=datetime.now().astimezone().isoformat(timespec="minutes"),
        ),
        resamplings=len(measured[0].scores.per_class) - 1,
        seed=SEED,
        iou=IOU,
        detectors=[_detector(one, precision) for one in measured],
        differences=[_difference(a, b) for a, b in combinations(measured, 2)],
    )
    return Findings.from_json(findings.to_json(), "report")


def _detector(one: Measured, precision: Precision) -> DetectorFindings:
    annotations, classes = one.subject.dataset.annotations, one.matches.classes["all"]
    names = one.matches.class_names
    errors = finite_or_none(asdict(analyse_errors(one.results, annotations)))
    matrix = confusion(one.results, annotations, one.matches, one.threshold)
    precise = {iou: [precision_at(x, iou) for x in classes] for iou in (0.5, 0.75)}
    return DetectorFindings(
        name=one.subject.name,
        source=one.subject.source.as_posix(),
        detections=len(one.results),
        measures=_measures(one),
        per_class=_per_class(names, one.scores.per_class),
        precision={
            str(iou): np.mean([x for x in curves if x is not None], axis=0).tolist()
            for iou, curves in precise.items()
            if any(one.matches.known)
        },
        precision_per_class={
            name: x.tolist() for name, x in zip(names, precise[0.5], strict=True) if x is not None
        },
        point=best_point(classes),
        points={name: best_point([x]) for name, x in zip(names, classes, strict=True)},
        confusion=matrix.tolist(),
        errors=errors["tide"],
        calibration_error=errors["calibration_error"],
        worst=[_errors(one, n) for n in worst(one)],
        costs=costs(one.subject, precision),
        made=made(one.subject),
    )


def _measures(one: Measured) -> dict[str, Interval]:
    return {name: interval(values) for name, values in one.scores.measures.items()}


def _per_class(names: Sequence[str], values: np.ndarray) -> dict[str, Interval]:
    return {name: interval(x) for name, x in zip(names, values.T, strict=True)}


def _difference(first: Measured, second: Measured) -> Difference:
    ours, theirs = first.scores, second.scores
    gaps = {name: ours.measures[name] - theirs.measures[name] for name in ours.measures}
    return Difference(
        first=first.subject.name,
        second=second.subject.name,
        measures={name: interval(values) for name, values in gaps.items()},
        per_class=_per_class(first.matches.class_names, ours.per_class - theirs.per_class),
        images=[(_errors(first, n), _errors(second, n)) for n in most_different(first, second)],
    )


def worst(one: Measured) -> list[int]:
    """Positions of the images with the most errors, the first ones of equally many."""
    return _most(one.counts.errors)


def most_different(first: Measured, second: Measured) -> list[int]:
    """Positions of the images on which their numbers of errors differ most, likewise."""
    return _most(np.abs(first.counts.errors - second.counts.errors))


def _most(values: np.ndarray) -> list[int]:
    order = np.argsort(-values, kind="stable")[:SHOWN]
    return [int(n) for n in order if values[n] > 0]


def _errors(one: Measured, n: int) -> ImageErrors:
    counts, file = one.counts, one.subject.dataset.images[n].file_name
    return ImageErrors(file, int(counts.found[n]), int(counts.missed[n]), int(counts.false[n]))
