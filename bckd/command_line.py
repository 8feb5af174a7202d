"""The command `bckd`: scenes, train, eval, demo, study, detectors, protocols, export.

The options of `train` are the fields of `Recipe`, those of `eval` the fields of
`DataConfig`: one configuration for Python, notebooks and the shell.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import torch
import tyro

from bckd.checkpoints import load_detector, recorded_size
from bckd.datasets.annotations import class_names_of
from bckd.datasets.coco import CocoDataset
from bckd.datasets.scenes import write_scenes
from bckd.distributed import end_under_torchrun, is_first, launched, process_name
from bckd.errors import InputError, memory_wanted, reason
from bckd.evaluation import MAX_DETECTIONS, evaluate, write_results
from bckd.files import check_writable, read_json, write_atomically
from bckd.interruption import Interrupted, ending
from bckd.models.dense import DenseDetector
from bckd.models.grouped import forward_in_groups
from bckd.preparation import pick_device, validation_data, with_classes_of
from bckd.pretrained import PRETRAINED, listing
from bckd.recipes import PRESETS, DataConfig, Recipe
from bckd.telling import tell_some
from bckd.trainer import NonFiniteLossError, train
from bckd.unfinished import weights_of_run
from bckd.values import Count, Images, Place, Seed, checked, from_plain
from bckd.viz.pictures import pictures_of
from bckd.viz.score_maps import score_map_grid

OVERVIEW = """\
bckd: knowledge distillation for dense object detectors

  bckd scenes        write the embedded benchmark, a small COCO-format data set
  bckd train PRESET  train a detector, with or without a teacher
  bckd eval RUN      average precision of a run's student, or of any weights
  bckd export RUN    a student as ONNX, as a torch.export program, or in the official layout
  bckd detectors     list the published weights that load by name
  bckd protocols     what softmax and sigmoid say of real score maps
  bckd demo          the whole story in minutes: three students, one report
  bckd study NAME    rerun or continue a published comparison; without NAME, list them

`bckd COMMAND --help` lists the options of a command.
"""


@dataclass(frozen=True)
class ScenesOptions:
    """Write the embedded benchmark as a COCO-format data set (once; it stays as it is)."""

    root: Place = Path("data/scenes")
    """folder to write"""
    train: Count = 2000
    """training images"""
    val: Count = 400
    """images to evaluate on"""
    seed: Seed = 0
    """of the drawing"""
    variant: Literal["standard", "twelve"] = "standard"
    """six classes (and the same images with one or four), or twelve classes"""


@dataclass(frozen=True)
class TrainOptions:
    """A recipe, and whether to go on with its run."""

    recipe: Annotated[Recipe, tyro.conf.arg(name="")]
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """continue the run in --out where it stopped"""


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


def main() -> None:
    """Entry point of the command line; what is refused is one sentence and exit code 2."""
    _open_streams()
    try:
        with _heard():
            code = run(sys.argv[1:])
        sys.stdout.flush()
        sys.exit(code)
    except (InputError, NonFiniteLossError) as error:
        _refuse(str(error))
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:  # no space, no right, a name that the system refuses
        _refuse(f"{error.filename}: {reason(error)}" if error.filename else reason(error))
    except (MemoryError, RuntimeError) as error:
        if (wanted := memory_wanted(error)) is None:
            raise
        _refuse(
            f"memory ran out{wanted}; fewer images at once (--batch-size), smaller ones "
            f"(--data.size.short-side, long-side) or a smaller model (--model.width) need less"
        )
    except Interrupted as error:
        error.__traceback__ = None  # with it go the processes that loaded images, in order
        if is_first():
            print(f"bckd: {error}", file=sys.stderr)
        sys.exit(128 + error.number)
    except KeyboardInterrupt:
        print("bckd: interrupted", file=sys.stderr)
        sys.exit(130)


@contextlib.contextmanager
def _heard() -> Iterator[None]:
    """End at once where a signal says so; torchrun has its own way to end its processes."""
    if launched():
        yield
        return
    with ending() as told, told.at_once():
        yield


def _open_streams() -> None:
    """Standard streams that take all that is printed, and what a terminal can't show as its code.

    A service may have closed them: then the next file to be opened would get their number.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")


def _refuse(sentence: str) -> NoReturn:
    sentence = f"bckd{process_name()}: error: {sentence}"
    end_under_torchrun(sentence, 2)
    with contextlib.suppress(OSError):  # nobody hears it
        print(sentence, file=sys.stderr)
    sys.exit(2)


