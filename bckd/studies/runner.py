"""Runs a study: many small trainings side by side, one JSON line each.

A study that was stopped goes on where it was, a run included. Lines are appended as
runs end; a line says all that is needed to repeat its run.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any, TypeVar, get_args

import torch
from tqdm.auto import tqdm

from bckd.datasets.scenes import write_scenes
from bckd.studies import label_files
from bckd.studies.catalogue import MODELS
from bckd.studies.cells import published_changes, run_cell
from bckd.studies.options import StudyOptions
from bckd.studies.statistics import best_scale
from bckd.studies.study import Cell, Method, Study
from bckd.studies.study_check import prepared, source_of
from bckd.studies.swapping import measure_swaps
from bckd.studies.validation_parts import Part, judged_file, write_validation_parts
from bckd.system.device import pick_device
from bckd.system.errors import InputError
from bckd.system.files import check_writable, one_maker
from bckd.system.interruption import ending
from bckd.system.telling import first_of
from bckd.system.values import checked
from bckd.training.run_log import append_line, drop_cut_line, read_lines
from bckd.training.trainer import train
from bckd.zoo.unfinished import STUDENT

T = TypeVar("T")
# What a line of the results says of its run, at the least.
KINDS = {"part": str, "method": str, "scale": int | float, "seed": int}
# Scenes that are drawn when a study needs them: arguments of `write_scenes` by folder.
SCENES: dict[Path, dict[str, Any]] = {
    Path("data/scenes"): {},
    Path("data/scenes-fresh"): {"train": 1, "seed": 1},
    Path("data/scenes-fine"): {"train": 1, "val": 2000, "seed": 2},
    Path("data/scenes-confirm"): {"train": 1, "val": 2000, "seed": 3},
    Path("data/scenes12"): {"variant": "twelve"},
    Path("data/scenes12-fine"): {"variant": "twelve", "train": 1, "val": 2000, "seed": 2},
}


def run_study(study: Study, options: StudyOptions) -> list[dict[str, Any]]:
    """Do what of a study is not done yet: models, sweep, comparison.

    Returns:
        The lines of the study, or those of `options.extra`.

    Raises:
        InputError: the study, an option or a file is not what it should be, data are absent,
            a run that is there had another configuration, there is no such device, another
            process runs this study into these results, or a process of this one is gone.
    """
    options = checked(options)
    study = prepared(study, options.out)
    study = replace(study, device=str(pick_device(options.device or study.device)))
    _check_options(study, options)
    chosen = options.methods or tuple(method.name for method in study.methods)
    seeds = options.seeds or study.seeds
    path = options.results / f"{study.name}.jsonl"
    for file in (path, *filter(None, [options.extra])):
        check_writable(file)
        if not read_lines(file, KINDS) and file.is_file() and b"\n" in file.read_bytes():
            raise InputError(f"{file} holds no results of a study; name another place for them")
    with one_maker(path), ending(options.out) as told, told.at_once():
        return _run_study(study, options, chosen, seeds)


def _run_study(
    study: Study, options: StudyOptions, chosen: tuple[str, ...], seeds: tuple[int, ...]
) -> list[dict[str, Any]]:
    path = options.results / f"{study.name}.jsonl"
    _prepare_data(study)
    with _workers(options.processes, options.threads) as pool:
        every_seed = (*seeds, *study.sweep_seeds, *study.edge_seeds)
        _train_models(study.models(chosen, every_seed), options.out, study.device, pool)
        swept = {name for m in chosen for name in (m, study.method(m).scale_of)}
        sweep = [] if options.scales_from else [x for x in study.sweep() if x.method in swept]
        _run_cells(study, sweep, path, options.out, pool)
        names = dict.fromkeys(x.method for x in sweep if study.method(x.method).distils)
        for _ in study.scales_below:
            lines = read_lines(path, KINDS)
            below = [cell for name in names for cell in study.sweep_below(lines, name)]
            _run_cells(study, below, path, options.out, pool)
        if study.edge_seeds:
            lines = read_lines(path, KINDS)
            edges = [cell for name in names for cell in study.sweep_at_edge(lines, name)]
            _run_cells(study, edges, path, options.out, pool)
        scales = chosen_scales(study, options.scales_from or options.results, chosen)
        cells = [Cell("comparison", name, scales[name], seed) for seed in seeds for name in chosen]
        _run_cells(study, cells, options.extra or path, options.out, pool)
        if options.swaps:
            swaps = options.results / f"{study.name}_swaps.jsonl"
            jobs: list[Job] = [(measure_swaps, study, cell, options.out) for cell in cells]
            _append_results(
                _without(jobs, read_lines(swaps, KINDS)), swaps, f"{study.name}, swaps", pool
            )
    return read_lines(options.extra, KINDS) if options.extra else published(study, options.results)


def _check_options(study: Study, options: StudyOptions) -> None:
    for name in options.methods:
        study.method(name)  # raises where there is none
    for name in ("seeds", "methods"):
        twice = [value for value, count in Counter(getattr(options, name)).items() if count > 1]
        if twice:
            raise InputError(f"--{name} has {twice[0]} twice")
    source = source_of(study)
    swept = {*study.sweep_seeds, *source.sweep_seeds, *source.edge_seeds}
    leaked = sorted(swept & set(options.seeds))
    if leaked:
        raise InputError(f"--seeds has {leaked[0]}, a seed of the sweep that chose the weights")
    others = sorted(set(options.seeds) - set(study.seeds))
    if others and options.extra is None:
        raise InputError(f"--seeds has {others[0]}, not published: name a file for it by --extra")
    if options.swaps and options.extra:
        raise InputError("--swaps belongs to published runs; leave out --extra")


def chosen_scales(study: Study, results: Path, names: Iterable[str]) -> dict[str, float]:
    """The scale of each method: its sweep's best, or the one that it takes over; 1 without any.

    Args:
        results: folder of the lines of the sweep.
    """
    source = source_of(study)
    path = results / f"{source.name}.jsonl"
    lines = read_lines(path, KINDS)

    def scale(method: Method) -> float:
        """Of a method: its sweep's best, once that sweep is whole."""
        name = method.scale_of or (method.name if method.swept else None)
        if not method.distils or name is None or not source.scales:
            return 1.0
        found = {
            (x["scale"], x["seed"]) for x in lines if (x["part"], x["method"]) == ("sweep", name)
        }
        wanted = set(product(source.scales, source.sweep_seeds))
        if wanted <= found:
            more = source.sweep_below(lines, name)
            more += source.sweep_at_edge(lines, name) if source.edge_seeds else []
            wanted |= {(cell.scale, cell.seed) for cell in more}
        if found != wanted:
            raise InputError(
                f"study {study.name} needs the whole sweep of {source.name} for {name!r}; run that "
                f"study first, or say where its lines are (--scales-from; {path} has not all)"
            )
        return best_scale(lines, name)

    return {name: scale(study.method(name)) for name in names}


