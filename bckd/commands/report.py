"""The command `bckd report`: one page on runs or weights, side by side."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from bckd.commands.parsing import existing, parse
from bckd.recipes import DataConfig, EvaluationConfig
from bckd.system.errors import InputError
from bckd.system.files import check_writable
from bckd.system.values import Place, checked

if TYPE_CHECKING:
    from bckd.comparison.report import Report


@dataclass(frozen=True)
class ReportOptions:
    """One page on runs or weights side by side: AP with intervals, errors, pictures, recipes."""

    data: DataConfig = field(default_factory=DataConfig)
    out: Place = Path("runs/report")
    """folder of report.html and report.json"""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps; auto: cuda where there is one, else cpu"""
    evaluation: Annotated[EvaluationConfig, tyro.conf.OmitArgPrefixes] = field(
        default_factory=EvaluationConfig
    )


def run(arguments: list[str]) -> None:
    """Report on detectors."""
    sources = list(takewhile(lambda word: not word.startswith("-"), arguments))
    rest = arguments[len(sources) :]
    if not sources:
        if rest and rest[0] not in ("-h", "--help"):
            raise InputError("bckd report needs folders of runs, or weights, before its options")
        print("bckd report RUN [RUN ...] [options]\n")
        print("A RUN is the folder of a run, or weights.\n")
        parse(ReportOptions, ["--help"], "report")
        return
    paths = [existing(source) for source in sources]
    from bckd.comparison.report import NUMBERS, PAGE, report_on  # late: no help and no typo
    from bckd.comparison.subjects import data_of  # needs them

    def parsed(own: DataConfig) -> ReportOptions:
        return checked(parse(ReportOptions, rest, "report", default=ReportOptions(own)))

    data = data_of(paths, lambda own: parsed(own).data)
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
