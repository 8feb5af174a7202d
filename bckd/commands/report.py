"""The command `bckd report`: one page on runs or weights, side by side."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from bckd.commands.help import Short
from bckd.commands.like import named_recipe
from bckd.commands.options import EvaluatedAtSize
from bckd.commands.parsing import HELP, existing, parse
from bckd.recipes import DataConfig, EvaluationConfig
from bckd.system.errors import InputError
from bckd.system.files import check_writable
from bckd.system.values import Place, checked

if TYPE_CHECKING:
    from bckd.comparison.report import Report


@dataclass(frozen=True)
class ReportOptions:
    """One page on runs or weights side by side: AP with intervals, errors, pictures, recipes."""

    data: EvaluatedAtSize = field(default_factory=EvaluatedAtSize)
    out: Place = Path("runs/report")
    """folder of report.html and report.json"""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps; auto: cuda where there is one, else cpu"""
    evaluation: Annotated[EvaluationConfig, tyro.conf.OmitArgPrefixes] = field(
        default_factory=EvaluationConfig
    )
    like: Annotated[Place | None, tyro.conf.arg(aliases=["--recipe"])] = None
    """a run, or a recipe in JSON, whose data, device and evaluation are the defaults, in place of
    the runs' own"""


SHORT = Short(
    (
        "--out",
        "--data.root",
        "--data.val-images",
        "--data.val-annotations",
        "--data.first-val",
        "--batch-size",
        "--device",
        "--like",
    ),
    (
        "report runs/my-student runs/my-student-alone",
        "report nanodet_m --data.root data/coco --data.first-val 500",
    ),
)


def run(arguments: list[str]) -> None:
    """Report on detectors."""
    sources = list(takewhile(lambda word: not word.startswith("-"), arguments))
    rest = arguments[len(sources) :]
    if not sources:
        if rest and rest[0] not in HELP:
            raise InputError("bckd report needs folders of runs, or weights, before its options")
        print("A RUN is the folder of a run, a file of weights, or a published name.\n")
        parse(ReportOptions, rest or ["--help"], "report RUN [RUN ...]", SHORT)
        return
    paths = [existing(source) for source in sources]
    from bckd.comparison.report import NUMBERS, PAGE, report_on  # late: no help and no typo
    from bckd.comparison.subjects import data_of  # needs them

    like = named_recipe(rest)

    def parsed(own: DataConfig) -> ReportOptions:
        default = ReportOptions(EvaluatedAtSize.of(own))
        if like is not None:  # images at the size that goes with the weights all the same
            data = EvaluatedAtSize.of(replace(like.data, size=own.size))
            default = ReportOptions(data, device=like.device, evaluation=like.evaluation)
        return checked(parse(ReportOptions, rest, "report", SHORT, default=default))

    data = data_of(paths, lambda own: parsed(own).data.config())
    options = parsed(data[0])
    if (options.out / "recipe.json").exists():
        raise InputError(
            f"{options.out} is the folder of a run, whose own page is {PAGE}; expected another one"
        )
    for name in (PAGE, NUMBERS):
        check_writable(options.out / name)
    found = report_on(paths, data, options.device, options.evaluation)
    found.write(options.out)
    _print(found)
    print(f"open {options.out / PAGE}; the numbers are in {options.out / NUMBERS}")


def _print(found: Report) -> None:
    findings = found.findings
    width = max(len(one.name) for one in findings.detectors)
    for one in findings.detectors:
        ap, ap50 = one.measures["AP"], one.measures["AP50"]
        if ap.value is None or ap50.value is None:
            print(f"{one.name:{width}}  AP is unknown: no object to find is listed")
            continue
        assert ap.low is not None and ap.high is not None  # where there is a value
        print(
            f"{one.name:{width}}  AP {100 * ap.value:.1f} ({100 * ap.low:.1f} to "
            f"{100 * ap.high:.1f})  AP50 {100 * ap50.value:.1f}"
        )
