"""The pictures of a report: truth beside detections, score maps, the images that tell most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import Any

from PIL import Image

from bckd.comparison.measured import Measured, most_different, worst
from bckd.evaluation.operating_points import kept_rows
from bckd.reports.colours import colour
from bckd.reports.detectors_page import Gallery, Picture
from bckd.reports.html_parts import image_in_base64
from bckd.reports.seen import pick_images, scores_seen_by, with_outlines

IMAGES = 4  # of truth beside detections, and of score maps
PAIRS = 3  # of detectors whose most different images are shown
FOUND, FALSE, MISSED = "#009E73", "#D55E00", "#F0E442"
KEY = (
    "Green: found; orange: false, no object there, or one of another class, or found already; "
    "yellow and broken: missed. At IoU .5, from each detector's best threshold for all classes on."
)


def galleries_of(measured: Sequence[Measured]) -> list[Gallery]:
    """All pictures; only the score maps need the networks again, on a few images."""
    drawing = [_Drawing(one) for one in measured]
    dataset = measured[0].subject.dataset
    chosen = pick_images(dataset, IMAGES)
    beside = {
        drawing[0].file(n): [drawing[0].truth(n), *(x.detections(n) for x in drawing)]
        for n in chosen
    }
    maps = {drawing[0].file(n): [x.scores(n) for x in drawing] for n in chosen}
    galleries = [
        Gallery("Truth beside detections", KEY, beside),
        Gallery("Score maps", "The highest class score at every place, 0 dark to 1 yellow.", maps),
    ]
    for one, own in zip(measured, drawing, strict=True):
        rows = {own.file(n): [own.truth(n), own.detections(n)] for n in worst(one)}
        note = "The images with the most errors: missed objects and false detections together."
        galleries.append(Gallery(f"Worst images of {one.subject.name}", note, rows))
    for (a, first), (b, second) in list(combinations(zip(measured, drawing, strict=True), 2))[
        :PAIRS
    ]:
        rows = {
            first.file(n): [first.truth(n), first.detections(n), second.detections(n)]
            for n in most_different(a, b)
        }
        note = "The images on which the two make the most different numbers of errors."
        title = f"Most different: {a.subject.name} and {b.subject.name}"
        galleries.append(Gallery(title, note, rows))
    return galleries


class _Drawing:
    """Draws one detector's detections, and the objects."""

    def __init__(self, one: Measured) -> None:
        self.one, self.dataset = one, one.subject.dataset
        annotations = self.dataset.annotations
        self.names = dict(annotations.truth.categories)
        self.labels = {key: n for n, key in enumerate(self.names)}
        self.objects: dict[Any, list[dict[str, Any]]] = {}
        for row in annotations.content["annotations"]:
            if not row["iscrowd"]:
                self.objects.setdefault(row["image_id"], []).append(row)
        self.kept = kept_rows(one.matches, one.threshold)
        self.rows: dict[Any, list[int]] = {}
        for row in self.kept:
            self.rows.setdefault(one.results[row]["image_id"], []).append(row)

    def file(self, n: int) -> str:
        return self.dataset.images[n].file_name

    def truth(self, n: int) -> Picture:
        """The objects of an image, coloured by class."""
        objects = self.objects.get(self.dataset.images[n].id, [])
        outlines = [
            (_corners(row["bbox"]), colour(self.labels[row["category_id"]]), False)
            for row in objects
        ]
        below = self._listed([row["category_id"] for row in objects]) or "no object"
        return Picture("objects", image_in_base64(self._drawn(n, outlines)), below)

    def detections(self, n: int) -> Picture:
        """What was found, missed and false there."""
        results, matches = self.one.results, self.one.matches
        key = self.dataset.images[n].id
        rows = self.rows.get(key, [])
        found = {matches.found[row] for row in rows if self.kept[row]}
        missed = [row for row in self.objects.get(key, []) if row["id"] not in found]
        false = [row for row in rows if not self.kept[row]]
        outlines = [(_corners(row["bbox"]), MISSED, True) for row in missed]
        outlines += [
            (_corners(results[row]["bbox"]), FOUND if self.kept[row] else FALSE, False)
            for row in sorted(reversed(rows), key=self.kept.__getitem__)  # found ones on top
        ]
        told = [f"{len(found)} found"]
        if missed:
            told.append(f"missed: {self._listed([row['category_id'] for row in missed])}")
        if false:
            told.append(f"false: {self._listed([results[row]['category_id'] for row in false])}")
        picture = image_in_base64(self._drawn(n, outlines))
        return Picture(self.one.subject.name, picture, "; ".join(told))

    def scores(self, n: int) -> Picture:
        """Its score map of an image."""
        seen = scores_seen_by(self.one.subject.detector, self.dataset.batch([n]))
        return Picture(self.one.subject.name, image_in_base64(seen))

    def _drawn(self, n: int, outlines: Sequence[tuple[Sequence[float], str, bool]]) -> Image.Image:
        pixels = self.dataset.pixels(n).permute(1, 2, 0).numpy()
        return with_outlines(Image.fromarray(pixels), outlines)

    def _listed(self, category_ids: Sequence[int]) -> str:
        counts = Counter(self.names[key] for key in category_ids)
        return ", ".join(f"{count} {name}" for name, count in counts.most_common())


def _corners(bbox: Sequence[float]) -> tuple[float, float, float, float]:
    x, y, width, height = bbox
    return x, y, x + width, y + height
