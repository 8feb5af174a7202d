"""The command `bckd study`: a published comparison, or one of a file, run or continued."""

from __future__ import annotations

from pathlib import Path

from bckd.commands.help import listed
from bckd.commands.parsing import parse
from bckd.studies.catalogue import GRIDS, STUDIES
from bckd.studies.options import HypothesesOptions, StudyOptions
from bckd.studies.report import overview, summary
from bckd.studies.study import Study
from bckd.system.errors import InputError
from bckd.system.nearest import expected

HYPOTHESES = "hypotheses"


def run(arguments: list[str]) -> None:
    """Run what is missing of a study, or of several, and print their tables."""
    if not arguments or arguments[0] in ("-h", "--help", "--help-all"):
        print("bckd study NAME [options]\nbckd study FILE.py [options]   a study of your own\n")
        print(f"Studies:\n{listed(overview(STUDIES.values()))}\n")
        print(f"Several, one after the other:\n{listed(_grids())}\n")
        said = listed([(HYPOTHESES, "what was guessed before they ran, and what they say of it")])
        print(f"What came out:\n{said}\n")
        print("`bckd study NAME --help` lists the options.")
        return
    name, *rest = arguments
    if name == HYPOTHESES:
        _tell_hypotheses(rest)
        return
    studies, default = _studies(name)
    titles = "; ".join(study.title for study in studies)
    text = f"Run what is missing of a study, and print its tables: {titles}."
    options = parse(StudyOptions, rest, f"study {name}", default=default, description=text)
    if len(studies) > 1 and options.extra is not None:
        raise InputError(f"--extra takes the lines of one study; {name} is {len(studies)}")
    from bckd.studies.runner import run_study  # late: no help and no typo needs it

    for study in studies:
        heading = f"{study.name}: {study.title}\n\n" if len(studies) > 1 else ""
        print(heading + summary(study, run_study(study, options)), flush=True)


def _tell_hypotheses(arguments: list[str]) -> None:
    text = "Print what was guessed before the fine studies ran, and what their runs say of it."
    options = parse(HypothesesOptions, arguments, f"study {HYPOTHESES}", description=text)
    from bckd.studies.evidence import load_studies  # late, as above
    from bckd.studies.hypotheses import FAMILIES
    from bckd.studies.verdicts import hypotheses_table, verdicts

    if not options.results.is_dir():
        raise InputError(
            f"--results is {options.results}, which is no folder; expected one of results"
        )
    lines = load_studies(options.results)
    print("\n\n".join(hypotheses_table(verdicts(lines, family)) for family in FAMILIES))


def _grids() -> list[tuple[str, str]]:
    """Names of several studies, and which these are."""
    return [(name, ", ".join(x.name for x in studies)) for name, studies in GRIDS.items()]


def _studies(name: str) -> tuple[tuple[Study, ...], StudyOptions]:
    """What that name or file stands for, in order, and its options unless others are given."""
    if name.endswith(".py"):
        from bckd.studies.study_check import load_study

        path = Path(name)
        return (load_study(path),), StudyOptions(results=path.parent / "results")
    known = {**{key: (study,) for key, study in STUDIES.items()}, **GRIDS}
    if name not in known:
        others = expected(name, [*known, HYPOTHESES], "bckd study")
        raise InputError(f"study {name!r} is unknown; {others}, and FILE.py is one of your own")
    return known[name], StudyOptions()
