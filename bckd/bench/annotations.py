"""Annotations: a file of train2017's size read, and handed to a process that loads images.

Each is done by a process of its own, whose memory tells of nothing else.
"""

from __future__ import annotations

import json
import pickle
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import cycle, islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bckd.bench.photographs import COCO_SHAPES, boxes_of_an_image, entry_of_an_image
from bckd.bench.results import LeftOut, Line
from bckd.bench.subject import Subject
from bckd.bench.timing import Spread
from bckd.datasets.annotations import read_annotations
from bckd.system.errors import reason
from bckd.system.memory import most_memory

PART = "annotations"
IMAGES = 118_287  # as many as train2017 has
_POLYGONS = 64  # that are drawn, and taken in turn
_CORNERS = 24  # of a polygon, on average: a box then takes as many bytes as in train2017's file
_REPEAT = 3  # at most
_HOST = torch.device("cpu")


def time_annotations(subject: Subject) -> Iterator[Line | LeftOut]:
    """Lines of a file that is read, and of what a process that loads images is sent of it.

    Their memory is what the process grew by, at most; None where the system does not tell.
    """
    repeat = min(subject.repeat, _REPEAT)
    try:
        with tempfile.TemporaryDirectory(prefix="bckd-bench-") as place:
            yield from _lines(Path(place), repeat, subject.class_names)
    except (OSError, BrokenProcessPool) as error:  # the file takes .4 GB, reading it .6
        yield LeftOut(PART, f"they were left out: {reason(error)}")


def _lines(folder: Path, repeat: int, class_names: Sequence[str]) -> Iterator[Line]:
    path, sent = folder / "instances.json", folder / "sent"
    boxes = write_many_instances(path, IMAGES, class_names)
    name = f"{IMAGES:,} images, {boxes:,} boxes and polygons: read"
    yield _line(name, repeat, _read, path, sent)
    yield _line("taken over by a process that loads images", repeat, _take, sent)


def _line(name: str, repeat: int, work: Callable[..., tuple[float, int | None]], *on: Path) -> Line:
    """Of work done by as many processes as it is repeated, one after the other."""
    found = []
    for _ in range(repeat):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            found.append(pool.submit(work, *on).result())
    grown = [memory for _, memory in found if memory is not None]
    seconds = Spread.of([seconds for seconds, _ in found])
    return Line(PART, name, seconds, IMAGES, memory=max(grown, default=None))


def _read(path: Path, sent: Path) -> tuple[float, int | None]:
    """Seconds and bytes that it takes to read the file; what workers are sent goes to `sent`."""
    found, seconds, memory = _grown(lambda: read_annotations(path))
    sent.write_bytes(pickle.dumps(found.to_learn_from()))
    return seconds, memory


def _take(sent: Path) -> tuple[float, int | None]:
    """Seconds and bytes that it takes to make of `sent` what a worker works with."""

    def take() -> object:
        with sent.open("rb") as file:
            return pickle.load(file)

    _, seconds, memory = _grown(take)
    return seconds, memory


def _grown(work: Callable[[], Any]) -> tuple[Any, float, int | None]:
    """What some work gives, its seconds, and the bytes that the process grew by."""
    before, began = most_memory(_HOST), time.perf_counter()
    result = work()
    seconds, after = time.perf_counter() - began, most_memory(_HOST)
    return result, seconds, None if after is None or before is None else after - before


def write_many_instances(path: Path, images: int, class_names: Sequence[str], seed: int = 0) -> int:
    """Write a COCO instances file of so many images of COCO's shapes, their boxes with polygons.

    Entry by entry: as a whole it would not fit in the memory of a small machine.

    Returns:
        The number of boxes.
    """
    rng = np.random.default_rng(seed)
    polygons = [_polygon(rng) for _ in range(_POLYGONS)]
    shapes = list(islice(cycle(COCO_SHAPES), images))
    categories = [{"id": n, "name": name} for n, name in enumerate(class_names, 1)]
    boxes, comma = 0, ""
    with path.open("w", encoding="utf-8") as file:
        file.write(f'{{"categories": {json.dumps(categories)}, "images": [')
        file.write(", ".join(json.dumps(entry_of_an_image(n, x)) for n, x in enumerate(shapes)))
        file.write('], "annotations": [')
        for number, shape in enumerate(shapes):
            for box in boxes_of_an_image(*shape, rng):
                boxes += 1
                file.write(
                    f'{comma}{{"segmentation": [{polygons[boxes % _POLYGONS]}], '
                    f'"area": {box[2] * box[3] / 2}, "iscrowd": 0, "image_id": {number + 1}, '
                    f'"bbox": {box}, "category_id": {boxes % len(class_names) + 1}, "id": {boxes}}}'
                )
                comma = ", "
        file.write("]}")
    return boxes


def _polygon(rng: np.random.Generator) -> str:
    """Its corners, x and y in turn, as they stand in a file: with two decimals, as COCO's."""
    count = rng.integers(_CORNERS // 2, _CORNERS * 3 // 2, endpoint=True)
    return json.dumps(rng.uniform(0, 640, 2 * int(count)).round(2).tolist())
