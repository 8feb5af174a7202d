"""What decides a run's outcome beside its recipe, so that no other run goes on in its place."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from bckd.recipes import Recipe
from bckd.system.files import sha256_of
from bckd.system.named import file_of
from bckd.weights.published import PRETRAINED
from bckd.zoo.unfinished import STUDENT, checksum

ABSENT = "absent"  # in place of a file's SHA-256


def contents_of(recipe: Recipe, teacher: nn.Module | None = None) -> dict[str, str]:
    """What decides a run's outcome beside its recipe: SHA-256 by the field that names the file.

    Weights that load by name are their name. Of terms and augmentations of one's own it is the
    file of the module, by field and text.

    Args:
        teacher: a module in place of a file.
    """
    contents = {"data.train_annotations": digest(recipe.data.root / recipe.data.train_annotations)}
    for name, source in (("teacher", recipe.teacher), ("start", recipe.start)):
        if source is not None:
            published = str(source) in PRETRAINED and not source.exists()
            file = source / STUDENT if source.is_dir() else source
            contents[name] = str(source) if published else digest(file)
    named = [("terms", text, text.partition("=")[0]) for text in recipe.terms]
    named += [("data.augmentations", text, text) for text in recipe.data.augmentations]
    for field_name, text, place in named:
        source = file_of(place, field_name)
        contents[f"{field_name} {text}"] = ABSENT if source is None else digest(source)
    if teacher is not None:
        weights = {name: value.detach().cpu() for name, value in teacher.state_dict().items()}
        contents["teacher"] = checksum(weights, {})
    return contents


def digest(path: Path) -> str:
    """SHA-256 of a file, or that it is absent."""
    return sha256_of(path) if path.is_file() else ABSENT
