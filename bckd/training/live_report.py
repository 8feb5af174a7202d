"""The page of a run while it trains, `report.html` in its folder, and of any run's folder later."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Self

from bckd.datasets.coco import CocoDataset
from bckd.models.dense import DenseDetector
from bckd.recipes import Recipe
from bckd.reports.html_parts import image_in_base64
from bckd.reports.page import Seen, Story, page
from bckd.reports.seen import Pictures, pick_images, seen_by, seen_by_labels, side_by_side
from bckd.system.errors import InputError, memory_wanted, reason
from bckd.system.files import read_json, write_json, write_text
from bckd.system.telling import tell
from bckd.system.values import from_plain
from bckd.training.recorded import recipe_of
from bckd.training.run_log import LOG, NoLog, RunLog, read_log

REPORT = "report.html"
IMAGES = 4  # of the validation that are shown
VIEW = "view.json"  # what the page shows beside the log
REST = 150  # times as long as a page took is rested before the next: two thirds of a percent
SHORTEST_REST = 20.0  # seconds


@dataclass(frozen=True)
class View:
    """What the folder of a run keeps for its page beside the log.

    Attributes:
        running: whether the run goes on; also where it was killed.
        end: how it ended, in a sentence.
        step: after which the pictures were made.
        images: as of `Seen`.
    """

    running: bool = True
    end: str = ""
    step: int = 0
    images: dict[str, dict[str, str]] = field(default_factory=dict)


class LiveReport:
    """Writes the page of a run, and leaves it in a last state when its block ends.

    Args:
        teacher: that is shown beside the student; None: there is none, or only what it said of
            the training images.

    Raises:
        InputError: an image can't be decoded; in `evaluated` and `line`, the page can't be written.
    """

    def __init__(
        self,
        recipe: Recipe,
        log: RunLog | NoLog,
        student: DenseDetector,
        teacher: DenseDetector | None,
        validation: CocoDataset,
    ) -> None:
        self.out, self.log, self.student = recipe.out, log, student
        self.batch = validation.batch(pick_images(validation, IMAGES))
        self.fixed = seen_by_labels(self.batch)
        if teacher is not None:
            self._add_to(self.fixed, seen_by(teacher, self.batch, "teacher"))
        self.view, self.rests_until = View(), 0.0

    @staticmethod
    def _add_to(seen: list[Pictures], more: list[Pictures]) -> None:
        for pictures, further in zip(seen, more, strict=True):
            pictures |= further

    def line(self, done: int) -> None:
        """After a line of the log: write the page, where it is time."""
        if time.perf_counter() >= self.rests_until:
            self._look(done)

    def evaluated(self, done: int) -> None:
        """After an evaluation: write the page, and pictures for TensorBoard."""
        for file, pictures in zip(self.batch.file_names, self._look(done), strict=True):
            self.log.write_picture(done - 1, f"images/{file}", side_by_side([*pictures.values()]))

    def _look(self, done: int) -> list[Pictures]:
        began = time.perf_counter()
        seen = [dict(pictures) for pictures in self.fixed]
        self._add_to(seen, self._seen_by_student())
        shown = [{name: image_in_base64(picture) for name, picture in x.items()} for x in seen]
        images = dict(zip(self.batch.file_names, shown, strict=True))
        self.view = View(step=done, images=images)
        self._write()
        now = time.perf_counter()
        self.rests_until = now + max(REST * (now - began), SHORTEST_REST)
        return seen

    def _seen_by_student(self) -> list[Pictures]:
        """What it says of the images; nothing where there is no memory for that beside the run."""
        try:
            return seen_by(self.student, self.batch, "student")
        except (RuntimeError, MemoryError) as error:
            if memory_wanted(error) is None:
                raise
            tell(f"{self.out / REPORT} is without the student's pictures: memory ran out for them")
            return [{} for _ in self.fixed]

    def _write(self) -> None:
        write_json(self.out / VIEW, asdict(self.view))
        write_text(self.out / REPORT, run_report(self.out))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        end = "Finished" if error is None else f"It ended: {reason(error)}. Last written"
        self.view = View(False, end, self.view.step, self.view.images)
        with suppress(InputError):  # what ended the run is to be told, not that
            self._write()


def run_report(folder: Path | str, images: int = IMAGES, refreshing: bool = True) -> str:
    """The page of a run, finished or not, made of what lies in its folder; no weights are read.

    Args:
        images: that are shown at most.
        refreshing: a browser asks for the page of a run that goes on again and again.

    Returns:
        One HTML file that needs nothing else. It has no pictures where the run kept none.

    Raises:
        InputError: the folder holds no run.
    """
    folder = Path(folder)
    recipe = recipe_of(folder)
    kept, finished = folder / VIEW, (folder / "results.json").is_file()
    view = View(running=not finished, end="Finished" if finished else "")
    if kept.is_file():
        view = from_plain(View, read_json(kept), str(kept))
    log = folder / LOG
    times = [path.stat().st_mtime for path in (kept, log) if path.is_file()]
    told = datetime.fromtimestamp(max(times, default=time.time()), UTC).astimezone()
    seen = Seen(view.step, dict(islice(view.images.items(), images)))
    name, lines = folder.resolve().name, read_log(folder)
    story = Story(name, recipe.steps, lines, view.running, view.end, told, seen)
    return page(story, refreshing)
