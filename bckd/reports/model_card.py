"""A model card beside a student, in the manner of Hugging Face's: what it is, how it was made.

The part between two marks is written anew with the student. All around it is the user's: licence
and intended use are left to be filled in, and stay as they were.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bckd.reports.page import duration
from bckd.system.files import read_bytes, write_text
from bckd.system.telling import tell
from bckd.zoo.made import Made, Source, distilled
from bckd.zoo.unfinished import STUDENT

CARD = "README.md"
BEGIN = "<!-- bckd writes what follows, and writes it anew when the run is resumed -->"
END = "<!-- what follows is yours -->"


def write_card(folder: Path, made: Made, seconds: float) -> None:
    """Write the model card of a run, or renew the part of one that is bckd's.

    A page of that name without the two marks is somebody else's, and stays.

    Args:
        seconds: of training.

    Raises:
        InputError: it can't be read or written.
    """
    path, own = folder / CARD, _own_part(made, seconds)
    if not path.exists():
        write_text(path, _around(folder.resolve().name, own))
        return
    text = read_bytes(path).decode("utf-8", errors="replace")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if begin and end and "\ufffd" not in text:
        write_text(path, f"{before}{own}{after}")
    else:
        tell(f"{path} is not bckd's, and stays as it is: no model card is written")


def _around(name: str, own: str) -> str:
    """A new card: the user's parts, and bckd's."""
    return f"""\
---
# license: yours to choose; the data and the teacher's weights may limit it
library_name: bckd
pipeline_tag: object-detection
tags:
  - object-detection
  - knowledge-distillation
---

# {_plain(name)}

## Intended use

To be written by whoever passes these weights on: what they are for, on what images, and what
they must not be used for.

{own}
"""


def _own_part(made: Made, seconds: float) -> str:
    parts = (_what(made), _use(made), _data(made), _making(made, seconds), _metrics(made))
    return "\n\n".join([BEGIN, *parts, END])


def _what(made: Made) -> str:
    classes = ", ".join(_plain(name) for name in made.train.objects)
    taught = "" if made.teacher is None else f", distilled from `{made.teacher.name}`"
    return f"""\
## What it is

A detector, {_plain(made.detector)}{taught}, trained with `bckd`.
It draws boxes around objects of {len(made.train.objects)} classes: {classes}."""


def _use(made: Made) -> str:
    if made.own_module:
        return f"""\
## How to use it

The weights go into the module that was trained, which comes with whoever wrote it:

```python
from bckd.zoo.checkpoints import load_module

found = load_module("{STUDENT}", module)  # found.detector gives boxes and scores
```"""
    return f"""\
## How to use it

```python
import bckd

detector = bckd.load("{STUDENT}")
print(detector.predict("photograph.jpg", threshold=0.4))
```

`bckd export` writes it as ONNX. `print(detector.made)` says how it was made, from the weights'
file alone."""


def _data(made: Made) -> str:
    rows = []
    for name, count in made.train.objects.items():
        judged = made.val.objects.get(name, 0)
        rows.append(f"| {_plain(name)} | {count} | {judged} |")
    listed = "\n".join(rows)
    return f"""\
## Data

Trained on `{made.train.annotations.name}` ({made.train.images} images), judged on
`{made.val.annotations.name}` ({made.val.images} images), whose SHA-256 are
`{made.train.annotations.sha256}` and
`{made.val.annotations.sha256}`.

| class | objects to learn from | objects to be judged by |
|---|---|---|
{listed}"""


def _making(made: Made, seconds: float) -> str:
    recipe = made.recipe
    terms = ", ".join(f"{name} {weight:g}" for name, weight in distilled(recipe).items())
    size = recipe.get("data", {}).get("size", {})
    versions = ", ".join(f"{name} {number}" for name, number in made.versions.items())
    rows = {
        "teacher": _said(made.teacher),
        "start": _said(made.start) if made.start else _start(recipe.get("model", {})),
        "distillation terms and weights": terms or "none",
        "steps": f"{made.steps} of {recipe.get('batch_size')} images, in {duration(seconds)}",
        "seed": recipe.get("seed"),
        "images": f"short side {size.get('short_side')}, long side at most {size.get('long_side')}",
        "made with": f"{versions}, on {made.device}",
    }
    listed = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return f"""\
## How it was made

| | |
|---|---|
{listed}

The whole recipe is in `recipe.json`, and in the file of weights."""


def _start(model: dict[str, Any]) -> str:
    """The weights at step 0 of a run that went on from no file."""
    backbone = f", of the backbone {model.get('weights')}" if model.get("pretrained") else ""
    return f"random weights{backbone}"


def _said(source: Source | None) -> str:
    return "none" if source is None else f"`{source.name}`, SHA-256 `{source.sha256}`"


def _metrics(made: Made) -> str:
    per_class = made.metrics.get("per_class") or {}
    whole = {name: x for name, x in made.metrics.items() if name != "per_class"}
    heads = " | ".join(whole)
    rows = "\n".join(f"| {_plain(name)} | {_percent(x)} |" for name, x in per_class.items())
    return f"""\
## How well it does

COCO's average precision on {made.val.images} images, in percent:

| {heads} |
|{"---|" * len(whole)}
| {" | ".join(_percent(x) for x in whole.values())} |

| class | AP |
|---|---|
{rows}

What these numbers do not say: how it does on images of another kind (other cameras, light,
places), at one chosen score threshold, or between groups within a class. They come from one run,
and another seed alone moves them; those of a class with few objects are rough. The images that
they were measured on may have been used to choose settings."""


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _plain(text: Any) -> str:
    """A name as Markdown shows it as it is, in a table too."""
    shown = " ".join(str(text).split())
    for mark in "\\`*_|<>[]":
        shown = shown.replace(mark, f"\\{mark}")
    return shown
