"""What a study is: methods, a regime, scales and seeds; and the recipe of every run in it.

A study compares methods in one regime (data, teacher, schedule, start). Each method has
published weights; the sweep multiplies them by each of the study's scales, on seeds that
the comparison does not use, and the comparison takes the scale of the highest mean AP.
Every swept method gets a sweep of the same size. Only a best scale at an end of it asks for more:
at the upper one, to be compared with the one below on more seeds; at the lower, smaller ones.
A study without a sweep takes the scales of another one; a variant takes its original's. Sweep and
comparison share the images to evaluate on, unless the study says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

from bckd.losses.terms import TERMS
from bckd.recipes import DataConfig, Recipe
from bckd.recipes.loss_weights import LossWeights
from bckd.studies.statistics import Line, best_scale
from bckd.system.errors import InputError
from bckd.system.nearest import expected
from bckd.system.values import from_plain, to_plain
from bckd.weights.published import PRETRAINED

Changes = dict[str, Any]  # fields of a recipe by their dotted name
NO_DISTILLATION = LossWeights(binary=0, iou=0)


@dataclass(frozen=True)
class Method:
    """A way to distil.

    Attributes:
        weights: of distillation terms by name, as published; empty without a teacher.
        terms: those of one's own among these, MODULE:NAME or FILE.py:NAME each.
        changes: what else of the recipe it changes.
        swept: as part of a study's sweep; otherwise it takes `scale_of`'s scale, or 1.
        scale_of: the method whose scale it takes.
        teacher: what teaches in place of the study's teacher.
    """

    name: str
    weights: dict[str, float] = field(default_factory=dict)
    changes: Changes = field(default_factory=dict)
    swept: bool = True
    scale_of: str | None = None
    teacher: str | Path | None = None
    terms: tuple[str, ...] = ()

    @property
    def distils(self) -> bool:
        """Whether there is a teacher."""
        return bool(self.weights)


@dataclass(frozen=True)
class Study:
    """A regime and the methods compared in it.

    Attributes:
        title: what is varied, in a few words.
        base: the recipe of all its runs, but for method and seed.
        teacher: name of a model; or, as a path, a file of weights or a published name.
        methods: compared on `seeds`.
        scales: factors on the published weights that the sweep tries.
        sweep_seeds: of the sweep.
        edge_seeds: where a method's best scale on `sweep_seeds` is the largest of all, these
            more seeds compare it with the one below.
        scales_below: where a method's best scale is the smallest of all, these are tried for it,
            from the largest, until a best scale has one below.
        scales_from: the study whose sweep serves this one, in place of its own.
        starts: the models that students start from, likewise, all methods of a seed from the same
            one: seed n from number n modulo their count. None: from the seed.
        sweep_data: of the sweep, where that is evaluated on other images.
        shared: methods whose runs the study `shared_from` has already, with the same recipe
            and seeds; they are not run again.
        device: what its runs compute on, the models that it needs included.
    """

    name: str
    title: str
    base: Recipe
    teacher: str | Path
    methods: tuple[Method, ...]
    seeds: tuple[int, ...]
    scales: tuple[float, ...] = ()
    sweep_seeds: tuple[int, ...] = ()
    edge_seeds: tuple[int, ...] = ()
    scales_below: tuple[float, ...] = ()
    scales_from: str | None = None
    shared: tuple[str, ...] = ()
    shared_from: str = "base"
    starts: tuple[str | Path, ...] = ()
    sweep_data: DataConfig | None = None
    device: str = "cpu"

    def start(self, seed: int) -> str | Path | None:
        """The model that the students of a seed start from, if any."""
        return self.starts[seed % len(self.starts)] if self.starts else None

    def method(self, name: str) -> Method:
        """The method of that name.

        Raises:
            InputError: the study has none.
        """
        found = {method.name: method for method in self.methods}
        if name not in found:
            raise InputError(f"study {self.name} has no method {name!r}; {expected(name, found)}")
        return found[name]

    def sweep(self) -> Iterator[Cell]:
        """The runs that choose the scales; without distillation, what all of them tend to at 0."""
        for method in self.methods:
            if method.swept:
                for scale in self.scales if method.distils else (1.0,):
                    for seed in self.sweep_seeds:
                        yield Cell("sweep", method.name, scale, seed)

    def sweep_at_edge(self, lines: Iterable[Line], method: str) -> list[Cell]:
        """The runs of a method on `edge_seeds`, if the finished sweep asks for them.

        Args:
            lines: of this study.
        """
        lines = [x for x in lines if x["part"] == "sweep" and x["seed"] in self.sweep_seeds]
        below, largest = sorted(self.scales)[-2:]
        if best_scale(lines, method) != largest:
            return []
        pairs = product((below, largest), self.edge_seeds)
        return [Cell("sweep", method, scale, seed) for scale, seed in pairs]

    def sweep_below(self, lines: Iterable[Line], method: str) -> list[Cell]:
        """The runs of a method at `scales_below` that its sweep so far asks for.

        Args:
            lines: of this study; where they have such runs, these may ask for further ones.
        """
        lines = [x for x in lines if x["part"] == "sweep" and x["seed"] in self.sweep_seeds]
        tried, cells = list(self.scales), []
        for scale in self.scales_below:
            known = [x for x in lines if x["scale"] in tried]
            if best_scale(known, method) != min(tried):
                break
            cells += [Cell("sweep", method, scale, seed) for seed in self.sweep_seeds]
            tried.append(scale)
            if not any((x["method"], x["scale"]) == (method, scale) for x in lines):
                break
        return cells

    def models(self, methods: Iterable[str], seeds: Iterable[int]) -> set[str]:
        """Names of the models that must be trained before runs of these methods and seeds."""
        chosen = [self.method(name) for name in methods]
        starts = {self.start(seed) for seed in seeds}
        names = {self.teacher, *starts, *(method.teacher for method in chosen)}
        return {name for name in names if isinstance(name, str)}


@dataclass(frozen=True)
class Cell:
    """One run of a study."""

    part: Literal["sweep", "comparison"]
    method: str
    scale: float
    seed: int

    @property
    def folder(self) -> str:
        """Its name on disk."""
        method = self.method.replace(" ", "").replace("/", "-")
        return f"{self.part}-{method}-{self.scale:.3g}-seed{self.seed}"


def recipe_of(study: Study, cell: Cell, out: Path) -> Recipe:
    """The recipe of one run.

    Args:
        out: folder of all studies: `out/models/NAME` holds the models.
    """
    method, start = study.method(cell.method), study.start(cell.seed)
    teacher = method.teacher or study.teacher
    data = (study.sweep_data if cell.part == "sweep" else None) or study.base.data
    recipe = replace(
        study.base,
        data=data,
        weights=weights_of(method, cell.scale, study.base.weights),
        terms=terms_of(method, cell.scale),
        teacher=model_path(teacher, out) if method.distils else None,
        start=model_path(start, out) if start else None,
        seed=cell.seed,
        out=out / study.name / cell.folder,
        device=study.device,
        log_gradients=cell.part == "comparison",
    )
    return changed(recipe, method.changes)


def weights_of(
    method: Method, scale: float = 1.0, base: LossWeights = NO_DISTILLATION
) -> LossWeights:
    """All loss weights of a method: its own times `scale`, and `base`'s of losses from labels."""
    own = {name_of_term(text) for text in method.terms}
    kept = {name: weight for name, weight in vars(base).items() if name not in TERMS}
    scaled = {name: scale * x for name, x in method.weights.items() if name not in own}
    return replace(NO_DISTILLATION, **kept, **scaled)


