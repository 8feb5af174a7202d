"""The command `bckd train`; its options are the fields of `Recipe`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from bckd.commands.help import Short, listed
from bckd.commands.like import named_recipe
from bckd.commands.metrics import print_metrics
from bckd.commands.parsing import parse
from bckd.recipes import Recipe
from bckd.recipes.left_open import FIELDS, open_settings, without_fit
from bckd.recipes.presets import PRESETS
from bckd.recipes.recipe import Fittable
from bckd.system.errors import InputError
from bckd.system.launcher import is_first
from bckd.system.nearest import expected
from bckd.system.telling import tell
from bckd.system.values import Place

if TYPE_CHECKING:
    from bckd.training.trainer import RunResult
    from bckd.training.twin import Twins


@dataclass(frozen=True)
class TrainOptions:
    """A recipe, and what to make of it."""

    recipe: Annotated[Recipe, tyro.conf.arg(name="")]
    like: Annotated[Place | None, tyro.conf.arg(aliases=["--recipe"])] = None
    """a run, or a recipe in JSON, whose settings are the defaults of all options but --out; in
    place of a preset"""
    twin: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """then train the same student without its teacher, in a folder with -alone behind its name,
    and compare the two"""
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
        print("`bckd train --like RUN --out FOLDER [options]` trains by the settings of a run.")
        return
    preset, text, default, rest = _start(arguments)

    options = parse(
        TrainOptions,
        rest,
        f"train {preset}".rstrip(),
        short=_short(preset, default),
        default=TrainOptions(default),
        description=f"Train a detector{text}.",
    )
    given = {word.partition("=")[0] for word in rest}
    if {"--steps", "--epochs"} <= given:
        raise InputError("--steps and --epochs are both given; expected one of them")
    recipe = without_fit(options.recipe, _set_by(given))
    if options.explain:
        from bckd.commands.explain import explained

        print(explained(preset, recipe, default))
        return
    from bckd.training.trainer import train  # late: no help and no typo needs all of it

    out = recipe.out
    if options.resume and is_first() and not (out.is_dir() and any(out.iterdir())):
        tell(f"{out} holds no run to go on with: one starts there, at step 0")
    if options.twin:
        from bckd.training.twin import train_with_twin  # late, as above

        _print_twins(train_with_twin(recipe, options.resume), recipe.seed + 1)
        return
    result = train(recipe, resume=options.resume)
    if is_first():
        _print_result(result)
        print(f"bckd report {result.out} makes a page of what it does well and badly")


def _start(arguments: list[str]) -> tuple[str, str, Recipe, list[str]]:
    """What the options start from: a preset, or the recipe of a run.

    Returns:
        The preset's name ("" of none), a text that tells of either, the recipe, and the options.
    """
    like = named_recipe(arguments)
    if like is None:
        preset, *rest = arguments
        if preset not in PRESETS:
            raise InputError(
                f"preset {preset!r} is unknown; {expected(preset, PRESETS, 'bckd train')}"
            )
        text, recipe = PRESETS[preset]
        return preset, f": {text}", recipe, rest
    if arguments[0] in PRESETS:
        raise InputError(f"preset {arguments[0]} and --like are both given; expected one of them")
    if not any(word.partition("=")[0] in ("--out", "--help", "-h") for word in arguments):
        raise InputError(
            f"--like takes all settings of {like.out} but its folder: --out is missing"
        )
    return "", f" by the settings of {like.out}", like, arguments


def _set_by(given: set[str]) -> list[Fittable]:
    """What of a fitted recipe these options set, of parts too (--data.size.short-side)."""
    fields = [word.lstrip("-").replace("-", "_").replace(".no_", ".") for word in given]
    return [
        name
        for name, own in FIELDS.items()
        if any(field == own or field.startswith(f"{own}.") for field in fields)
        or (name == "steps" and "epochs" in fields)
    ]


def _print_result(result: RunResult) -> None:
    print_metrics(asdict(result.metrics))
    print(f"the student and its log are in {result.out} ({result.seconds:.0f} s)")


def _print_twins(twins: Twins, seed: int) -> None:
    if not is_first():
        return
    for result in (twins.distilled, twins.alone):
        _print_result(result)
    distilled, alone = (100 * x.metrics.AP for x in (twins.distilled, twins.alone))
    print(
        f"AP {distilled:.1f} with the teacher, {alone:.1f} alone: {distilled - alone:+.1f}, of one "
        f"seed; a few points may be chance (--seed {seed} draws anew)"
    )
    print(f"bckd report {twins.distilled.out} {twins.alone.out} makes a page of both")


def _short(preset: str, recipe: Recipe) -> Short:
    root, what = recipe.data.root.as_posix(), preset or "--like runs/mine"
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
            "--twin",
            "--like",
            "--explain",
        ),
        (
            f"train {what} --data.root {root} --out runs/mine",
            f"train {what} --teacher runs/large --out runs/small",
        ),
        by_data=tuple(f"--{FIELDS[x].replace('_', '-')}" for x in open_settings(recipe)),
    )
