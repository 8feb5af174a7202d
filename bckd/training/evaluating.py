"""Average precision of a detector as it was saved, on the data of its run or on others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bckd.datasets.annotations import class_names_of
from bckd.datasets.coco import CocoDataset
from bckd.evaluation.average_precision import MAX_DETECTIONS, Metrics, evaluate
from bckd.models.dense import DenseDetector
from bckd.recipes import DataConfig, Scorer
from bckd.system.device import pick_device
from bckd.system.precision import Precision
from bckd.system.values import checked
from bckd.teachers.matching import with_classes_of
from bckd.training.data import validation_data
from bckd.training.recorded import recorded_data
from bckd.zoo.checkpoints import Checkpoint, load_detector


def evaluate_saved(
    source: Path | str,
    data: DataConfig | Path | str | None = None,
    device: str = "auto",
    batch_size: int = 16,
    progress: bool = True,
    precision: Precision = "float32",
    scorer: Scorer = "hotcoco",
) -> Metrics:
    """The metrics that `bckd eval` prints, of a run or of weights.

    Args:
        source: a detector, as `load_detector` takes it.
        data: a COCO data set to evaluate on: its folder, laid out as the run's own data; or all
            that is to be said of it, the size of its images too. None: the run's own.
        device: cpu, cuda, cuda:1, mps; auto: cuda where there is one, else cpu.
        batch_size: images a forward pass.
        progress: show a bar.
        precision: what the network computes in (see `bckd.system.precision`).
        scorer: who judges the detections; the numbers are the same.

    Raises:
        InputError: weights or data are absent or something else, or do not fit one another.
    """
    if not isinstance(data, DataConfig):
        own = recorded_data(Path(source))
        data = own if data is None else replace(own, root=Path(data))
    data = checked(data)
    detector, dataset = saved_and_data(source, data, device)
    detector, dataset = with_classes_of(detector, Path(source), dataset)
    loading = (batch_size, data.workers, progress)
    return evaluate(detector, dataset, *loading, precision=precision, scorer=scorer)[0]


def saved_and_data(
    source: Path | str, data: DataConfig, device: str = "auto", max_detections: int | None = None
) -> tuple[DenseDetector, CocoDataset]:
    """A detector as it was saved and the images to evaluate it on, each with its own classes.

    Args:
        max_detections: of an image, that the detector keeps; None: as many as it did.

    Raises:
        InputError: as `evaluate_saved`.
    """
    checkpoint, dataset = checkpoint_and_data(source, data, device, max_detections)
    return checkpoint.detector, dataset


def checkpoint_and_data(
    source: Path | str, data: DataConfig, device: str = "auto", max_detections: int | None = None
) -> tuple[Checkpoint, CocoDataset]:
    """As `saved_and_data`, with all that the detector's file says."""
    names = class_names_of(data.root / data.val_annotations)
    checkpoint = load_detector(source, names)
    detector = checkpoint.detector
    settings = detector.settings
    kept = settings.max_detections if max_detections is None else max_detections
    judged = min(kept, MAX_DETECTIONS if max_detections is None else max_detections)
    dataset = validation_data(data, detector.normalisation, judged)
    detector = detector.to(pick_device(device))
    detector.settings = replace(settings, max_detections=kept)
    return replace(checkpoint, detector=detector), dataset
