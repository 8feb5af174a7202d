"""The tables of speeds in the reference are what the bench has written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bckd.bench.results import Line, Results, read_results

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
FILES = {path.stem: read_results(path) for path in (NOTEBOOKS / "benchmarks").glob("*.json")}
# By what a row says: the part and the line of the bench; images that the time is shared by.
ON_A_GPU = {
    "**whole step**": ("step", "whole step", 1),
    "student forward": ("step", "student forward", 1),
    "teacher": ("step", "teacher", 1),
    "targets and losses": ("step", "targets and losses", 1),
    "backward": ("step", "backward", 1),
    "detection, one image": ("inference", "batch of 1", 1),
    "detection, an image of sixteen": ("inference", "batch of 16", 16),
}
AROUND = "cpu-around-the-step"
ON_A_CPU = {
    "step in float32": ("cpu-float32", "step", "whole step"),
    "step in bf16, which `auto` takes here": ("cpu-bf16", "step", "whole step"),
    "its targets and losses": ("cpu-bf16", "step", "targets and losses"),
    "taken over by a process that loads images": (AROUND, "annotations", "taken over by a "),
    "detection, one image of 320 x 320": (AROUND, "inference", "batch of 1"),
    "detections of 250 images scored, 100 each": (AROUND, "evaluation", "scoring of 250 images"),
    "a `torch.export` program written": (AROUND, "export", "torch.export program"),
    "an ONNX file written": (AROUND, "export", "ONNX"),
}
BEGINNINGS = {
    "annotations of train2017's size": (AROUND, "annotations", "118,287 images, "),
    "an image of COCO's shapes decoded": (AROUND, "loader", "image, by one process"),
}


def rows() -> dict[str, list[str]]:
    """The cells of all tables of two or three columns, by the first one."""
    text = (NOTEBOOKS / "reference.md").read_text(encoding="utf-8")
    section = text[text.index("## How fast is it here?") :]
    section = section[: section.index("\n## ", 1)]
    found = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("|")
    ]
    return {cells[0]: cells[1:] for cells in found}


def line_of(results: Results, part: str, name: str) -> Line:
    """The line of that name, or else the only one that begins so."""
    of_part = [line for line in results.lines if line.part == part]
    exact = [line for line in of_part if line.name == name]
    (line,) = exact or [line for line in of_part if line.name.startswith(name)]
    return line


def is_rounded(said: str, value: float) -> bool:
    """Whether a number in a table is the value, to as many places as it shows."""
    number = said.replace(",", "")
    places = len(number.partition(".")[2])
    return number == f"{value:.{places}f}"


@pytest.mark.parametrize("what", ON_A_GPU)
def test_on_a_gpu(what: str) -> None:
    part, name, images = ON_A_GPU[what]
    cells = rows()[what]
    for cell, file in zip(cells, ("h200", "h200-compiled"), strict=True):
        if cell == "not measured":
            assert not any(x.part == part for x in FILES[file].lines)
            continue
        said, *speed = re.findall(r"[\d,.]+", cell)
        line = line_of(FILES[file], part, name)
        assert is_rounded(said, 1e3 * line.seconds.median / images)
        if speed:
            assert is_rounded(speed[0], line.images / line.seconds.median)


@pytest.mark.parametrize("what", [*ON_A_CPU, *BEGINNINGS])
def test_on_a_cpu(what: str) -> None:
    found = rows()
    if what in BEGINNINGS:
        (what_it_says,) = [x for x in found if x.startswith(what)]
        file, *place = BEGINNINGS[what]
    else:
        what_it_says = what
        file, *place = ON_A_CPU[what]
    line = line_of(FILES[file], *place)
    said, memory = found[what_it_says]
    assert is_rounded(said, 1e3 * line.seconds.median)
    if memory:
        assert is_rounded(memory.removesuffix(" GB"), line.memory / 1e9)
    if "861,295" in what_it_says:
        assert "861,295" in line.name


def test_memory_and_arithmetic_on_a_gpu() -> None:
    found = rows()
    for column, file in enumerate(("h200", "h200-compiled")):
        results = FILES[file]
        line = line_of(results, "step", "whole step")
        assert is_rounded(found["memory"][column].removesuffix(" GB"), line.memory / 1e9)
        rate = line.flop / line.seconds.median
        said, share = re.findall(
            r"\d+", found["TFLOP/s (share of a large matrix product's)"][column]
        )
        assert is_rounded(said, rate / 1e12) and is_rounded(
            share, 100 * rate / results.machine.peak
        )
    loaded, wait = re.findall(
        r"[\d.]+", found["a step with images from the loader, wait for them"][0]
    )
    for said, name in ((loaded, "whole step, images loaded"), (wait, "data wait")):
        assert is_rounded(said, 1e3 * line_of(FILES["h200"], "step", name).seconds.median)


def test_what_it_was_measured_on() -> None:
    text = (NOTEBOOKS / "reference.md").read_text(encoding="utf-8")
    for file, machine, torch, size in (
        ("h200", "NVIDIA H200", "2.11", (16, 800, 1344)),
        ("h200-compiled", "NVIDIA H200", "2.11", (16, 800, 1344)),
        ("cpu-float32", "Intel(R) Xeon(R)", "2.15", (2, 320, 320)),
        ("cpu-bf16", "Intel(R) Xeon(R)", "2.15", (2, 320, 320)),
        (AROUND, "Intel(R) Xeon(R)", "2.15", (2, 320, 320)),
    ):
        found, settings = FILES[file].machine, FILES[file].settings
        assert found.device.startswith(machine) and found.torch.startswith(torch)
        assert (settings.batch_size, settings.height, settings.width) == size
        assert f"benchmarks/{file}.json" in text and f"PyTorch {torch}" in text
        assert settings.preset == "coco-r50" and settings.teacher == "gfl on resnet101"
    precisions = [FILES[x].settings.precision for x in ("h200", "cpu-float32", "cpu-bf16")]
    assert precisions == ["bf16", "float32", "bf16"]
    assert not FILES["h200"].settings.compile and FILES["h200-compiled"].settings.compile


def test_every_row_is_held_to_something() -> None:
    others = {"", "---", "memory", "TFLOP/s (share of a large matrix product's)"}
    others |= {"a step with images from the loader, wait for them"}
    for what in rows():
        begins = any(what.startswith(x) for x in BEGINNINGS)
        assert begins or what in {*ON_A_GPU, *ON_A_CPU, *others}, what
