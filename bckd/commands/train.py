"""The command `bckd train`; its options are the fields of `Recipe`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated

import tyro

from bckd.commands.help import Short, listed
from bckd.commands.metrics import print_metrics
from bckd.commands.parsing import parse
from bckd.recipes import Recipe
from bckd.recipes.presets import PRESETS
from bckd.system.errors import InputError
from bckd.system.launcher import is_first
from bckd.system.nearest import expected
from bckd.system.telling import tell


@dataclass(frozen=True)
class TrainOptions:
    """A recipe, and whether to go on with its run."""

    recipe: Annotated[Recipe, tyro.conf.arg(name="")]
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """continue the run in --out where it stopped"""
    explain: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """print every setting beside that of the official recipe, and train nothing"""


def run(arguments: list[str]) -> None:
    """Train a detector by a preset and options."""
    if not arguments or arguments[0] in ("-h", "--help", "--help-all"):
        print("bckd train PRESET [options]\n\nPresets:")
        print(listed((name, text) for name, (text, _) in PRESETS.items()))
        print("\n`bckd train PRESET --help` shows the options that most people need, --help-all")
        print("every one, and --explain every setting beside the official recipe's.")
        return
    preset, *rest = arguments
    if preset not in PRESETS:
        raise InputError(f"preset {preset!r} is unknown; {expected(preset, PRESETS, 'bckd train')}")
    text, default = PRESETS[preset]

    options = parse(
        TrainOptions,
        rest,
        f"train {preset}",
        short=_short(preset),
        default=TrainOptions(default),
        description=f"Train a detector: {text}.",
    )
    given = {word.partition("=")[0] for word in rest}
    if {"--steps", "--epochs"} <= given:
        raise InputError("--steps and --epochs are both given; expected one of them")
    if options.explain:
        from bckd.commands.explain import explained

        print(explained(preset, options.recipe))
        return
    from bckd.training.trainer import train  # late: no help and no typo needs all of it

    out = options.recipe.out
    if options.resume and is_first() and not (out.is_dir() and any(out.iterdir())):
        tell(f"{out} holds no run to go on with: one starts there, at step 0")
    result = train(options.recipe, resume=options.resume)
    if not is_first():
        return
    print_metrics(asdict(result.metrics))
    print(f"the student and its log are in {result.out} ({result.seconds:.0f} s)")


def _short(preset: str) -> Short:
    root = PRESETS[preset].recipe.data.root.as_posix()
    return Short(
        (
            "--data.root",
            "--teacher",
            "--out",
            "--steps",
            "--epochs",
            "--batch-size",
            "--data.size.short-side",
            "--data.size.long-side",
            "--optimisation.learning-rate",
            "--model.backbone",
            "--evaluate-every",
            "--device",
            "--seed",
            "--resume",
            "--explain",
        ),
        (
            f"train {preset} --data.root {root} --out runs/mine",
            f"train {preset} --teacher runs/large --out runs/small",
        ),
    )
