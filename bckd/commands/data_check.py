"""The command `bckd data check`: all that is wrong or odd in a data set, at once."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from bckd.commands.parsing import parse
from bckd.image_size import ImageSize
from bckd.system.errors import InputError
from bckd.system.values import Place, Side, checked

if TYPE_CHECKING:
    from bckd.inspection.checking import Checked
    from bckd.inspection.parts import Part


@dataclass(frozen=True)
class CheckOptions:
    """All that is wrong or odd in a data set in COCO's format, at once; all images are decoded.

    Exit code 0: no fault; 1: faults, which training refuses; 2: nothing to look at.
    """

    root: tyro.conf.Positional[Place | None] = None
    """folder of a data set, laid out as `bckd train custom` takes it or as Roboflow exports it, or
    with a single annotation file and one folder of images"""
    annotations: Place | None = None
    """COCO instances file of a single part"""
    images: Place | None = None
    """folder of its images"""
    fix: Place | None = None
    """folder to write mended copies of the annotation files to, where there is one right answer;
    images stay where they are"""
    all: bool = False
    """list every entry of a kind, and every class"""
    short_side: Side | None = None
    """short side of an image as training will see it, in pixels; None: as `bckd train
    custom-small` chooses it for these data"""
    long_side: Side | None = None
    """limit of its long side; None: as the short side"""


def run(arguments: list[str]) -> int:
    """Check a data set; the exit code."""
    options = checked(parse(CheckOptions, arguments, "data check"))
    from bckd.inspection.checking import check, lines_of  # late: no help and no typo needs it
    from bckd.inspection.layouts import train_options

    parts = _parts(options)
    found = check(parts, whole=options.fix is not None)
    for line in lines_of(found, _size(options), options.all):
        print(line)
    print()
    if options.fix is not None:
        parts = _mended(found, options.fix, options.root, options.all)
        if found.faults() and parts != [part.part for part in found.parts]:
            found = _looked_at_anew(parts, options.all)
    faults = len(found.faults())
    if faults:
        print(f"{faults} kind{'s' * (faults > 1)} of fault, which training and evaluation refuse")
        return 1
    words = None if options.root is None else train_options(options.root, parts)
    print("no faults" if words is None else f"no faults; {next_command(words, _boxed(found))}")
    return 0


def _boxed(found: Checked) -> bool:
    """Whether there is a box to learn from."""
    learnt = [part.annotations for part in found.parts if part.part.learnt]
    return any(part is not None and part.learnable_classes for part in learnt)


def next_command(data: list[str], boxed: bool) -> str:
    """How to go on with a data set that these options say.

    Args:
        boxed: whether it has a box to learn from.
    """
    options = shlex.join(data)
    if not boxed:
        return (
            f"no image is labelled: to learn from a teacher alone, on a CPU,\n"
            f"  bckd train custom-small {options} --teacher TEACHER\n"
            f"on a GPU by the preset custom"
        )
    return (
        f"to learn from them, on a CPU:\n  bckd train custom-small-teacher {options}\n"
        f"  bckd train custom-small {options} --teacher runs/custom-small-teacher --twin\n"
        f"on a GPU the presets are custom-teacher and custom"
    )


def _size(options: CheckOptions) -> ImageSize | None:
    """How images will be brought to size; None where no side is given."""
    short = options.short_side or options.long_side
    if short is None:
        return None
    return ImageSize(short, max(short, options.long_side or short))


def _parts(options: CheckOptions) -> list[Part]:
    from bckd.inspection.layouts import find_parts
    from bckd.inspection.parts import Part

    given = options.annotations, options.images
    if options.root is not None and given == (None, None):
        return find_parts(options.root)
    if options.root is None and options.annotations is not None and options.images is not None:
        return [Part("data", options.annotations, options.images)]
    raise InputError(
        "bckd data check needs either the folder of a data set, or --annotations and --images"
    )


def _looked_at_anew(parts: list[Part], every: bool) -> Checked:
    """What is left in the copies: a fault that is mended may have hidden others."""
    from bckd.inspection.checking import check, lines_of_findings

    found = check(parts)
    print("With these copies:\n")
    for line in lines_of_findings(found, every):
        print(line)
    return found


def _mended(found: Checked, out: Path, root: Path | None, every: bool) -> list[Part]:
    """Write mended copies and say what they are; the parts, with these."""
    from bckd.inspection.checking import mend
    from bckd.inspection.report import of_changes

    copies = {}
    for part, path, changes in mend(found, out, root):
        copies[part] = replace(part, annotations=path)
        print(f"{path} is a mended copy:")
        for line in of_changes(changes, every):
            print(line)
        print()
    if not copies:
        print("there is nothing that --fix mends\n")
    return [copies.get(part.part, part.part) for part in found.parts]
