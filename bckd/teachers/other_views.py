"""Images shown to a teacher in other ways: as its file should have said, or at its own size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bckd.datasets.annotations import Annotations
from bckd.datasets.coco import CocoDataset
from bckd.evaluation.average_precision import detect, evaluation_loader, score
from bckd.evaluation.scorers import Results
from bckd.image_size import ImageSize
from bckd.models.dense import DenseDetector
from bckd.normalisation import CAFFE, IMAGENET, Normalisation
from bckd.recipes import Recipe
from bckd.system.distributed import process_count
from bckd.teachers.matching import Matched
from bckd.zoo.checkpoints import Checkpoint

BATCH_SIZE = 8
IMAGES = 8  # on which another view is tried
GAIN = 1.5  # times the AP that a better view has at least
LEAST_GAIN = 0.05  # and as much more of AP

_NONE = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
_TO_255 = Normalisation((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255))


@dataclass(frozen=True)
class View:
    """Images as a detector is shown them."""

    annotations: Annotations
    normalisation: Normalisation
    size: ImageSize

    def shown_to(
        self, detector: DenseDetector, recipe: Recipe, validation: CocoDataset, who: str
    ) -> Results:
        """What a detector finds in them."""
        dataset = CocoDataset(
            validation.folder, self.annotations, self.size, normalisation=self.normalisation
        )
        share = max(recipe.batch_size // process_count(), 1)  # what fits a card in training
        loader = evaluation_loader(dataset, min(BATCH_SIZE, share))
        return detect(detector, loader, self.annotations, progress=False, who=who)


def better_view(recipe: Recipe, teacher: Checkpoint, validation: CocoDataset) -> str | None:
    """How the teacher sees far more on the first few images, in words; None: in no way tried."""
    annotations = validation.annotations.first(min(IMAGES, recipe.teacher_check))
    ours = recipe.model.normalisation

    def measure(view: View) -> float:
        results = view.shown_to(teacher.detector, recipe, validation, "teacher")
        return score(results, annotations, scorer=recipe.evaluation.scorer).AP

    now = measure(View(annotations, ours, validation.size))
    views = {words: View(annotations, *how) for words, how in _views(teacher, ours, validation)}
    found = {words: measure(view) for words, view in views.items()}
    best = max(found, key=lambda words: found[words], default=None)
    if best is None or not found[best] >= max(GAIN * now, now + LEAST_GAIN):
        return None
    where = f"instead of {now:.3f} on {len(annotations.images)} of them"
    return f"it has AP {found[best]:.3f} {where} {best}"


def _views(
    teacher: Checkpoint, ours: Normalisation, validation: CocoDataset
) -> Iterator[tuple[str, tuple[Normalisation, ImageSize]]]:
    """Other views, by how they are said: the normalisation that is tried, and the size."""
    detector, size = teacher.detector, validation.size
    own = detector.teacher if isinstance(detector, Matched) else detector
    theirs = own.normalisation
    if teacher.size != size:
        sides = f"{teacher.size.short_side} by {teacher.size.long_side}"
        option = f"--data.size.short-side {teacher.size.short_side}"
        words = f"brought to {sides} pixels, which it was made for ({option})"
        yield words, (ours, teacher.size)
    tried = {
        "with red and blue exchanged: its normalisation is of the other order": Normalisation(
            _turned(theirs.mean), _turned(theirs.deviation), not theirs.bgr
        ),
        "in 0 to 1: it was trained without mean and deviation": _NONE,
        "in 0 to 255: it was trained without mean and deviation": _TO_255,
        "with ImageNet's mean and deviation, which its file should say": IMAGENET,
        "with Caffe's mean, in BGR, which its file should say": CAFFE,
    }
    for words, wanted in tried.items():
        if wanted != theirs:
            yield words, (_seen_through(ours, theirs, wanted), size)


def _seen_through(
    ours: Normalisation, theirs: Normalisation, wanted: Normalisation
) -> Normalisation:
    """How to normalise images for a teacher of `theirs` images, so that it sees them as `wanted`.

    It is given images of `ours`, which it undoes before it applies its own.
    """
    turn = ours.bgr != theirs.bgr
    mean, deviation = _turned(ours.mean, turn), _turned(ours.deviation, turn)
    means, deviations = [], []
    for n in range(3):  # by the teacher's channels
        factor = wanted.deviation[n] / theirs.deviation[n]
        means.append(wanted.mean[n] + (mean[n] - theirs.mean[n]) * factor)
        deviations.append(deviation[n] * factor)
    return Normalisation(_turned(means, turn), _turned(deviations, turn), wanted.bgr != turn)


def _turned(channels: Sequence[float], turn: bool = True) -> tuple[float, float, float]:
    """Channels in the other order, or as they are."""
    first, second, third = channels
    return (third, second, first) if turn else (first, second, third)
