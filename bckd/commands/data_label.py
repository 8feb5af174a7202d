"""The command `bckd data label`: a teacher's boxes as labels, in an instances file."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from bckd.commands.parsing import existing, parse
from bckd.system.errors import InputError
from bckd.system.files import check_writable, write_text
from bckd.system.telling import counted
from bckd.system.values import Fraction, Place, Workers, checked

if TYPE_CHECKING:
    from bckd.datasets.to_label import ToLabel
    from bckd.teachers.pseudo_labels import PseudoLabels
    from bckd.zoo.checkpoints import Checkpoint


@dataclass(frozen=True)
class LabelOptions:
    """Write a COCO instances file whose images without labels have a teacher's boxes.

    Other images keep their own; the teacher is tried on these too. `bckd train` takes the file by
    --data.train-annotations.
    """

    images: Annotated[tyro.conf.Positional[Place | None], tyro.conf.arg(metavar="FOLDER")] = None
    """folder of the images, with all that lies below it"""
    teacher: Place | None = None
    """weights of the teacher (a run, a file, or a published name)"""
    annotations: Place | None = None
    """COCO instances file of these images, whose classes are labelled; without one, all images of
    the folder are, with all classes of the teacher"""
    which: Literal["unlabelled", "empty", "all"] = "unlabelled"
    """images of the file to label: those not labelled (all of a file without annotations, else
    where the image has "labelled": false), those without a box too, or all, in place of their own
    boxes"""
    unlisted: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """also label images of the folder that the file does not list"""
    threshold: Fraction | None = 0.3
    """lower scores are left out; None: no boxes, images are marked as not labelled, for
    distillation alone"""
    teacher_classes: tuple[str, ...] = ()
    """classes that the teacher calls by another name, as ours=theirs"""
    out: Place = Path("runs/labelled.json")
    """file to write"""
    workers: Workers = 4
    """processes that load images; 0 loads in the main process"""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps; auto: cuda where there is one, else cpu"""


def run(arguments: list[str]) -> None:
    """Label images, and say what came of it."""
    options = checked(parse(LabelOptions, arguments, "data label"))
    if options.images is None:
        raise InputError("bckd data label needs the folder of the images")
    if options.teacher is None and (options.threshold is not None or options.annotations is None):
        raise InputError("bckd data label needs a teacher (--teacher), who says what is where")
    read = (options.annotations, options.teacher)
    check_writable(options.out, *(path for path in read if path is not None and path.is_file()))
    _label(options, options.images)
    names = ("images", options.images), ("annotations", options.out)
    words = [x for name, path in names for x in (f"--data.train-{name}", str(path.absolute()))]
    print(f"`bckd train` takes it by {shlex.join(words)}")


def _label(options: LabelOptions, folder: Path) -> None:
    """Write the file, and tell what is in it."""
    from bckd.datasets.to_label import images_to_label  # late: no help and no typo needs them
    from bckd.prediction import load

    teacher = None
    if options.teacher is not None:
        teacher = load(existing(str(options.teacher)), device=options.device)
    names = () if teacher is None else teacher.detector.class_names
    given = folder, options.annotations, names, options.which, options.unlisted
    to_label = images_to_label(*given)
    count = counted(len(to_label.annotations.unlabelled_images), "image")
    if teacher is None or options.threshold is None:
        write_text(options.out, json.dumps(to_label.content))
        print(f"{options.out} has {count} marked as not labelled")
        return
    labels = _labels(options, teacher, to_label, folder, options.threshold)
    write_text(options.out, json.dumps(to_label.with_boxes(labels.rows)))
    print(
        f"{options.out} has {counted(len(labels.rows), 'box', 'es')} of the teacher, of a score of "
        f"{options.threshold:g} or more, on {labels.images} of {count}"
    )
    if labels.known:
        numbers = (labels.precision, labels.recall)
        precision, recall = ("unknown" if x is None else f"{x:.2f}" for x in numbers)
        print(
            f"against the labels of {counted(labels.known, 'image')} such boxes have precision "
            f"{precision} and recall {recall}, at IoU .5"
        )


def _labels(
    options: LabelOptions, teacher: Checkpoint, to_label: ToLabel, folder: Path, threshold: float
) -> PseudoLabels:
    """What the teacher says, by the classes of the data."""
    from bckd.teachers.matching import matched
    from bckd.teachers.pseudo_labels import pseudo_labels
    from bckd.training.teacher import renamed_classes

    detector, names = teacher.detector, to_label.annotations.class_names
    own = f"teacher {options.teacher}", names, detector.strides, detector.normalisation
    renamed = renamed_classes(options.teacher_classes)
    detector = matched(detector, *own, renamed, to_label.labels.idle_classes)
    return pseudo_labels(detector, teacher.size, to_label, folder, threshold, options.workers)
