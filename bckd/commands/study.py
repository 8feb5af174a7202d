"""The command `bckd study`: a published comparison, or one of a file, run or continued."""

from __future__ import annotations

from pathlib import Path

from bckd.commands.help import listed
from bckd.commands.parsing import parse
from bckd.studies.catalogue import STUDIES
from bckd.studies.options import StudyOptions
from bckd.studies.report import overview, summary
from bckd.studies.study import Study
from bckd.system.errors import InputError
from bckd.system.nearest import expected


def run(arguments: list[str]) -> None:
    """Run what is missing of a study, and print its tables."""
    if not arguments or arguments[0] in ("-h", "--help", "--help-all"):
        print("bckd study NAME [options]\nbckd study FILE.py [options]   a study of your own\n")
        print(f"Studies:\n{listed(overview(STUDIES.values()))}\n")
        print("`bckd study NAME --help` lists the options.")
        return
    name, *rest = arguments
    study, default = _study(name)
    text = f"Run what is missing of a study, and print its tables: {study.title}."
    options = parse(StudyOptions, rest, f"study {name}", default=default, description=text)
    from bckd.studies.runner import run_study  # late: no help and no typo needs it

    print(summary(study, run_study(study, options)))


def _study(name: str) -> tuple[Study, StudyOptions]:
    """The study of that name, or of that file, and its options unless others are given."""
    if name.endswith(".py"):
        from bckd.studies.study_check import load_study

        path = Path(name)
        return load_study(path), StudyOptions(results=path.parent / "results")
    if name not in STUDIES:
        known = expected(name, STUDIES, "bckd study")
        raise InputError(f"study {name!r} is unknown; {known}, and FILE.py is one of your own")
    return STUDIES[name], StudyOptions()
