"""What the notebooks look at: a real detector on real photographs, where both can be had."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from bckd.course.lesson import drawn
from bckd.datasets import collate
from bckd.datasets.coco import CocoDataset
from bckd.datasets.photographs import fetch_photographs
from bckd.image_size import ImageSize
from bckd.models.dense import DenseDetector
from bckd.recipes import DataConfig
from bckd.structures import Batch
from bckd.system.errors import InputError
from bckd.training.data import validation_data
from bckd.viz.pictures import pictures_of
from bckd.weights.published import PRETRAINED, fetch
from bckd.zoo.checkpoints import load_detector
from bckd.zoo.nanodet import NanoDet

REAL_DETECTOR = "nanodet_m"
COCO_VARIABLE = "BCKD_COCO"  # environment variable: the folder of COCO, if it is another
PHOTOGRAPHS = "coco-photographs"  # below the data folder, where downloaded ones go
IMAGES = 128  # photographs, the first by id
BUS, SCENE = 17, 3  # the photograph, and the scene, that return in the notebooks, by their place


class Examples(NamedTuple):
    """A detector, images for it, and what both are, in words."""

    detector: DenseDetector
    dataset: CocoDataset
    name: str


class Photograph(NamedTuple):
    """A detector and one image for it: as a batch, as (H, W, 3) uint8, and in words."""

    detector: DenseDetector
    batch: Batch
    picture: np.ndarray
    name: str


def photograph(data: Path = Path("../data"), size: ImageSize | None = None) -> Photograph:
    """The photograph that returns in the notebooks, a red bus, and NanoDet-m; or scene 3.

    Args:
        data: as `real_or_scenes` takes it, which says when it is which.
        size: of the image; None: the detector's.

    Raises:
        InputError: as `real_or_scenes`.
    """
    detector, dataset, name = real_or_scenes(data)
    real = isinstance(detector, NanoDet)
    place = min(BUS if real else SCENE, len(dataset) - 1)
    if size is not None:
        dataset = copy.copy(dataset)
        dataset.size = size
    batch = collate([dataset[0, place]], dataset.size)
    (picture,) = pictures_of(batch, detector.normalisation)
    what = "a photograph" if real else f"scene {place}"
    return Photograph(detector, batch, picture, f"{name.split(' on ')[0]} on {what}")


def real_or_scenes(data: Path = Path("../data"), download: bool = False) -> Examples:
    """NanoDet-m on photographs of COCO val2017, or the scenes' teacher on scenes.

    The photographs are the first 128 by id, of `data`/coco, of the folder that BCKD_COCO
    names, or of `data`/coco-photographs. Where they or NanoDet's weights are absent, the scenes
    are drawn, unless they are there.

    Args:
        data: the repository's data folder, as seen from the working folder.
        download: fetch first what is absent: the weights (4 MB, into torch.hub's folder) and
            the photographs with annotations (about 20 MB, into `data`/coco-photographs).

    Raises:
        InputError: BCKD_COCO names a folder without annotations of val2017, a file that is
            there is not what its name says, or a download failed.
    """
    root = _coco_root(data)
    if download:
        fetch(REAL_DETECTOR)
        if root is None:
            fetch_photographs(data / PHOTOGRAPHS, IMAGES)
            root = data / PHOTOGRAPHS
    if root is not None and _nanodet_is_here():
        checkpoint = load_detector(REAL_DETECTOR)
        coco = DataConfig(root=root, first_val=IMAGES, size=checkpoint.size)
        detector = checkpoint.detector
        dataset = validation_data(coco, detector.normalisation)
        return Examples(detector, dataset, f"NanoDet-m on {len(dataset)} photographs of COCO")
    lesson = drawn(data)
    name = f"the scenes' teacher on {len(lesson.images)} scenes (NanoDet-m or COCO is absent)"
    return Examples(lesson.teacher, lesson.images, name)


def _coco_root(data: Path) -> Path | None:
    """The first folder with annotations of val2017; BCKD_COCO overrules the others."""
    named = os.environ.get(COCO_VARIABLE)
    folders = [Path(named)] if named else [data / "coco", data / PHOTOGRAPHS]
    annotations = DataConfig().val_annotations
    found = next((folder for folder in folders if (folder / annotations).is_file()), None)
    if named and found is None:
        raise InputError(
            f"{COCO_VARIABLE} is {named}, but {folders[0] / annotations} does not exist"
        )
    return found


def _nanodet_is_here() -> bool:
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    return (folder / PRETRAINED[REAL_DETECTOR].file_name).is_file()
