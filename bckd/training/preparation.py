"""What a recipe names, made ready: data, device, student and teacher, checked together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from bckd.datasets.annotations import read_annotations
from bckd.datasets.coco import CocoDataset
from bckd.errors import InputError
from bckd.evaluation.average_precision import MAX_DETECTIONS
from bckd.loss_weights import LossWeights
from bckd.models.adopted import adopt, check_family
from bckd.models.dense import DenseDetector
from bckd.models.detector import Detector, DetectorConfig
from bckd.named import load_named
from bckd.normalisation import IMAGENET, Normalisation
from bckd.precision import autocast_type
from bckd.recipes import DataConfig, Recipe
from bckd.teachers.matching import Matched, matched, tell_lacking
from bckd.telling import first_of, tell, tell_some
from bckd.training.data_told import tell_annotations, tell_shared, tell_training, tell_validation
from bckd.training.recipe_check import distils
from bckd.values import to_plain
from bckd.zoo.checkpoints import Checkpoint, load_detector, torchvision_student
from bckd.zoo.torchvision_detectors import TorchvisionModel


def training_data(
    data: DataConfig, seed: int, normalisation: Normalisation = IMAGENET
) -> CocoDataset:
    """The training images of a data set, shuffled and flipped by `seed`."""
    folder = data.root / data.train_images
    annotations = read_annotations(data.root / data.train_annotations, folder)
    if not annotations.labelled:
        raise InputError(f"{annotations.path} has no 'annotations': nothing to learn from")
    annotations = annotations.first(data.first_train)
    tell_annotations(annotations)
    dataset = CocoDataset(
        folder,
        annotations,
        data.size,
        flip=data.flip,
        seed=seed,
        skip_empty=True,
        cache=data.cache,
        normalisation=normalisation,
        augmentations=[load_named(name, "data.augmentations") for name in data.augmentations],
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
    """
    folder = data.root / data.val_images
    annotations = read_annotations(data.root / data.val_annotations, folder).first(data.first_val)
    tell_annotations(annotations)
    dataset = CocoDataset(
        folder, annotations, data.size, cache=data.cache, normalisation=normalisation
    )
    tell_validation(dataset, max_detections)
    return dataset


