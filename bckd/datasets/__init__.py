"""Data: COCO-format files, the embedded scenes, batches."""

from bckd.datasets.annotations import Annotations, read_annotations
from bckd.datasets.batches import TrainingBatches
from bckd.datasets.coco import CocoDataset, collate

__all__ = [
    "Annotations",
    "CocoDataset",
    "TrainingBatches",
    "collate",
    "read_annotations",
]
