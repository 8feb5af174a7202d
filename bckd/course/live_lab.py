"""The live lab of the course: the committed detectors on the first validation pictures."""

from __future__ import annotations

from bckd.course.lesson import Lesson
from bckd.datasets.scene_drawing import describe_scene
from bckd.viz.explorers.live_lab import LiveLab

PICTURES = range(6)  # of the benchmark's validation split: the first ones, not chosen


def live_lab(lesson: Lesson) -> LiveLab:
    """The lab with the committed teacher and students."""
    scenes = {f"validation picture {n + 1}": describe_scene(0, n, "val") for n in PICTURES}
    return LiveLab({"teacher": lesson.teacher, **lesson.students}, scenes)
