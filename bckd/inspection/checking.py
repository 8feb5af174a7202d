"""A data set looked at, part by part and together; and mended."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from bckd.datasets.findings import Fault, Findings, Kind
from bckd.image_size import ImageSize
from bckd.inspection import report
from bckd.inspection.mending import mended
from bckd.inspection.pairs import compare
from bckd.inspection.parts import Inspected, Part, inspect
from bckd.recipes.fitted import fitted
from bckd.recipes.left_open import without_fit
from bckd.recipes.presets import PRESETS
from bckd.system.errors import InputError
from bckd.system.files import check_writable, write_atomically


@dataclass(frozen=True)
class Checked:
    """What was found in a data set.

    Attributes:
        parts: in the order that they were given in.
        pairs: of the part to learn from with each other one.
    """

    parts: list[Inspected]
    pairs: list[Findings]

    def faults(self) -> list[Fault]:
        """All kinds, each as often as it is there."""
        found = (*(part.findings for part in self.parts), *self.pairs)
        return [kind for findings in found for kind in findings.faults]


def check(parts: Sequence[Part], whole: bool = False) -> Checked:
    """Look at all parts of a data set.

    Args:
        whole: keep what `mend` needs.

    Raises:
        InputError: no part can be read.
    """
    found = [inspect(part, whole) for part in parts]
    if all(part.annotations is None for part in found):
        raise InputError(next(iter(found[0].findings.faults)).what)
    training = next((part for part in found if part.part.name == "train"), None)
    others = [part for part in found if part is not training]
    return Checked(found, [compare(training, x) for x in others] if training else [])


def lines_of(checked: Checked, size: ImageSize | None, every: bool = False) -> Iterator[str]:
    """All that was found, as lines for a terminal.

    Args:
        size: how images will be brought to size; None: as the preset `custom-small` chooses it.
        every: see `report`.
    """
    yield from lines_of_findings(checked, every)
    yield from report.of_classes(checked.parts, every)
    learnt = next((part for part in checked.parts if part.part.learnt), None)
    if learnt and learnt.annotations and learnt.annotations.learnable_classes:
        recipe = PRESETS["custom-small"].recipe
        if size is not None:
            recipe = without_fit(replace(recipe, data=replace(recipe.data, size=size)), ["size"])
        recipe = fitted(recipe, learnt.annotations)
        model = recipe.model.resolved()
        rules = (recipe.data.size, model.strides, model.anchor_scale)
        yield ""
        yield from report.of_sizes(learnt.annotations, *rules)
        if size is None:
            larger = fitted(PRESETS["custom"].recipe, learnt.annotations).data.size
            if larger != recipe.data.size:
                yield (
                    f"(so does custom-small; custom, for a GPU, takes {larger.short_side} and "
                    f"{larger.long_side})"
                )


def lines_of_findings(checked: Checked, every: bool = False) -> Iterator[str]:
    """What is wrong or odd, part by part and together."""
    for part in checked.parts:
        yield from report.of_part(part.part)
        yield from report.of_findings(part.findings, every)
        yield ""
    for findings in checked.pairs:
        if findings.faults or findings.oddities:
            yield f"{findings.source} together:"
            yield from report.of_findings(findings, every)
            yield ""


def mend(
    checked: Checked, out: Path, root: Path | None
) -> Iterator[tuple[Part, Path, dict[Kind, list[str]]]]:
    """Write mended copies of the annotation files, each below `out` as it lies below `root`.

    Returns:
        The part, its copy, and what was changed, by kind; none of a file in which there was
        nothing to mend.

    Raises:
        InputError: a place can't be written to, or is a file that was read.
    """
    read = [part.part.annotations for part in checked.parts]
    read += [file.path for part in checked.parts for file in part.files]
    for part in checked.parts:
        if part.annotations is None:
            continue
        path = part.part.annotations
        target = out / (path.relative_to(root) if root else path.name)
        check_writable(target, *read)
        content, changes = mended(part.content, part.annotations, part.part.images)
        if changes:
            write_atomically(target, partial(_write, content))
            yield part.part, target, changes


def _write(content: Any, path: Path) -> None:
    try:
        path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    except UnicodeEncodeError:  # halves of characters, which JSON can say in another way
        path.write_text(json.dumps(content), encoding="utf-8")
