"""The command `bckd bench`: how fast training and all around it is on this machine."""

from __future__ import annotations

from bckd.bench.options import BenchOptions
from bckd.commands.parsing import parse
from bckd.system.files import check_writable
from bckd.system.values import checked

PRESET = "coco-r50"


def run(arguments: list[str]) -> None:
    """Measure, print a table, and write what was found."""
    named = bool(arguments) and not arguments[0].startswith("-")
    preset, rest = (arguments[0], arguments[1:]) if named else (PRESET, arguments)
    options = checked(parse(BenchOptions, rest, f"bench {preset}"))
    from bckd.bench.bench import run_bench  # late: no help and no typo needs it
    from bckd.bench.results import Results, read_results
    from bckd.bench.table import table_of

    before = None if options.compare is None else read_results(options.compare)
    out = options.out
    if out is not None:
        check_writable(out)

    def keep(results: Results) -> None:
        if out is not None:
            results.write(out)

    results = run_bench(preset, options, keep)
    print(table_of(results, before))
    if out is not None:
        print(f"\nthe numbers are in {out}")
