"""The command `bckd eval`: average precision of a run's student, or of any weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from bckd.commands.help import Short
from bckd.commands.like import named_recipe
from bckd.commands.metrics import print_metrics
from bckd.commands.options import EvaluatedAtSize
from bckd.commands.parsing import RUN, existing, parse, run_first
from bckd.recipes import DataConfig, EvaluationConfig
from bckd.system.files import check_writable, write_atomically
from bckd.system.values import Count, Place, checked

if TYPE_CHECKING:
    from bckd.datasets.coco import CocoDataset
    from bckd.models.dense import DenseDetector


@dataclass(frozen=True)
class EvalOptions:
    """Average precision of a run's student, or of any weights."""

    data: EvaluatedAtSize = field(default_factory=EvaluatedAtSize)
    device: str = "auto"
    """cpu, cuda, cuda:1, mps; auto: cuda where there is one, else cpu"""
    evaluation: Annotated[EvaluationConfig, tyro.conf.OmitArgPrefixes] = field(
        default_factory=EvaluationConfig
    )
    detections: Place | None = None
    """also write the detections, as a COCO results JSON file"""
    max_detections: Count | None = None
    """detections an image that are kept and judged; by default COCO's AP judges 100"""
    score_maps: Place | None = None
    """also draw score maps of the first four images, as a PNG file"""
    like: Annotated[Place | None, tyro.conf.arg(aliases=["--recipe"])] = None
    """a run, or a recipe in JSON, whose data, device and evaluation are the defaults, in place of
    the run's own"""


SHORT = Short(
    (
        "--data.root",
        "--data.val-images",
        "--data.val-annotations",
        "--data.first-val",
        "--detections",
        "--score-maps",
        "--max-detections",
        "--batch-size",
        "--device",
        "--like",
    ),
    (
        "eval runs/my-student",
        "eval nanodet_m --data.root data/coco --detections found.json",
    ),
)


def run(arguments: list[str]) -> None:
    """Evaluate a detector on a data set."""
    first, rest = run_first("eval", arguments)
    default = EvalOptions(EvaluatedAtSize.of(DataConfig()))
    if first != RUN:
        path = existing(first)
        from bckd.training.recorded import recorded_data  # late: no help and no typo needs it

        data = recorded_data(path)
        default = EvalOptions(EvaluatedAtSize.of(data))
        like = named_recipe(rest)
        if like is not None:  # images at the size that goes with the weights all the same
            data = replace(like.data, size=data.size)
            default = EvalOptions(EvaluatedAtSize.of(data), like.device, like.evaluation)
    options = checked(parse(EvalOptions, rest, f"eval {first}", SHORT, default=default))
    _evaluate(path, options)


def _evaluate(path: Path, options: EvalOptions) -> None:
    from bckd.evaluation.average_precision import MAX_DETECTIONS, evaluate, write_results
    from bckd.teachers.matching import with_classes_of
    from bckd.training.evaluating import saved_and_data
    from bckd.zoo.unfinished import weights_of_run

    data = options.data.config(cache=False)
    annotations = data.root / data.val_annotations
    weights = weights_of_run(path) if path.is_dir() else path
    written = [file for file in (options.detections, options.score_maps) if file is not None]
    for number, file in enumerate(written):
        check_writable(file, weights, annotations, *written[:number])
    detector, dataset = saved_and_data(path, data, options.device, options.max_detections)
    for file in filter(Path.exists, written):
        check_writable(file, *(dataset.folder / image.file_name for image in dataset.images))
    detector, dataset = with_classes_of(detector, path, dataset)
    settings = options.evaluation
    metrics, results = evaluate(
        detector,
        dataset,
        settings.batch_size or 16,
        data.workers,
        max_detections=options.max_detections or MAX_DETECTIONS,
        precision=settings.precision,
        scorer=settings.scorer,
    )
    if not results:
        print("nothing was found on these images")
    if options.detections is not None:
        write_results(options.detections, results)
        print(f"{len(results)} detections are in {options.detections}")
    if options.score_maps is not None:
        _draw_score_maps(detector, dataset, options.score_maps)
        print(f"score maps are in {options.score_maps}")
    print_metrics(asdict(metrics))


def _draw_score_maps(detector: DenseDetector, dataset: CocoDataset, path: Path) -> None:
    import torch

    from bckd.models.grouped import forward_in_groups
    from bckd.viz.pictures import pictures_of
    from bckd.viz.score_maps import score_map_grid

    batch = dataset.batch(range(min(4, len(dataset))))
    moved = batch.to(next(detector.parameters()).device)
    with torch.no_grad():
        output = forward_in_groups(detector, moved.images, moved.canvases)
    pictures = pictures_of(batch, dataset.normalisation)
    drawing = score_map_grid(pictures, {"detector": output}, "detector")
    write_atomically(path, lambda part: drawing.savefig(part, format="png"))
