"""Runs a study: many small trainings side by side, one JSON line each.

A study that was stopped goes on where it was, a run included. Lines are appended as
runs end; a line says all that is needed to repeat its run.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import torch
import torchvision
import tyro
from tqdm.auto import tqdm

from bckd.agreement import agreement
from bckd.checkpoints import STUDENT, load_detector
from bckd.datasets.scenes import write_scenes
from bckd.error_analysis import analyse_errors
from bckd.errors import InputError
from bckd.evaluation import detect, evaluation_loader
from bckd.files import finite_or_none, write_text
from bckd.preparation import training_data, validation_data
from bckd.recipes import PRESETS, Recipe
from bckd.run_log import read_lines, read_log
from bckd.studies.catalogue import MODELS, STUDIES
from bckd.studies.statistics import best_scale
from bckd.studies.study import Cell, Method, Study, differences, model_path, recipe_of
from bckd.studies.swapping import measure_swaps
from bckd.teaching import Teaching
from bckd.trainer import NonFiniteLossError, make_teaching, train

SCENES = {Path("data/scenes"): "standard", Path("data/scenes12"): "twelve"}


@dataclass(frozen=True)
class StudyOptions:
    """Where a study reads and writes, and which part of its comparison to run."""

    results: Path = Path("notebooks/results")
    """folder of one JSON-lines file a study; runs that are there are not repeated"""
    out: Path = Path("runs/study")
    """folder of the runs, and of the models that studies need"""
    processes: int = 2
    """runs side by side, one thread each"""
    seeds: tuple[int, ...] = ()
    """compare on these seeds (default: the published ones)"""
    methods: tuple[str, ...] = ()
    """compare these methods alone"""
    extra: Path | None = None
    """write the comparison's lines to this file, and leave the published one as it is"""
    swaps: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """also measure what each part of the output costs each student, into NAME_swaps.jsonl"""


def run_study(study: Study, options: StudyOptions) -> list[dict[str, Any]]:
    """Do what of a study is not done yet: models, sweep, comparison.

    Returns:
        The lines of the study, or those of `options.extra`.

    Raises:
        InputError: data or a file is absent or something else, a method is unknown, or
            a run that is there had another configuration.
    """
    if options.processes < 1:
        raise InputError(f"--processes is {options.processes}; expected 1 or more")
    known = {method.name: method for method in study.methods}
    chosen = options.methods or tuple(known)
    unknown = next((name for name in chosen if name not in known), None)
    if unknown is not None:
        raise InputError(
            f"study {study.name} has no method {unknown!r}; expected some of {', '.join(known)}"
        )
    path = options.results / f"{study.name}.jsonl"
    _prepare_data(study)
    with _pool(options.processes) as pool:
        _train_models(study.models(), options.out, pool)
        swept = {name for method in chosen for name in (method, known[method].scale_of)}
        sweep = [cell for cell in study.sweep() if cell.method in swept]
        _run_cells(study, sweep, path, options.out, pool)
        scales = chosen_scales(study, options.results, chosen)
        cells = [
            Cell("comparison", name, scales[name], seed)
            for seed in (options.seeds or study.seeds)
            for name in chosen
        ]
        _run_cells(study, cells, options.extra or path, options.out, pool)
    lines = read_lines(options.extra or path)
    if options.swaps:
        seeds = options.seeds or study.seeds
        asked = [x for x in lines if x["method"] in chosen and x["seed"] in seeds]
        measure_swaps(study, asked, options.out, options.results / f"{study.name}_swaps.jsonl")
    return lines if options.extra else published(study, options.results)


def chosen_scales(study: Study, results: Path, names: Iterable[str]) -> dict[str, float]:
    """The scale of each method: its sweep's best, or the one that it takes over."""
    source = STUDIES[study.scales_from] if study.scales_from else study
    lines = read_lines(results / f"{source.name}.jsonl")

    def scale(method: Method) -> float:
        name = method.scale_of or (method.name if method.swept else None)
        if not method.distils or name is None:
            return 1.0
        if not any(line["part"] == "sweep" and line["method"] == name for line in lines):
            raise InputError(f"study {study.name} needs the sweep of {source.name}; run it first")
        return best_scale(lines, name)

    return {name: scale(study.method(name)) for name in names}


def published(study: Study, results: Path) -> list[dict[str, Any]]:
    """The lines of a study, with those of the methods that it shares with "base"."""
    lines = read_lines(results / f"{study.name}.jsonl")
    base = read_lines(results / "base.jsonl") if study.shared else []
    return lines + [
        line
        for line in base
        if (line["part"], line["method"] in study.shared) == ("comparison", True)
        and line["seed"] in study.seeds
    ]


