"""The command `bckd data`: data sets that are fetched or looked at; a word says which."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from bckd.commands import data_check, data_convert, data_label
from bckd.commands.parsing import parse
from bckd.system.errors import InputError
from bckd.system.exit_codes import DONE, PARTLY
from bckd.system.nearest import expected
from bckd.system.values import Place, checked

OVERVIEW = """\
bckd data: data sets

  bckd data check    all that is wrong or odd in a data set of your own
  bckd data convert  files of YOLO or Pascal VOC as a data set in COCO's format
  bckd data label    a teacher's boxes as labels of images that have none
  bckd data coco     fetch COCO 2017, or look whether a copy of it is whole
  bckd data voc2007  photographs of Pascal VOC's test set, for the studies

`bckd data COMMAND --help` lists the options of a command.
"""


@dataclass(frozen=True)
class Voc2007Options:
    """Make the data set of the studies on photographs of Pascal VOC2007's test set.

    2800 and 1000 of its images, their longer side at most 320 pixels, with COCO's names and ids of
    VOC's 20 classes. The source, the folder that VOCtest_06-Nov-2007.tar holds, stays as it is.
    """

    source: Annotated[tyro.conf.Positional[Place], tyro.conf.arg(metavar="SOURCE")] = Path(
        "VOCdevkit/VOC2007"
    )
    """folder of the test set, with Annotations/ and JPEGImages/"""
    root: Place = Path("data/voc2007")
    """folder of the data set"""


@dataclass(frozen=True)
class CocoOptions:
    """Fetch COCO 2017 (20 GB; it takes 41 GB on the way), or look whether a copy is whole."""

    root: Place = Path("data/coco")
    """folder of the data set"""
    verify: bool = False
    """fetch nothing: look at every image that is there, and name those missing or broken"""


def run(arguments: list[str]) -> int | None:
    """Run the sub-command that the first argument names; its exit code, None for 0."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(OVERVIEW, end="")
        return None
    name, *rest = arguments
    if name not in _COMMANDS:
        raise InputError(f"command 'data {name}' is unknown; {expected(name, _COMMANDS)}")
    return _COMMANDS[name](rest)


def _coco(arguments: list[str]) -> int:
    options = checked(parse(CocoOptions, arguments, "data coco"))
    if options.verify:
        return _verify(options.root)
    from bckd.datasets.coco_copy import fetch_coco  # late: no help and no typo needs it

    fetch_coco(options.root)
    print(f"COCO 2017 is in {options.root}; `bckd train coco-r50 --data.root` takes it")
    return DONE


def _verify(root: Path) -> int:
    """Print every fault; the exit code."""
    from bckd.datasets.coco_copy import faults_of_copy  # late, as above

    count = 0
    for fault in faults_of_copy(root):
        print(fault)
        count += 1
    if count:
        print(f"{root} is no whole copy of COCO 2017: {count} faults")
        return PARTLY
    print(f"{root} is a whole copy of COCO 2017")
    return DONE


def _voc2007(arguments: list[str]) -> None:
    options = checked(parse(Voc2007Options, arguments, "data voc2007"))
    from bckd.datasets.formats.voc2007 import write_voc2007  # late, as above

    for part, (images, boxes) in write_voc2007(options.source, options.root).items():
        print(f"{part:5} {images} images, {boxes} boxes")
    print(f"in COCO's format in {options.root}; `bckd study photographs` takes it")


_COMMANDS: dict[str, Callable[[list[str]], int | None]] = {
    "check": data_check.run,
    "convert": data_convert.run,
    "label": data_label.run,
    "coco": _coco,
    "voc2007": _voc2007,
}
