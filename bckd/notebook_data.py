"""What the notebooks look at: a real detector on real photographs, where both can be had."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from bckd.checkpoints import load_detector
from bckd.datasets.coco import CocoDataset
from bckd.datasets.scenes import write_scenes
from bckd.errors import InputError
from bckd.models.dense import DenseDetector
from bckd.preparation import validation_data
from bckd.pretrained import PRETRAINED
from bckd.recipes import PRESETS, DataConfig

REAL_DETECTOR = "nanodet_m"
COCO_VARIABLE = "BCKD_COCO"  # environment variable: the folder of COCO, if it is another
IMAGES = 128  # photographs, the first by id
SCENES = {"train": 160, "val": 40, "seed": 7}  # the small data set of the notebooks


class Examples(NamedTuple):
    """A detector, images for it, and what both are, in words."""

    detector: DenseDetector
    dataset: CocoDataset
    name: str


def real_or_scenes(data: Path = Path("../data")) -> Examples:
    """NanoDet-m on photographs of COCO val2017, or the scenes' teacher on scenes.

    The photographs are the first 128 by id, of `data`/coco or of the folder that BCKD_COCO
    names. Where they or NanoDet's weights are absent, the scenes are drawn, unless they are
    there. Nothing is downloaded.

    Args:
        data: the repository's data folder, as seen from the working folder.

    Raises:
        InputError: BCKD_COCO names a folder without annotations of val2017, or a file that is
            there is not what its name says.
    """
    coco = DataConfig(root=_coco_root(data), first_val=IMAGES)
    if _nanodet_is_here() and (coco.root / coco.val_annotations).is_file():
        checkpoint = load_detector(REAL_DETECTOR)
        detector = checkpoint.detector
        dataset = validation_data(replace(coco, size=checkpoint.size), detector.normalisation)
        return Examples(detector, dataset, f"NanoDet-m on {len(dataset)} photographs of COCO")
    root = data / "scenes-quickstart"
    write_scenes(root, **SCENES, progress=False)
    detector = load_detector(data / "weights" / "scenes_teacher.safetensors").detector
    dataset = validation_data(replace(PRESETS["scenes"][1].data, root=root))
    name = f"the scenes' teacher on {len(dataset)} scenes (NanoDet-m or COCO is absent)"
    return Examples(detector, dataset, name)


def _coco_root(data: Path) -> Path:
    named = os.environ.get(COCO_VARIABLE)
    if not named:
        return data / "coco"
    annotations = Path(named) / DataConfig().val_annotations
    if not annotations.is_file():
        raise InputError(f"{COCO_VARIABLE} is {named}, but {annotations} does not exist")
    return Path(named)


def _nanodet_is_here() -> bool:
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    return (folder / PRETRAINED[REAL_DETECTOR].file_name).is_file()