def pick_device(name: str) -> torch.device:
    """The device of that name; "auto" is cuda where there is one, else cpu.

    Raises:
        InputError: there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        trial = torch.zeros(1, device=name)
        trial.item()  # a device that computes nothing, such as meta, has no numbers either
        return trial.device
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {name!r} is not available on this machine") from error


def build_student(
    recipe: Recipe,
    class_names: tuple[str, ...],
    anew: bool = True,
    dispensable: frozenset[str] = frozenset(),
    own: nn.Module | None = None,
) -> DenseDetector:
    """The recipe's detector; its initial weights are `recipe.start`'s, or the seed's alone.

    Args:
        anew: False where a resume state will replace the weights, so that none are downloaded.
        dispensable: classes that the start may lack, as the data have no box to learn of them;
            their weights are the seed's.
        own: the module that learns in place of the recipe's detector.

    Raises:
        InputError: `recipe.start` holds another model or other classes; or the module has other
            classes, or gives no dense output, or does not go with the recipe.
    """
    if own is not None or recipe.student is not None:
        return _own_student(recipe, own, class_names, anew)
    if anew and recipe.start is not None:
        return _started(recipe, recipe.start, class_names, dispensable)
    model = recipe.model if anew else replace(recipe.model, pretrained=False)
    detector = _seeded(model, class_names, recipe.seed)
    detector.config = recipe.model.resolved()
    return detector


def _seeded(model: DetectorConfig, class_names: tuple[str, ...], seed: int) -> Detector:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Detector(model, class_names)


def _own_student(
    recipe: Recipe, own: nn.Module | None, class_names: tuple[str, ...], anew: bool
) -> DenseDetector:
    """A student that is no `Detector`: a module, or the one that `recipe.student` names."""
    if recipe.start is not None:
        raise InputError(
            f"start is {recipe.start}; expected none, as the student is no model of the recipe's "
            f"and goes on from the weights that it has"
        )
    if own is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            detector: DenseDetector = torchvision_student(recipe, class_names, fetch=anew)
    elif recipe.student is None:
        detector = _adopted(recipe, own, class_names)
    else:
        raise InputError(f"student is {recipe.student}; expected none beside a module that learns")
    if isinstance(detector, TorchvisionModel) and recipe.images_per_group is not None:
        raise InputError(
            f"images_per_group is {recipe.images_per_group}; expected None for torchvision's "
            f"detectors, whose anchors depend on the size of the padded image"
        )
    return detector


def _adopted(recipe: Recipe, own: nn.Module, class_names: tuple[str, ...]) -> DenseDetector:
    detector = adopt(own, class_names, recipe.model, "student", _autocast(recipe))
    check_family(detector, recipe.model)
    if detector.class_names != class_names:
        raise InputError(
            f"the student has the classes {first_of([*detector.class_names])}; expected those of "
            f"the data, in their order: {first_of([*class_names])}"
        )
    known = vars(LossWeights())
    for name, term in getattr(detector.supervision, "terms", {}).items():
        if known.get(name, term.weight) != term.weight:
            raise InputError(
                f"the student's own losses give {name} the weight {term.weight}, a family of "
                f"detectors gives it {known[name]}; expected another name, or that weight, which "
                f"the recipe's weights then change"
            )
    return detector


def _autocast(recipe: Recipe) -> torch.dtype | None:
    return autocast_type(recipe.precision, pick_device(recipe.device))


def with_normalisation_of(recipe: Recipe, own: nn.Module | None) -> Recipe:
    """The recipe with the normalisation that a student of its own asks for, if any."""
    ours = IMAGENET if recipe.student else recipe.model.normalisation
    normalisation = getattr(own, "normalisation", ours)
    return replace(recipe, model=replace(recipe.model, normalisation=normalisation))


def _started(
    recipe: Recipe, start: Path, class_names: tuple[str, ...], dispensable: frozenset[str]
) -> Detector:
    """The student as `start` left it, its parameters learning again."""
    detector = load_detector(start, class_names).detector
    if not isinstance(detector, Detector):
        raise InputError(f"start {start} is no detector that a recipe builds; use it as a teacher")
    new = _seeded(detector.config, class_names, recipe.seed)
    detector = _renamed(detector, new, f"start {start}", dispensable)
    model = recipe.model.resolved()
    own = replace(detector.config, pretrained=model.pretrained, postprocess=model.postprocess)
    theirs, ours = to_plain(own), to_plain(model)
    differing = next((name for name in ours if theirs[name] != ours[name]), None)
    if differing is not None:
        raise InputError(
            f"start {start} has model.{differing} {theirs[differing]}, the student "
            f"{ours[differing]}; they must be equal"
        )
    detector.config, detector.settings = model, model.postprocess
    return detector


def _renamed(detector: Detector, new: Detector, who: str, dispensable: frozenset[str]) -> Detector:
    """The detector with the classes of a new one, which keeps its weights of those it lacks."""
    if detector.class_names == new.class_names:
        return detector
    columns = _columns(detector.class_names, new.class_names, who, dispensable)
    known = {row: column for row, column in enumerate(columns) if column is not None}
    weights, own = detector.state_dict(), new.state_dict()
    for name in ("head.cls.weight", "head.cls.bias"):  # all classes of an anchor, then the next
        theirs = weights[name].unflatten(0, (-1, len(detector.class_names)))
        ours = own[name].unflatten(0, (-1, len(new.class_names)))
        ours[:, list(known)] = theirs[:, list(known.values())]
        weights[name] = ours.flatten(0, 1)
    new.load_state_dict(weights)
    return new.train(detector.training)


def load_teacher(
    recipe: Recipe,
    class_names: tuple[str, ...],
    device: torch.device,
    dispensable: frozenset[str] = frozenset(),
    strides: tuple[int, ...] | None = None,
    own: nn.Module | None = None,
) -> Checkpoint | None:
    """The recipe's teacher as its student takes it: frozen, in eval mode, checked.

    Args:
        dispensable: classes that the teacher may lack, as the data have no box of them.
        strides: the student's; None: those of the recipe's model.
        own: the module that teaches in place of `recipe.teacher`.

    Raises:
        InputError: a class or a stride of the student has no counterpart, or nothing is
            distilled.
    """
    if recipe.teacher is None and own is None:
        return None
    who = "" if recipe.teacher is None else f" {recipe.teacher}"
    if not distils(recipe):
        raise InputError(f"teacher{who} is given, but every distillation weight is 0")
    if recipe.teacher is None:
        assert own is not None
        adopted = adopt(own, class_names, recipe.model, "teacher", _autocast(recipe))
        checkpoint = Checkpoint(adopted, recipe.data.size)
    else:
        checkpoint = load_detector(recipe.teacher, class_names)
    if "report" in checkpoint.record:
        tell(f"teacher{who}: {checkpoint.record['report']}")
    model, renamed = recipe.model, renamed_classes(recipe.teacher_classes)
    student = (class_names, strides or model.strides, model.normalisation)
    teacher = matched(checkpoint.detector, f"teacher{who}", *student, renamed, dispensable)
    return replace(checkpoint, detector=teacher.requires_grad_(False).eval().to(device))


def renamed_classes(pairs: tuple[str, ...]) -> dict[str, str]:
    """The teacher's name of a class by ours, from texts such as "lorry=truck".

    Raises:
        InputError: a text is none, or a class is there twice.
    """
    renamed: dict[str, str] = {}
    for pair in pairs:
        ours, _, theirs = pair.partition("=")
        if not ours or not theirs:
            raise InputError(f"teacher_classes has {pair!r}; expected ours=theirs")
        if ours in renamed:
            raise InputError(f"teacher_classes has {ours!r} twice")
        renamed[ours] = theirs
    return renamed


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
    tell_shared(training, validation)
    return validation.with_annotations(matched)


def with_classes_of(
    detector: DenseDetector, path: Path, dataset: CocoDataset
) -> tuple[DenseDetector, CocoDataset]:
    """Detector and data set with the classes that both know, matched by name.

    Classes that the detector has beyond these are left out, and told; those that it lacks must
    have no box in the data.

    Raises:
        InputError: naming the classes of the data set that have boxes and that it lacks.
    """
    names = dataset.annotations.class_names
    if detector.class_names == names:
        return detector, dataset
    dataset.annotations.check_known(detector.class_names, str(path))
    known = tuple(name for name in names if name in detector.class_names)
    dataset = dataset.with_annotations(dataset.annotations.with_classes(known, str(path)))
    columns = _columns(detector.class_names, known, str(path))
    chosen = (known, columns, detector.strides, detector.normalisation)
    return Matched(detector, *chosen).train(detector.training), dataset


def _columns(
    theirs: tuple[str, ...],
    ours: tuple[str, ...],
    who: str,
    dispensable: frozenset[str] = frozenset(),
) -> list[int | None]:
    """Where each of our classes is among theirs, by name; what is left out or lacks is told."""
    absent = [name for name in ours if name not in theirs]
    extra = [name for name in theirs if name not in ours]
    missing = [name for name in absent if name not in dispensable]
    if missing:
        alone = f" and it alone has {first_of(extra)}" if extra else ""
        raise InputError(
            f"{who} has other classes than the data set: it lacks {first_of(missing)}{alone}"
        )
    tell_some(f"{who}: {{}} of its classes are not in the data set and left out", extra)
    tell_lacking(who, absent)
    return [theirs.index(name) if name in theirs else None for name in ours]
