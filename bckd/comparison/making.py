"""How a detector's weights were made, as their file and the folder of their run tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bckd.comparison.subjects import Subject
from bckd.recipes.official import fields_of
from bckd.reports.curves import thinned
from bckd.reports.findings import Made, Trained
from bckd.system.files import sha256_of
from bckd.training.run_log import read_log
from bckd.zoo.unfinished import weights_of_run


def made(subject: Subject) -> Made:
    """What there is to tell."""
    path = weights_of_run(subject.source) if subject.source.is_dir() else subject.source
    recipe = None
    if subject.recipe is not None:
        recipe = {name: _text(value) for name, value in fields_of(subject.recipe).items()}
    return Made(
        sha256=sha256_of(path) if path.is_file() else None,
        record={name: _text(value) for name, value in _flat(subject.checkpoint.record)},
        recipe=recipe,
        trained=_trained(subject),
    )


def _trained(subject: Subject) -> Trained | None:
    if subject.folder is None or subject.recipe is None:
        return None
    records = read_log(subject.folder)
    lines = [x for x in records if "unweighted" in x]
    scores = [(x["step"], x["metrics"].get("AP")) for x in records if "metrics" in x]
    if not lines and not scores:
        return None
    terms = {}
    for term in dict.fromkeys(term for x in lines for term in x["unweighted"]):
        steps = [x["step"] for x in lines]
        terms[term] = _points(steps, [x["unweighted"].get(term) for x in lines])
    ap = _points([step for step, _ in scores], [value for _, value in scores])
    return Trained(subject.recipe.steps, ap, terms)


def _points(steps: list[int], values: list[float | None]) -> tuple[list[float], list[float]]:
    """A line of few points; the log has null for what is no number."""
    x, y = thinned(steps, [float("nan") if value is None else value for value in values])
    return x.tolist(), y.tolist()


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
