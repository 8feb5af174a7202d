"""What a recipe names, made ready: data, device, student and teacher, checked together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from bckd.checkpoints import Checkpoint, load_detector
from bckd.correspondence import Matched, matched, tell_lacking
from bckd.data_told import tell_annotations, tell_shared, tell_training, tell_validation
from bckd.datasets.annotations import read_annotations
from bckd.datasets.coco import CocoDataset
from bckd.errors import InputError
from bckd.evaluation import MAX_DETECTIONS
from bckd.models.dense import DenseDetector
from bckd.models.detector import Detector, DetectorConfig
from bckd.normalisation import IMAGENET, Normalisation
from bckd.recipe_check import distils
from bckd.recipes import DataConfig, Recipe
from bckd.telling import first_of, tell, tell_some
from bckd.values import to_plain


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
) -> Detector:
    """The recipe's detector; its initial weights are `recipe.start`'s, or the seed's alone.

    Args:
        anew: False where a resume state will replace the weights, so that none are downloaded.
        dispensable: classes that the start may lack, as the data have no box to learn of them;
            their weights are the seed's.

    Raises:
        InputError: `recipe.start` holds another model or other classes.
    """
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
) -> Checkpoint | None:
    """The recipe's teacher as its student takes it: frozen, in eval mode, checked.

    Args:
        dispensable: classes that the teacher may lack, as the data have no box of them.

    Raises:
        InputError: a class or a stride of the student has no counterpart, the bins of a
            side differ where LD is asked for; or nothing is distilled.
    """
    if recipe.teacher is None:
        return None
    weights = recipe.weights
    if not distils(weights):
        raise InputError(f"teacher {recipe.teacher} is given, but every distillation weight is 0")
    checkpoint = load_detector(recipe.teacher, class_names)
    if "report" in checkpoint.record:
        tell(f"teacher {recipe.teacher}: {checkpoint.record['report']}")
    model, renamed = recipe.model, renamed_classes(recipe.teacher_classes)
    student = (class_names, model.strides, model.normalisation)
    teacher = matched(checkpoint.detector, str(recipe.teacher), *student, renamed, dispensable)
    if weights.ld or weights.ld_region:
        _check_bins(teacher, recipe)
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


@torch.no_grad()
def _check_bins(teacher: DenseDetector, recipe: Recipe) -> None:
    bins = teacher.eval()(torch.zeros(1, 3, 64, 64)).box_logits
    if bins is None:
        raise InputError(
            f"teacher {recipe.teacher} has no box distributions, which localisation "
            f"distillation (weights.ld) compares; weights.iou needs none"
        )
    if bins.shape[-1] != recipe.model.reg_max + 1:
        raise InputError(
            f"teacher {recipe.teacher} has reg_max {bins.shape[-1] - 1}, the student "
            f"{recipe.model.reg_max}; localisation distillation needs the same"
        )


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
