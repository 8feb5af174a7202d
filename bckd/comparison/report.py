"""A report on some detectors: what `bckd report` writes, and a notebook shows."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bckd.comparison.galleries import galleries_of
from bckd.comparison.measured import findings_of, measure
from bckd.comparison.subjects import data_of, load_subjects, names_of
from bckd.evaluation.resampling import RESAMPLINGS
from bckd.recipes import DataConfig, EvaluationConfig
from bckd.reports.detectors_page import Gallery, detectors_page
from bckd.reports.findings import Findings
from bckd.system.errors import InputError
from bckd.system.files import write_json, write_text
from bckd.system.telling import each_once
from bckd.system.values import checked

PAGE, NUMBERS = "report.html", "report.json"


@dataclass(frozen=True)
class Report:
    """What was found, and pictures of it. A notebook shows its page."""

    findings: Findings
    galleries: list[Gallery]

    def page(self) -> str:
        """One HTML file that needs nothing else."""
        return detectors_page(self.findings, self.galleries)

    def write(self, folder: Path) -> None:
        """Write the page and its numbers as JSON into a folder.

        Raises:
            InputError: they can't be written.
        """
        write_json(folder / NUMBERS, self.findings.to_json())
        write_text(folder / PAGE, self.page())

    def _repr_html_(self) -> str:
        style = "width: 100%; height: 800px; border: 0"
        return (
            f'<iframe title="report" style="{style}" srcdoc="{html.escape(self.page())}"></iframe>'
        )


def report(
    *sources: Path | str,
    data: DataConfig | Path | str | None = None,
    device: str = "auto",
    progress: bool = True,
) -> Report:
    """Run detectors over the images of a data set, and report on them: `bckd report`.

    Args:
        sources: detectors, as `bckd.load` takes them: folders of runs, files of weights, published
            names.
        data: a COCO data set: its folder, laid out as the runs' own; or all that is to be said of
            it, the size of images too. None: the runs' own, which has to be the same for all.
        device: cpu, cuda, cuda:1, mps; auto: cuda where there is one, else cpu.
        progress: show bars.

    Raises:
        InputError: weights or data are absent or something else, or do not fit one another.
    """
    if not sources:
        raise InputError("there is nothing to report on; expected the folder of a run, or weights")
    paths = [Path(source) for source in sources]

    def changed(own: DataConfig) -> DataConfig:
        if isinstance(data, DataConfig):
            return data
        return own if data is None else replace(own, root=Path(data))

    return report_on(paths, data_of(paths, changed), device, EvaluationConfig(), progress=progress)


def report_on(
    sources: Sequence[Path],
    data: Sequence[DataConfig],
    device: str,
    evaluation: EvaluationConfig,
    resamplings: int = RESAMPLINGS,
    progress: bool = True,
) -> Report:
    """As `report`, with each detector's data, as `data_of` gives them.

    Args:
        resamplings: of the images, for intervals.
    """
    names_of(sources)
    with each_once():
        subjects = load_subjects(sources, [checked(own) for own in data], device)
        measured = measure(subjects, evaluation, resamplings, progress)
        findings = findings_of(measured, evaluation.precision)
        return Report(findings, galleries_of(measured))
