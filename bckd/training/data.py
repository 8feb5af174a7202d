"""The images of a recipe: to train on and to evaluate on, with the same classes."""

from __future__ import annotations

from pathlib import Path

from bckd.datasets.annotations import Annotations, read_annotations
from bckd.datasets.coco import CocoDataset
from bckd.evaluation.average_precision import MAX_DETECTIONS
from bckd.normalisation import IMAGENET, Normalisation
from bckd.recipes import DataConfig
from bckd.system.errors import InputError
from bckd.system.named import load_named
from bckd.system.nearest import absent
from bckd.system.telling import tell_some
from bckd.training.data_told import (
    tell_annotations,
    tell_judged,
    tell_shared,
    tell_training,
    tell_validation,
)


def training_annotations(data: DataConfig, taught: bool = True) -> Annotations:
    """The annotations of the training images of a data set.

    Args:
        taught: whether there is a teacher, who has something to say of images without labels;
            without one these are left out, and told.

    Raises:
        InputError: the file is at fault, or no image has labels and there is no teacher.
    """
    folder = data.root / data.train_images
    annotations = read_annotations(_file_of(data, "train"), folder).first(data.first_train)
    unlabelled = annotations.unlabelled_images
    if not taught and len(unlabelled) == len(annotations.images):
        raise InputError(
            f"{annotations.path}: no image is labelled; expected some that are, or a teacher to "
            f"learn from alone (--teacher)"
        )
    tell_annotations(annotations)
    if taught:
        return annotations
    what = "images that are not labelled are left out, as there is no teacher"
    tell_some(f"{annotations.path}: {what} ({{}})", (image.file_name for image in unlabelled))
    return annotations.labelled_alone()


def training_data(
    data: DataConfig,
    seed: int,
    normalisation: Normalisation = IMAGENET,
    annotations: Annotations | None = None,
) -> CocoDataset:
    """The training images of a data set, shuffled and flipped by `seed`.

    Args:
        annotations: theirs, where they are read already.
    """
    dataset = CocoDataset(
        data.root / data.train_images,
        training_annotations(data) if annotations is None else annotations,
        data.size,
        flip=data.flip,
        seed=seed,
        skip_empty=True,
        cache=data.cache,
        normalisation=normalisation,
        augmentations=[load_named(name, "data.augmentations") for name in data.augmentations],
        stand_ins=data.unreadable > 0,
    )
    tell_training(dataset)
    return dataset


def validation_data(
    data: DataConfig,
    normalisation: Normalisation = IMAGENET,
    max_detections: int = MAX_DETECTIONS,
) -> CocoDataset:
    """The images of a data set to evaluate on.

    Args:
        max_detections: of an image, that will be judged (see `evaluation.score`).

    Raises:
        InputError: the file is at fault, or has labels of some images alone.
    """
    folder = data.root / data.val_images
    annotations = read_annotations(_file_of(data, "val"), folder).first(data.first_val)
    tell_annotations(annotations)
    dataset = CocoDataset(
        folder, annotations, data.size, cache=data.cache, normalisation=normalisation
    )
    tell_validation(dataset, max_detections)
    return dataset


def _file_of(data: DataConfig, part: str) -> Path:
    """The annotation file of a part, if it is there; how to name another one, if not."""
    path = data.root / getattr(data, f"{part}_annotations")
    if not path.exists():
        raise InputError(
            f"{absent(f'annotation file {path}', path)}; --data.root and --data.{part}-annotations "
            f"name another, and `bckd data check ROOT` finds other layouts"
        )
    return path


def check_same_classes(training: CocoDataset, validation: CocoDataset) -> CocoDataset:
    """The validation's images with the labels of the training's, whose classes have to be the same.

    They are matched by name; ids and order may differ. A class without a box may be absent.

    Raises:
        InputError: one of the two has boxes of a class that the other does not list.
    """
    ours, theirs = training.annotations, validation.annotations
    names = ours.class_names
    matched = theirs.with_classes(names, f"{ours.path}")
    absent = sorted(ours.occurring_classes - set(theirs.class_names))
    tell_some(f"{theirs.path}: classes that are learnt and that it does not list ({{}})", absent)
    tell_judged(ours, matched, frozenset(theirs.class_names))
    tell_shared(training, validation)
    return validation.with_annotations(matched)