def published(study: Study, results: Path) -> list[dict[str, Any]]:
    """The lines of a study, with those of the methods that it shares with another."""
    lines = read_lines(results / f"{study.name}.jsonl", KINDS)
    base = read_lines(results / f"{study.shared_from}.jsonl", KINDS) if study.shared else []
    return lines + [
        line
        for line in base
        if (line["part"], line["method"] in study.shared) == ("comparison", True)
        and line["seed"] in study.seeds
    ]


def _prepare_data(study: Study) -> None:
    """Draw the scenes that a study needs; other data must be there."""
    used = [study.base.data, *filter(None, [study.sweep_data])]
    # A folder beside the root is where "root/.." leads, also if the root is a link.
    beside = [(data.root / data.val_images).parent for data in used]
    validation = {Path(os.path.normpath(place)): place for place in beside}
    roots = {data.root: data.root for data in used}
    for root, place in (roots | validation).items():
        if root in SCENES:
            write_scenes(place, **SCENES[root])
        elif not root.is_dir():
            raise InputError(
                f"study {study.name} needs a COCO-format data set in {root}; "
                f"data/README.md says where it comes from"
            )
    for data in used:
        if data.val_annotations in {judged_file(data.root, part) for part in get_args(Part)}:
            write_validation_parts(data.root)
    if label_files.are_of(study.base.data.train_annotations):
        label_files.write_label_files(str(study.teacher))