def run(arguments: Sequence[str]) -> int:
    """Run one command; the exit code.

    Raises:
        InputError: unknown command or option, or what the command refuses.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(OVERVIEW, end="")
        return 0
    commands: dict[str, Callable[[list[str]], None]] = {
        "scenes": _scenes,
        "train": _train,
        "eval": _eval,
        "export": _export,
        "detectors": _detectors,
        "protocols": _protocols,
        "demo": _demo,
        "study": _study,
    }
    _check_words(arguments)
    name, *rest = arguments
    if name not in commands:
        raise InputError(f"command {name!r} is unknown; expected one of {', '.join(commands)}")
    commands[name](rest)
    return 0


def _check_words(arguments: Sequence[str]) -> None:
    """An empty one is mostly a variable of the shell that is not set; as a path it means `.`."""
    for number, word in enumerate(arguments, 1):
        if not word or (word.startswith("--") and word.endswith("=")):
            after = f" (after {arguments[number - 2]})" if number > 1 else ""
            raise InputError(f"argument {number}{after} is {word!r}; expected a value, not nothing")
        if not word.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in word):
            raise InputError(f"argument {number}, {word!r}, is no text in this system's encoding")


def parse(kind: Any, arguments: list[str], name: str, **settings: Any) -> Any:
    """Parse options into the dataclass `kind`.

    Raises:
        InputError: an option is unknown or has no such value, by its name.
    """
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            parsed, unknown = tyro.cli(
                kind, args=arguments, prog=f"bckd {name}", return_unknown_args=True, **settings
            )
    except SystemExit as stop:
        if not stop.code:  # --help, which is printed by now
            raise
        raise InputError(_complaint(complaint.getvalue())) from stop
    if unknown:
        raise InputError(f"option {unknown[0]!r} is unknown; `bckd {name} --help` lists them")
    return parsed


def _complaint(box: str) -> str:
    """The paragraph of a boxed message of tyro that names the option, on one line."""
    rule = re.compile(r".*(\u2500{4}|-{4}).*")
    lines = ["" if rule.match(line) else line.strip("\u2502 ") for line in box.splitlines()]
    paragraphs = re.split(r"\n{2,}", "\n".join(lines))
    named = [" ".join(text.split()) for text in paragraphs if "--" in text]
    return named[0] if named else " ".join(box.split())


def _scenes(arguments: list[str]) -> None:
    options = checked(parse(ScenesOptions, arguments, "scenes"))
    write_scenes(options.root, options.train, options.val, options.seed, options.variant)
    print(f"scenes are in {options.root}")


def _train(arguments: list[str]) -> None:
    listed = "\n".join(f"  {name:18}{text}" for name, (text, _) in PRESETS.items())
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"bckd train PRESET [options]\n\nPresets:\n{listed}\n")
        print("`bckd train PRESET --help` lists every option with its default there.")
        return
    preset, *rest = arguments
    if preset not in PRESETS:
        raise InputError(f"preset {preset!r} is unknown; expected one of {', '.join(PRESETS)}")
    text, default = PRESETS[preset]

    options = parse(
        TrainOptions,
        rest,
        f"train {preset}",
        default=TrainOptions(default),
        description=f"Train a detector: {text}.",
    )
    result = train(options.recipe, resume=options.resume)
    if not is_first():
        return
    print_metrics(asdict(result.metrics))
    print(f"the student and its log are in {result.out} ({result.seconds:.0f} s)")


def _eval(arguments: list[str]) -> None:
    if not arguments or arguments[0].startswith("-"):
        if arguments and arguments[0] not in ("-h", "--help"):
            raise InputError("bckd eval needs the folder of a run, or weights, before its options")
        print("bckd eval RUN [options]\n\nRUN is the folder of a run, or weights.\n")
        arguments, data, path = ["--help"], DataConfig(), Path("RUN")
    else:
        path = _existing(arguments[0])
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


def _export(arguments: list[str]) -> None:
    from bckd.exporting import ExportOptions, run_export

    if not arguments or arguments[0].startswith("-"):
        if arguments and arguments[0] not in ("-h", "--help"):
            raise InputError(
                "bckd export needs the folder of a run, or weights, before its options"
            )
        print("bckd export RUN [options]\n\nRUN is the folder of a run, or weights.\n")
        arguments = ["RUN", "--help"]
    source, *rest = arguments
    options = parse(ExportOptions, rest, f"export {source}")
    run_export(_existing(source), options)


def _detectors(arguments: list[str]) -> None:
    if arguments and arguments[0] not in ("-h", "--help"):
        raise InputError(f"bckd detectors takes no options, got {arguments[0]!r}")
    print("Published weights that load by name (bckd eval NAME, --teacher NAME):\n")
    print(listing())


def _protocols(arguments: list[str]) -> None:
    from bckd.protocols import ProtocolOptions, run_protocols

    run_protocols(parse(ProtocolOptions, arguments, "protocols"))


def _existing(source: str) -> Path:
    """A file, a folder, or a published name.

    Raises:
        InputError: it is none.
    """
    if source in PRETRAINED or Path(source).exists():
        return Path(source)
    raise InputError(
        f"{source} does not exist; expected a run's folder, a weights file, or one of "
        f"{', '.join(PRETRAINED)}"
    )


def _demo(arguments: list[str]) -> None:
    from bckd.demo import DemoOptions, run_demo

    run_demo(parse(DemoOptions, arguments, "demo"))


def _study(arguments: list[str]) -> None:
    from bckd.studies.catalogue import STUDIES
    from bckd.studies.report import overview, summary
    from bckd.studies.runner import StudyOptions, run_study

    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"bckd study NAME [options]\n\nStudies:\n{overview(STUDIES.values())}\n")
        print("`bckd study NAME --help` lists the options.")
        return
    name, *rest = arguments
    if name not in STUDIES:
        raise InputError(f"study {name!r} is unknown; expected one of {', '.join(STUDIES)}")
    study = STUDIES[name]
    text = f"Run what is missing of a study, and print its tables: {study.title}."
    options = parse(StudyOptions, rest, f"study {name}", description=text)
    print(summary(study, run_study(study, options)))


def print_metrics(metrics: dict[str, Any]) -> None:
    """Print AP and its parts in percent, then AP by class; what has no object is left out."""
    per_class = metrics["per_class"]
    summary = {name: value for name, value in metrics.items() if name != "per_class"}
    if math.isnan(metrics["AP"]):
        print("AP is unknown: no object to find is listed")
        return
    print("  ".join(f"{name} {_percent(value)}" for name, value in summary.items()))
    known = {name: value for name, value in per_class.items() if not math.isnan(value)}
    width = max(map(len, known))
    for name, value in known.items():
        print(f"  {name:{width}}  {_percent(value)}")
    tell_some("no object here of {} classes", [name for name in per_class if name not in known])


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.1f}"
