"""Which errors cost a detector its average precision, and what its scores are worth.

AP depends on the order of the scores alone. Two further questions do depend on
their values: is a score the probability of being right (calibration), and how
good is what is left above one fixed score (F1)?
"""

from __future__ import annotations

from dataclasses import dataclass

from hotcoco import COCOeval

from bckd.datasets.annotations import Annotations
from bckd.evaluation.scorers import Results, hotcoco_evaluation

IOU = 0.5  # from here on a box counts as found
BINS = 10  # of equal width, over scores from 0 to 1
STRICT_IOU = 0.75
THRESHOLDS = tuple(n / 20 for n in range(1, 20))  # .05 to .95
TIDE_ERRORS = ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss")


@dataclass(frozen=True)
class ErrorAnalysis:
    """What is wrong with a detector's results, at IoU .5 where nothing else is said; in 0..1.

    Attributes:
        tide: AP50 that would be gained if all errors of one kind were mended (TIDE, Bolya
            et al., ECCV 2020): wrong class, IoU of .1 to .5, both, a second box of one
            object, background, an object missed. Each is mended alone, so they don't sum
            to what is missing; without detections there is no curve to mend, and all are 0.
        tide75: the same of AP75; a box is badly placed from an IoU of .1 to .75.
        calibration_error: mean over detections of |confidence - accuracy| in ten bins
            of the score (expected calibration error); nan without detections.
        reliability: (mean confidence, accuracy, count) of every bin that is not empty.
        f1: by score threshold ("0.3", "0.35"): F1 of the detections that score at least as
            much, counted over all classes together.
        best_f1: the largest of them.

    `tide`, `tide75`, `f1` and `best_f1` are nan where nothing is to be found.
    """

    tide: dict[str, float]
    tide75: dict[str, float]
    calibration_error: float
    reliability: tuple[tuple[float, float, int], ...]
    f1: dict[str, float]
    best_f1: float


def analyse_errors(results: Results, annotations: Annotations) -> ErrorAnalysis:
    """Take COCO results apart against the annotations, by hotcoco.

    As in COCO's AP, crowd regions and what is found in them do not count.

    Args:
        results: as `bckd.evaluation.average_precision.detect` gives them; the best 100 of an
            image and class count.

    Raises:
        InputError: a detection is of an image or a category that is not annotated.
    """
    evaluation = match_detections(results, annotations)
    nothing_to_find = bool(annotations.truth.boxes.crowd.all())
    calibration = evaluation.calibration(n_bins=BINS, iou_threshold=IOU)
    f1 = _f1(evaluation, results)
    return ErrorAnalysis(
        tide=_tide(evaluation, IOU, nothing_to_find),
        tide75=_tide(evaluation, STRICT_IOU, nothing_to_find),
        calibration_error=calibration["ece"] if calibration["num_detections"] else float("nan"),
        reliability=tuple(
            (row["avg_confidence"], row["avg_accuracy"], row["count"])
            for row in calibration["bins"]
            if row["count"]
        ),
        f1=f1,
        best_f1=max(f1.values()),
    )


def match_detections(results: Results, annotations: Annotations) -> COCOeval:
    """hotcoco's evaluation of COCO results, with detections matched to objects.

    Raises:
        InputError: a detection is of an image or a category that is not annotated.
    """
    evaluation = hotcoco_evaluation(results, annotations)
    evaluation.evaluate()
    return evaluation


def _tide(evaluation: COCOeval, iou: float, nothing_to_find: bool) -> dict[str, float]:
    if nothing_to_find:
        return dict.fromkeys(TIDE_ERRORS, float("nan"))
    gains = evaluation.tide_errors(pos_thr=iou)["delta_ap"]
    return {kind: gains[kind] for kind in TIDE_ERRORS}


def _f1(evaluation: COCOeval, results: Results) -> dict[str, float]:
    """F1 by threshold: 2 TP / (detections + objects).

    Matching goes from the best score down, so leaving out low scores changes no match
    of the rest: one matching serves all thresholds.
    """
    matches = evaluation.image_diagnostics(iou_thr=IOU)
    objects = len(matches["gt_status"])
    # Detections are numbered from 1 in the order of the results.
    scored = [(results[key - 1]["score"], kind) for key, kind in matches["dt_status"].items()]
    f1 = {}
    for threshold in THRESHOLDS:
        kept = [kind for score, kind in scored if score >= threshold]
        found = 2 * kept.count("tp") / (len(kept) + objects) if objects else float("nan")
        f1[f"{threshold:g}"] = found
    return f1