@contextmanager
def _workers(processes: int, threads: int) -> Iterator[ProcessPoolExecutor]:
    """Processes of so many threads; after an error, or an interruption, no further run starts."""
    others = set(active_children())
    pool = ProcessPoolExecutor(
        processes,
        mp_context=get_context("spawn"),
        initializer=torch.set_num_threads,
        initargs=(threads,),
    )
    try:
        yield pool
    except BaseException as error:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in set(active_children()) - others:
            process.terminate()  # which saves a run under way
        if isinstance(error, BrokenProcessPool):
            raise InputError(
                "a process of the study was ended from outside, perhaps for want of memory; "
                "fewer of them (--processes) need less, and a study that is started again goes on"
            ) from error
        raise
    pool.shutdown()


def _train_models(names: set[str], out: Path, device: str, pool: ProcessPoolExecutor) -> None:
    """Train the models that are not there yet; stopped ones go on."""
    todo = [name for name in sorted(names) if not (out / "models" / name / STUDENT).exists()]
    futures = {name: pool.submit(_alone, _train_model, name, out, device) for name in todo}
    for name, future in tqdm(futures.items(), desc="models", disable=not futures):
        tqdm.write(f"{name}: AP {100 * future.result():.1f}")


def _train_model(name: str, out: Path, device: str) -> float:
    recipe = replace(MODELS[name], out=out / "models" / name, device=device)
    return train(recipe, resume=recipe.out.exists(), progress=False).metrics.AP


def _run_cells(
    study: Study, cells: list[Cell], path: Path, out: Path, pool: ProcessPoolExecutor
) -> None:
    """Run what the file does not hold yet; append each line as it comes."""
    lines = read_lines(path, KINDS)
    for line in lines:
        _check_same(study, line, path)
    jobs: list[Job] = [(run_cell, study, cell, out) for cell in cells]
    _append_results(_without(jobs, lines), path, study.name, pool)


def _alone(work: Callable[..., T], *arguments: Any) -> T:
    """`work` in a process of the study, which ends where it is told to."""
    try:
        return work(*arguments)
    except KeyboardInterrupt:
        os._exit(1)  # else the pool would have it do the next piece of work


Job = tuple[Callable[[Study, Cell, Path], dict[str, Any]], Study, Cell, Path]


def _without(jobs: list[Job], lines: list[dict[str, Any]]) -> list[Job]:
    """The jobs whose line is not there."""
    done = {(x["part"], x["method"], x["scale"], x["seed"]) for x in lines}
    return [
        job for job in jobs if (job[2].part, job[2].method, job[2].scale, job[2].seed) not in done
    ]


def _append_results(jobs: list[Job], path: Path, title: str, pool: ProcessPoolExecutor) -> None:
    """Run jobs side by side, each line appended to the file as it comes."""
    if not jobs:
        return
    drop_cut_line(path)
    with tqdm(total=len(jobs), desc=title) as bar:
        futures = [pool.submit(_alone, work, *about) for work, *about in jobs]
        for future in as_completed(futures):
            line = future.result()
            append_line(path, line)
            bar.update()
            precision = "failed" if line["AP"] is None else f"AP {100 * line['AP']:.1f}"
            bar.set_postfix_str(f"{line['method']} seed {line['seed']}: {precision}")


def _check_same(study: Study, line: dict[str, Any], path: Path) -> None:
    cell = Cell(line["part"], line["method"], line["scale"], line["seed"])
    theirs, ours = line.get("changes", {}), published_changes(study, cell)
    if theirs != ours:
        where = f"{cell.part} run of {cell.method!r}, seed {cell.seed}"
        names = [name for name in theirs | ours if theirs.get(name) != ours.get(name)]
        raise InputError(
            f"{path}: the {where} had another configuration ({first_of(names)}); name new "
            f"folders by --results and --out to run the study anew"
        )
