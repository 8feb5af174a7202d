"""The command `bckd study`: a published comparison, rerun or continued."""

from __future__ import annotations

from bckd.commands.parsing import parse
from bckd.errors import InputError
from bckd.studies.catalogue import STUDIES
from bckd.studies.report import overview, summary
from bckd.studies.runner import StudyOptions, run_study


def run(arguments: list[str]) -> None:
    """Run what is missing of a study, and print its tables."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"bckd study NAME [options]\n\nStudies:\n{overview(STUDIES.values())}\n")
        print("`bckd study NAME --help` lists the options.")
        return
    name, *rest = arguments
    if name not in STUDIES:
        raise InputError(f"study {name!r} is unknown; expected one of {', '.join(STUDIES)}")
    study = STUDIES[name]
    text = f"Run what is missing of a study, and print its tables: {study.title}."
    options = parse(StudyOptions, rest, f"study {name}", description=text)
    print(summary(study, run_study(study, options)))
