"""The command `bckd eval`; its options are those of `DataConfig` and its own."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from bckd.commands.metrics import print_metrics
from bckd.commands.parsing import existing, parse
from bckd.datasets.annotations import class_names_of
from bckd.datasets.coco import CocoDataset
from bckd.errors import InputError
from bckd.evaluation.average_precision import MAX_DETECTIONS, evaluate, write_results
from bckd.files import check_writable, read_json, write_atomically
from bckd.models.dense import DenseDetector
from bckd.models.grouped import forward_in_groups
from bckd.recipes import DataConfig, Recipe
from bckd.training.preparation import pick_device, validation_data, with_classes_of
from bckd.values import Count, Images, Place, checked, from_plain
from bckd.viz.pictures import pictures_of
from bckd.viz.score_maps import score_map_grid
from bckd.zoo.checkpoints import load_detector, recorded_size
from bckd.zoo.unfinished import weights_of_run


@dataclass(frozen=True)
class EvalOptions:
    """Average precision by pycocotools."""

    data: DataConfig
    device: str = "auto"
    """cpu, cuda, cuda:1, mps; auto: cuda where there is one, else cpu"""
    batch_size: Images = 16
    """images a forward pass"""
    detections: Place | None = None
    """also write the detections, as a COCO results JSON file"""
    max_detections: Count | None = None
    """detections an image that are kept and judged; by default COCO's AP judges 100"""
    score_maps: Place | None = None
    """also draw score maps of the first four images, as a PNG file"""


def run(arguments: list[str]) -> None:
    """Evaluate a detector on a data set."""
    if not arguments or arguments[0].startswith("-"):
        if arguments and arguments[0] not in ("-h", "--help"):
            raise InputError("bckd eval needs the folder of a run, or weights, before its options")
        print("bckd eval RUN [options]\n\nRUN is the folder of a run, or weights.\n")
        arguments, data, path = ["--help"], DataConfig(), Path("RUN")
    else:
        path = existing(arguments[0])
        data, arguments = _recorded_data(path), arguments[1:]

    options = checked(parse(EvalOptions, arguments, f"eval {path}", default=EvalOptions(data)))
    limit = MAX_DETECTIONS if options.max_detections is None else options.max_detections
    annotations = options.data.root / options.data.val_annotations
    weights = weights_of_run(path) if path.is_dir() else path
    written = [file for file in (options.detections, options.score_maps) if file is not None]
    for number, file in enumerate(written):
        check_writable(file, weights, annotations, *written[:number])
    names = class_names_of(annotations)
    checkpoint = load_detector(path, names)
    settings = checkpoint.detector.settings
    kept = settings.max_detections if options.max_detections is None else limit
    dataset = validation_data(options.data, checkpoint.detector.normalisation, min(kept, limit))
    for file in filter(Path.exists, written):
        check_writable(file, *(dataset.folder / image.file_name for image in dataset.images))
    detector, dataset = with_classes_of(checkpoint.detector, path, dataset)
    detector = detector.to(pick_device(options.device))
    detector.settings = replace(settings, max_detections=kept)
    loading = (options.batch_size, options.data.workers)
    metrics, results = evaluate(detector, dataset, *loading, max_detections=limit)
    if not results:
        print("nothing was found on these images")
    if options.detections is not None:
        write_results(options.detections, results)
        print(f"{len(results)} detections are in {options.detections}")
    if options.score_maps is not None:
        _draw_score_maps(detector, dataset, options.score_maps)
        print(f"score maps are in {options.score_maps}")
    print_metrics(asdict(metrics))


@torch.no_grad()
def _draw_score_maps(detector: DenseDetector, dataset: CocoDataset, path: Path) -> None:
    batch = dataset.batch(range(min(4, len(dataset))))
    images = batch.images.to(next(detector.parameters()).device)
    output = forward_in_groups(detector, images, batch.canvases)
    pictures = pictures_of(batch, dataset.normalisation)
    drawing = score_map_grid(pictures, {"detector": output}, "detector")
    write_atomically(path, lambda part: drawing.savefig(part, format="png"))


def _recorded_data(path: Path) -> DataConfig:
    """What to evaluate on by default: the run's own data set, and the size of its images.

    The run is the folder itself, that of its student, or the one above its snapshots.
    """
    folders = [path] if path.is_dir() else [path.parent, path.parent.parent]
    found = (folder / "recipe.json" for folder in folders)
    recipe = next((file for file in found if file.is_file()), None)
    if recipe is None:
        return DataConfig(size=recorded_size(path))
    return from_plain(Recipe, read_json(recipe), str(recipe)).data
