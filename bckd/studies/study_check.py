"""What a study can't be, refused before anything runs; and where it names models by their files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from bckd.losses.terms import TERMS
from bckd.studies.catalogue import MODELS, STUDIES
from bckd.studies.study import Cell, Method, Study, name_of_term, recipe_of
from bckd.system.errors import InputError
from bckd.system.named import load_module
from bckd.system.telling import first_of
from bckd.system.values import checked
from bckd.training.recipe_check import check_recipe, require


def load_study(path: Path) -> Study:
    """The study that a file of Python defines: its `study`, or the only one in it.

    Raises:
        InputError: the file is absent or can't be loaded, or defines no such study.
    """
    names = vars(load_module(str(path), f"study is {str(path)!r}"))
    studies = {id(value): value for value in names.values() if isinstance(value, Study)}
    found = [names["study"]] if id(names.get("study")) in studies else [*studies.values()]
    if len(found) != 1:
        raise InputError(
            f"{path} defines {len(found)} studies; expected one (a bckd.studies.study.Study), or "
            f"one that is called `study`"
        )
    (study,) = found
    if study.name in STUDIES:
        raise InputError(
            f"{path}: a published study is called {study.name!r}; expected another name"
        )
    return study


def source_of(study: Study) -> Study:
    """The study whose sweep chooses the scales: itself, or the one that `scales_from` names."""
    return STUDIES[study.scales_from] if study.scales_from else study


def prepared(study: Study, out: Path) -> Study:
    """The study with a path in place of every text that names no model of the catalogue.

    Args:
        out: folder of all studies.

    Raises:
        InputError: naming the study, and the field or the method that is wrong.
    """
    study = replace(
        study,
        base=checked(study.base, f"study {study.name}, base"),
        teacher=_model(study.teacher),
        starts=tuple(map(_model, study.starts)),
        methods=tuple(
            replace(method, teacher=None if method.teacher is None else _model(method.teacher))
            for method in study.methods
        ),
    )
    try:
        _check(study)
    except InputError as error:
        raise InputError(f"study {study.name}: {error}") from error
    for method in study.methods:
        try:
            _check_method(study, method)
            check_recipe(recipe_of(study, Cell("comparison", method.name, 1.0, 0), out))
        except InputError as error:
            raise InputError(f"study {study.name}, method {method.name}: {error}") from error
    return study


def _model(text: str | Path) -> str | Path:
    return text if text in MODELS else Path(text)


def _check(study: Study) -> None:
    plain = re.fullmatch(r"[\w.-]+", study.name)
    require(
        bool(plain), "name", repr(study.name), "letters, digits, '-', '_' and '.', as of a file"
    )
    known = study.scales_from in (None, *STUDIES)
    require(known, "scales_from", repr(study.scales_from), f"one of {first_of([*STUDIES])}")
    for field, values in (
        ("methods", [method.name for method in study.methods]),
        ("seeds", study.seeds),
        ("scales", study.scales),
    ):
        twice = _twice(values)
        require(not twice, field, [*values], f"each once, but has {first_of(twice)} twice")
    require(bool(study.methods), "methods", "empty", "one or more")
    require(bool(study.seeds), "seeds", "empty", "one or more")
    enough = len(study.scales) > 1 or not study.edge_seeds
    require(enough, "scales", study.scales, "two or more, for edge_seeds to compare")
    falling = (min(study.scales, default=0.0), *study.scales_below)
    below = all(second < first for first, second in pairwise(falling))
    require(below, "scales_below", study.scales_below, "falling ones below the smallest of scales")
    swept = bool(study.scales) == bool(study.sweep_seeds)
    require(swept, "sweep_seeds", study.sweep_seeds, "some where there are scales, and only there")
    source = source_of(study)
    leaked = set(study.seeds) & {*source.sweep_seeds, *source.edge_seeds}
    require(not leaked, "seeds", study.seeds, f"none of the sweep that chooses scales: {leaked}")
    require(not study.base.terms, "base.terms", study.base.terms, "them in `Method.terms`")


def _check_method(study: Study, method: Method) -> None:
    own = [name_of_term(text) for text in method.terms]
    unknown = [name for name in method.weights if name not in (*TERMS, *own)]
    terms = ", ".join((*TERMS, *own))
    require(not unknown, "weights has", first_of(unknown), f"distillation terms, of {terms}")
    lacking = [name for name in own if name not in method.weights]
    require(not lacking, "terms has", first_of(lacking), "a weight of that name in `weights`")
    taken = method.scale_of or (method.name if method.swept else None)
    source = source_of(study)
    if method.distils and taken is not None and source.scales:
        names = [other.name for other in source.methods if other.swept]
        what = f"a method that study {source.name} sweeps ({first_of(names)}), or swept=False"
        require(taken in names, "the method that gives its scale", repr(taken), what)


def _twice(values: Iterable[object]) -> list[str]:
    return [str(value) for value, count in Counter(values).items() if count > 1]