def run_cell(study: Study, cell: Cell, out: Path) -> dict[str, Any]:
    """Train, evaluate and compare with the teacher: one line of the results."""
    recipe = recipe_of(study, cell, out)
    line: dict[str, Any] = {
        "study": study.name,
        **asdict(cell),
        "preset": "scenes",
        "changes": _published_changes(recipe),
    }
    teacher_path = model_path(study.teacher, out)
    # Only what the teacher's answers depend on, so that all cells share them.
    asked = replace(PRESETS["scenes"][1], teacher=recipe.teacher, data=recipe.data)
    teaching = _teaching(replace(asked, model=recipe.model)) if recipe.teacher else None
    try:
        result = train(recipe, resume=recipe.out.exists(), progress=False, teaching=teaching)
    except NonFiniteLossError as error:
        return {**line, "AP": None, "failed": str(error), **_provenance(0.0)}
    validation = _validation(recipe.data)
    teacher = load_detector(teacher_path).detector
    line |= asdict(result.metrics)
    line |= asdict(agreement(result.detector, teacher, evaluation_loader(validation, 32)))
    if cell.part == "comparison":
        loader = evaluation_loader(validation, 32)
        found = detect(result.detector, loader, validation.annotations, progress=False)
        line |= asdict(analyse_errors(found, validation.annotations))
        line["gradients"] = _gradients(recipe)
    return {**line, **_provenance(result.seconds)}


def _published_changes(recipe: Recipe) -> dict[str, Any]:
    """What `bckd train scenes` needs to be told to repeat a run."""
    changes = differences(recipe, PRESETS["scenes"][1])
    for name in ("out", "device", "log_gradients", "seed"):
        changes.pop(name, None)
    return changes


def _gradients(recipe: Recipe, records: int = 10) -> list[dict[str, Any]]:
    """A few of the log's records of the gradient on the class logits."""
    log = [record for record in read_log(recipe.out) if "gradients" in record]
    step = max(1, len(log) // records)
    return [
        {"step": record["step"], "gradients": _rounded(record["gradients"])}
        for record in log[step - 1 :: step]
    ]


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return float(f"{value:.4g}")


def _provenance(seconds: float) -> dict[str, Any]:
    return {
        "seconds": round(seconds, 1),
        "machine": f"{platform.machine()}, 1 thread",
        "versions": {"torch": torch.__version__, "torchvision": torchvision.__version__},
        "date": time.strftime("%Y-%m-%d"),
    }


def _prepare_data(study: Study) -> None:
    """Draw the scenes that a study needs; other data must be there."""
    root = study.base.data.root
    if root in SCENES:
        write_scenes(root, variant=SCENES[root])
    elif not root.is_dir():
        raise InputError(f"study {study.name} needs a COCO-format data set in {root}")


def _pool(processes: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(
        processes,
        mp_context=get_context("spawn"),
        initializer=torch.set_num_threads,
        initargs=(1,),
    )


def _train_models(names: set[str], out: Path, pool: ProcessPoolExecutor) -> None:
    """Train the models that are not there yet; stopped ones go on."""
    todo = [name for name in sorted(names) if not (out / "models" / name / STUDENT).exists()]
    futures = {name: pool.submit(_train_model, name, out) for name in todo}
    for name, future in tqdm(futures.items(), desc="models", disable=not futures):
        tqdm.write(f"{name}: AP {100 * future.result():.1f}")


def _train_model(name: str, out: Path) -> float:
    recipe = replace(MODELS[name], out=out / "models" / name, device="cpu")
    return train(recipe, resume=recipe.out.exists(), progress=False).metrics.AP


def _run_cells(
    study: Study, cells: list[Cell], path: Path, out: Path, pool: ProcessPoolExecutor
) -> None:
    """Run what the file does not hold yet; append each line as it comes."""
    lines = read_lines(path)
    write_text(path, "".join(json.dumps(line) + "\n" for line in lines))  # drops a cut line
    done = {(x["part"], x["method"], x["scale"], x["seed"]): x for x in lines}
    todo = []
    for cell in cells:
        line = done.get((cell.part, cell.method, cell.scale, cell.seed))
        if line is None:
            todo.append(cell)
        else:
            _check_same(line, _published_changes(recipe_of(study, cell, out)), path)
    if not todo:
        return
    with tqdm(total=len(cells), initial=len(cells) - len(todo), desc=study.name) as bar:
        futures = [pool.submit(run_cell, study, cell, out) for cell in todo]
        for future in as_completed(futures):
            line = future.result()
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(finite_or_none(line)) + "\n")
            bar.update()
            precision = "failed" if line["AP"] is None else f"AP {100 * line['AP']:.1f}"
            bar.set_postfix_str(f"{line['method']} seed {line['seed']}: {precision}")


def _check_same(line: dict[str, Any], changes: dict[str, Any], path: Path) -> None:
    if line["changes"] != json.loads(json.dumps(changes)):
        where = f"{line['part']} run of {line['method']!r}, seed {line['seed']}"
        raise InputError(f"{path}: the {where} had another configuration; move the file away")


@lru_cache(maxsize=2)
def _teaching(recipe: Recipe) -> Teaching | None:
    """The teacher's answers, once a process."""
    return make_teaching(recipe, training_data(recipe.data, 0), torch.device("cpu"), progress=False)


@lru_cache(maxsize=2)
def _validation(data: Any) -> Any:
    return validation_data(data)
