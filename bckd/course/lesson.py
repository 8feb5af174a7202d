"""What most notebooks begin with: scenes, the committed teacher and students, in one line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from bckd.course.folders import work_in
from bckd.datasets import collate
from bckd.datasets.coco import CocoDataset
from bckd.datasets.scenes import write_scenes
from bckd.models.dense import DenseDetector
from bckd.recipes import Recipe
from bckd.recipes.presets import PRESETS
from bckd.structures import Batch, DenseOutput
from bckd.training.data import validation_data
from bckd.zoo.checkpoints import load_detector

SCENES: dict[str, Any] = {"train": 160, "val": 40, "seed": 7}  # the small data set of the notebooks
TEACHER = "scenes_teacher"
STUDENTS = {"none": "none", "softmax": "softmax", "BCKD": "bckd"}  # files by method


@dataclass(frozen=True)
class Lesson:
    """The notebooks' scenes and the networks that look at them.

    Attributes:
        root: folder of the scenes, as seen from the notebook's folder, which is worked in.
        weights: folder of the committed weights.
    """

    root: Path
    weights: Path

    @cached_property
    def recipe(self) -> Recipe:
        """The preset `scenes` with these scenes and this teacher."""
        _, preset = PRESETS["scenes"]
        teacher = self.weights / f"{TEACHER}.safetensors"
        return replace(preset, data=replace(preset.data, root=self.root), teacher=teacher)

    @cached_property
    def images(self) -> CocoDataset:
        """The 40 scenes to look at: those that no network of the course has learnt from."""
        return validation_data(self.recipe.data)

    def batch(self, indices: int | Sequence[int]) -> Batch:
        """Some of the scenes as a network takes them.

        Args:
            indices: places in `images`; or how many, from the first.
        """
        chosen = range(indices) if isinstance(indices, int) else indices
        return collate([self.images[0, index] for index in chosen], self.images.size)

    @cached_property
    def teacher(self) -> DenseDetector:
        """The committed teacher, in eval mode."""
        return self.network(TEACHER)

    @cached_property
    def students(self) -> dict[str, DenseDetector]:
        """The committed students by their method: none, softmax and BCKD, each of seed 0."""
        return {name: self.network(f"students/{file}") for name, file in STUDENTS.items()}

    def network(self, name: str) -> DenseDetector:
        """Any of the committed networks, in eval mode, by the name of its file in `weights`."""
        return load_detector(self.weights / f"{name}.safetensors").detector

    def say(self, name: str, batch: Batch, leaves: Sequence[str] = ("cls_logits",)) -> DenseOutput:
        """What a committed network says of images, ready for gradients.

        Args:
            name: of its file in `weights`, such as "scenes_teacher" or "students/none".
            leaves: fields of the output that a loss is to be differentiated by.
        """
        with torch.no_grad():
            output = self.network(name)(batch.images)
        return replace(output, **{leaf: getattr(output, leaf).requires_grad_() for leaf in leaves})


def scenes(folder: str = "notebooks") -> Lesson:
    """Work in a folder of the repository and draw the notebooks' scenes, unless they are there.

    Args:
        folder: the notebook's, as seen from the repository's root.

    Raises:
        InputError: there is no repository, or a file of the scenes is damaged.
    """
    work_in(folder)
    data = Path(*[".."] * len(Path(folder).parts)) / "data"
    return drawn(data)


def drawn(data: Path) -> Lesson:
    """The same below the repository's data folder, without leaving the working folder."""
    root = data / "scenes-quickstart"
    write_scenes(root, **SCENES, progress=False)
    return Lesson(root, data / "weights")