def terms_of(method: Method, scale: float = 1.0) -> tuple[str, ...]:
    """A method's terms of one's own as a recipe names them, their weights times `scale`."""
    weights = {text: scale * method.weights[name_of_term(text)] for text in method.terms}
    return tuple(f"{text}={weight!r}" for text, weight in weights.items())


def name_of_term(text: str) -> str:
    """The name of a term, from MODULE:NAME."""
    return text.rpartition(":")[2]


def model_path(model: str | Path, out: Path) -> Path:
    """Where a model's weights are: its own run under `out/models`, or the file itself."""
    return out / "models" / model if isinstance(model, str) else model


def relocated(study: Study, root: Path) -> Study:
    """The study as seen from another folder than the repository's root, such as a notebook's.

    Args:
        root: the repository's root as seen from there.
    """

    def below_root(data: DataConfig) -> DataConfig:
        return replace(data, root=root / data.root)

    data = below_root(study.base.data)
    sweep = None if study.sweep_data is None else below_root(study.sweep_data)
    starts = tuple(x if isinstance(x, str) else root / x for x in study.starts)
    named = isinstance(study.teacher, str) or str(study.teacher) in PRETRAINED
    teacher = study.teacher if named else root / study.teacher
    base = replace(study.base, data=data)
    return replace(study, base=base, teacher=teacher, sweep_data=sweep, starts=starts)


def changed(recipe: Recipe, changes: Changes) -> Recipe:
    """The recipe with fields replaced by their dotted names.

    Raises:
        InputError: there is no such field.
    """
    plain = to_plain(recipe)
    for name, value in changes.items():
        *parents, last = name.split(".")
        part = plain
        for parent in parents:
            part = part.get(parent)
            if not isinstance(part, dict):
                raise InputError(f"a recipe has no field {name!r}")
        if last not in part:
            raise InputError(f"a recipe has no field {name!r}")
        part[last] = to_plain(value)
    return from_plain(Recipe, plain, "changes of a recipe")


def changes_from(recipe: Recipe, default: Recipe) -> Changes:
    """The fields, by their dotted names, in which a recipe differs from another."""

    def walk(ours: Any, theirs: Any, name: str) -> Iterator[tuple[str, Any]]:
        if isinstance(ours, dict) and isinstance(theirs, dict):
            for key in ours:
                yield from walk(ours[key], theirs[key], f"{name}.{key}" if name else key)
        elif ours != theirs:
            yield name, ours

    return dict(walk(to_plain(recipe), to_plain(default), ""))
