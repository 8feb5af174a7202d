"""What a report on some detectors says, as numbers and words: the content of its page and JSON.

None stands for what is unknown: where nothing is to be found, or a file doesn't say it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from bckd.evaluation.operating_points import OperatingPoint
from bckd.evaluation.resampling import Interval
from bckd.system.files import finite_or_none
from bckd.system.values import from_plain


@dataclass(frozen=True)
class DataFacts:
    """The images that all detectors were run over.

    Attributes:
        annotations: the file.
        objects: by class, how many there are to find (crowd regions are not).
    """

    annotations: str
    images: int
    objects: dict[str, int]

    @property
    def classes(self) -> list[str]:
        """Those that have an object to find."""
        return [name for name, count in self.objects.items() if count]


@dataclass(frozen=True)
class Costs:
    """What a detector costs.

    Attributes:
        gflop: of an image, a multiplication and an addition being two operations.
        milliseconds: of an image alone, from its pixels to its detections: the median.
        fastest_half: the quartiles of the same.
        canvas: height and width of what the network saw.
    """

    parameters: int
    gflop: float
    milliseconds: float
    fastest_half: tuple[float, float]
    canvas: tuple[int, int]


@dataclass(frozen=True)
class ImageErrors:
    """One image, and what a detector does on it at its threshold (IoU .5)."""

    file: str
    found: int
    missed: int
    false: int


@dataclass(frozen=True)
class Trained:
    """The log of a run, of at most some hundred points a curve.

    Attributes:
        steps: that it was to have.
        AP: steps and values in 0..1 of its evaluations.
        terms: unweighted loss terms, likewise.
    """

    steps: int
    AP: tuple[list[float], list[float]]
    terms: dict[str, tuple[list[float], list[float]]]


@dataclass(frozen=True)
class Made:
    """How weights were made, as far as their file and its folder say.

    Attributes:
        sha256: of the file of weights; None of published ones.
        record: what was said when they were saved.
        recipe: every setting of the run by its dotted name.
        trained: None without a log.
    """

    sha256: str | None
    record: dict[str, str]
    recipe: dict[str, str] | None
    trained: Trained | None


@dataclass(frozen=True)
class DetectorFindings:
    """What was measured of one detector; all but counts and costs in 0..1.

    Attributes:
        name: in this report.
        source: as it was asked for.
        measures: AP and its parts, by the names of `bckd.evaluation.resampling.MEASURES`.
        per_class: AP by class.
        precision: by IoU ("0.5"), mean precision over the classes at 101 recalls from 0 to 1.
        precision_per_class: the same of each class, at IoU .5.
        point: the threshold that is best for all classes together.
        points: the best one of each class.
        confusion: at `point`'s threshold, as of `bckd.evaluation.operating_points.confusion`.
        errors: AP50 that would be gained without the errors of a kind (TIDE).
        calibration_error: expected, of scores as probabilities to be right.
        worst: images with the most errors, missed objects and false detections.
    """

    name: str
    source: str
    detections: int
    measures: dict[str, Interval]
    per_class: dict[str, Interval]
    precision: dict[str, list[float]]
    precision_per_class: dict[str, list[float]]
    point: OperatingPoint
    points: dict[str, OperatingPoint]
    confusion: list[list[int]]
    errors: dict[str, float | None]
    calibration_error: float | None
    worst: list[ImageErrors]
    costs: Costs
    made: Made


@dataclass(frozen=True)
class Difference:
    """One detector less another, on the same resampled images.

    Attributes:
        first, second: names; values are those of the first less those of the second.
        images: on which their numbers of errors differ most, as (first's, second's).
    """

    first: str
    second: str
    measures: dict[str, Interval]
    per_class: dict[str, Interval]
    images: list[tuple[ImageErrors, ImageErrors]]


@dataclass(frozen=True)
class Machine:
    """What it was measured on, and by which versions."""

    device: str
    threads: int
    precision: str
    bckd: str
    torch: str
    python: str
    date: str


@dataclass(frozen=True)
class Findings:
    """All of it.

    Attributes:
        resamplings: of the bootstrap over images.
        seed: of these.
        iou: from which on a detection finds an object, in thresholds, confusion and errors.
        differences: of every pair.
    """

    data: DataFacts
    machine: Machine
    resamplings: int
    seed: int
    iou: float
    detectors: list[DetectorFindings]
    differences: list[Difference]

    def to_json(self) -> dict[str, object]:
        """As JSON has it: nan is null."""
        content: dict[str, object] = finite_or_none(asdict(self))
        return content

    @classmethod
    def from_json(cls, content: object, name: str = "") -> Findings:
        """What `to_json` made.

        Raises:
            InputError: it is something else.
        """
        return from_plain(cls, content, name)
