"""Options by the names that other programs give them, and what to say of one that is unknown."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bckd.system.nearest import nearest, question_of

_MEANT = 3  # options that a sentence asks about

# Names of Ultralytics, mmdetection, detectron2 and torchvision's scripts, and what does it here.
# An answer counts for a command that has the options which it names, or, where it names none,
# for those behind it; of several the first.
_OF_OTHERS: tuple[tuple[str, str, str], ...] = (
    ("lr lr0 base-lr learning-rate", "--optimisation.learning-rate", ""),
    ("epoch max-epochs num-epochs", "--epochs", ""),
    ("iterations iters max-iters max-steps", "--steps", ""),
    (
        "imgsz img-size image-size img-scale input-size img resolution",
        "--data.size.short-side with --data.size.long-side",
        "",
    ),
    (
        "imgsz img-size image-size img-scale input-size img resolution",
        "not set: images come at the size that the weights were trained with",
        "predict protocols export",
    ),
    ("imgsz img-size image-size img resolution", "--height with --width", ""),
    ("batch bs b samples-per-gpu imgs-per-batch", "--batch-size", ""),
    ("name project work-dir output-dir save-dir output o save exist-ok", "--out", ""),
    ("save-json save-txt save output o", "--detections", ""),
    ("data data-path data-dir data-root dataset", "--data.root", ""),
    ("data data-path data-dir data-root dataset", "--root", ""),
    (
        "weights load-from checkpoint ckpt model init",
        "--start (what the student starts from) or --teacher",
        "",
    ),
    ("checkpoint ckpt model load-from", "--weights", ""),
    (
        "weights load-from checkpoint ckpt model",
        "the word after the command: a run's folder, a file or a published name",
        "eval export predict",
    ),
    ("cfg config recipe", "the preset after the command; `bckd train` lists them", "train"),
    ("resume-from auto-resume", "--resume, with the --out of the run", ""),
    ("num-workers workers-per-gpu j", "--data.workers", ""),
    ("conf conf-thres confidence score score-thr score-threshold thr", "--threshold", ""),
    ("conf conf-thres score-thr", "--model.postprocess.score-threshold", ""),
    ("iou iou-thres nms nms-thr", "--model.postprocess.nms-iou", ""),
    (
        "iou iou-thres nms nms-thr",
        "not set: a detector keeps what it was trained with",
        "eval export predict protocols",
    ),
    ("max-det max-dets", "--max-detections", ""),
    ("max-det max-dets", "--model.postprocess.max-detections", ""),
    ("amp fp16 half bf16 float16", "--precision", ""),
    ("gpu gpus gpu-id gpu-ids cuda cpu", "--device", ""),
    ("val-interval eval-interval eval-period", "--evaluate-epochs or --evaluate-every", ""),
    ("save-period save-interval", "--checkpoint-every", ""),
    ("optim solver", "--optimisation.optimizer", ""),
    ("wd", "--optimisation.weight-decay", ""),
    ("freeze", "--model.frozen-stages", ""),
    ("distill distil kd", "--teacher", ""),
    ("source images input", "the words after the run: bckd predict RUN IMAGES...", "predict"),
    ("include format", "--onnx, --program or --official, each with its file", ""),
)


def unknown_option(word: str, options: Sequence[str], command: str) -> str:
    """The sentence that refuses a word where an option of the command could stand.

    Args:
        word: as it was typed.
        options: those of the command, with their dashes.
        command: as it was typed, without its options.
    """
    listing = f"`bckd {command} --help-all` lists them"
    if not word.startswith("-"):
        return f"{word!r} is no option, and one word too many behind others; {listing}"
    name = word.partition("=")[0].lstrip("-").replace("_", "-").lower()
    if (answer := _answer(name, options, command.partition(" ")[0])) is not None:
        return f"option {word!r} is unknown; here it is {answer}"
    question = question_of(_nearest_options(name, options))
    return f"option {word!r} is unknown; {question}{listing}"


def _answer(name: str, options: Sequence[str], command: str) -> str | None:
    for names, answer, commands in _OF_OTHERS:
        if name not in names.split():
            continue
        named = re.findall(r"--[\w.-]+", answer)
        if command in commands.split() if commands else set(named) <= set(options):
            return answer
    return None


def _nearest_options(name: str, options: Sequence[str]) -> list[str]:
    """Options of that last part, else those whose name or last part is spelled like it."""
    whole = {option.lstrip("-"): option for option in options}
    last: dict[str, list[str]] = {}
    for each, option in whole.items():
        last.setdefault(each.rpartition(".")[2], []).append(option)
    if name in last:
        return last[name][:_MEANT]
    found = [whole[each] for each in nearest(name, whole)]
    found += [option for each in nearest(name, last) for option in last[each]]
    return list(dict.fromkeys(found))[:_MEANT]
