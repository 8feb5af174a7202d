"""The best student is kept, and a run that gets no better may end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from bckd.evaluation.average_precision import Metrics, evaluate
from bckd.recipes import Recipe
from bckd.system.errors import InputError
from bckd.training import run as running
from bckd.training.best import BEST
from bckd.training.run import snapshot
from bckd.training.run_log import read_log
from bckd.training.trainer import train
from bckd.zoo.unfinished import STUDENT


@pytest.fixture
def scores(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`scores(.1, .2)`: the AP of the evaluations to come, in turn."""

    def give(*values: float) -> None:
        left = list(values)

        def judge(*arguments: object, **options: object) -> tuple[Metrics, object]:
            metrics, results = evaluate(*arguments, **options)
            return replace(metrics, AP=left.pop(0)), results

        monkeypatch.setattr(running, "evaluate", judge)

    return give


@pytest.mark.parametrize(
    ("found", "best"),
    [
        ((0.1, 0.3, 0.2), "snapshots/000004.safetensors"),
        ((0.1, 0.1, 0.2), STUDENT),
        ((float("nan"), 0.0, 0.0), "snapshots/000004.safetensors"),
    ],
)
def test_the_best_is_kept(
    tiny_recipe: Recipe, scores: Callable[..., None], found: tuple[float, ...], best: str
) -> None:
    scores(*found)
    out = train(replace(tiny_recipe, evaluate_every=2), progress=False).out
    assert (out / BEST).read_bytes() == (out / best).read_bytes()


def test_without_evaluations_on_the_way_there_is_no_best(tiny_recipe: Recipe) -> None:
    assert not (train(tiny_recipe, progress=False).out / BEST).exists()


def test_patience_ends_a_run(
    tiny_recipe: Recipe, scores: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """A resumed run knows of the evaluations before; one of more patience goes on.

    What ends it is its last evaluation too.
    """
    scores(0.1, 0.3, 0.2, 0.3)
    recipe = replace(tiny_recipe, steps=12, evaluate_every=2, patience=2)
    train(recipe, progress=False)
    assert f"{recipe.out} ends after 8 steps: 2 evaluations have" in capsys.readouterr().out
    assert max(line["step"] for line in read_log(recipe.out)) == 8
    assert (recipe.out / BEST).read_bytes() == snapshot(recipe.out, 4).read_bytes()
    scores(0.3)
    train(recipe, resume=True, progress=False)
    assert max(line["step"] for line in read_log(recipe.out)) == 8
    scores(0.4, 0.5)
    train(replace(recipe, patience=3), resume=True, progress=False)
    assert max(line["step"] for line in read_log(recipe.out)) == 12
    assert (recipe.out / BEST).read_bytes() == (recipe.out / STUDENT).read_bytes()


def test_patience_with_nothing_to_wait_for(tiny_recipe: Recipe) -> None:
    with pytest.raises(InputError, match="patience is 2; expected None where nothing is evalu"):
        train(replace(tiny_recipe, patience=2), progress=False)
