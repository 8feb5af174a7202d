"""Methods at equal pull: their factors, and what a run then measures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bckd.image_size import ImageSize
from bckd.models.detector import Detector
from bckd.recipes import LossWeights, Recipe
from bckd.studies.pull import pull_of_method, weights_of_equal_pull
from bckd.studies.study import Method, terms_of, weights_of
from bckd.system.errors import InputError
from bckd.training.run_log import read_log
from bckd.training.trainer import train
from bckd.zoo.checkpoints import save_detector

SOURCE = """
from torch import nn
from bckd.losses.terms import needs

@needs("features")
class Imitation(nn.Module):
    def __init__(self, student, teacher):
        super().__init__()
        ours, theirs = (x.features[0].shape[1] for x in (student, teacher))
        self.adapter = nn.Conv2d(ours, theirs, 1)

    def forward(self, student, teacher, assignment, batch):
        pairs = zip(student.features, teacher.features, strict=True)
        return sum((self.adapter(ours) - theirs).square().mean() for ours, theirs in pairs)
"""


@pytest.fixture
def started(
    tiny_recipe: Recipe, tiny_teacher: Path, tiny_detector: Callable[..., Detector], tmp_path: Path
) -> Recipe:
    """Every run goes on from one student."""
    start = tmp_path / "start.safetensors"
    save_detector(start, tiny_detector(seed=3), ImageSize(64, 64), {})
    weights = LossWeights(binary=0, iou=0)
    return replace(tiny_recipe, start=start, teacher=tiny_teacher, weights=weights)


@pytest.fixture
def methods(tmp_path: Path) -> tuple[Method, ...]:
    """Shapes of one term, a term that starts late, one of features, and none."""
    source = tmp_path / f"imitation_{tmp_path.name}.py"  # a process keeps what it has loaded
    source.write_text(SOURCE, encoding="utf-8")
    return (
        Method("none"),
        Method("beta 0", {"binary": 1.0}, {"losses.binary_beta": 0.0}),
        Method("beta 2", {"binary": 1.0}, {"losses.binary_beta": 2.0}),
        Method("detached", {"binary": 1.0}, {"losses.binary_detach": True}),
        Method("BCKD", {"binary": 1.0, "iou": 4.0}),
        Method("late", {"binary": 1.0, "iou": 4.0}, {"losses.binary_from": 0.5}),
        Method("maps", {"Imitation": 1.0}, terms=(f"{source}:Imitation",)),
    )


def test_the_factor_brings_each_method_to_its_share(
    started: Recipe, methods: tuple[Method, ...]
) -> None:
    factors = weights_of_equal_pull(started, methods, 0.25, batches=2)
    distilling = methods[1:]
    assert [*factors] == [method.name for method in distilling]
    assert factors["beta 2"] > 2 * factors["beta 0"]  # a gap of scores is below 1
    assert factors["late"] == factors["BCKD"]  # all terms that take part at some time
    for method in distilling:
        pull = pull_of_method(started, method, factors[method.name], batches=2)
        assert pull.share == pytest.approx(0.25, rel=0.01), method.name
        assert pull_of_method(started, method, batches=2).share != pytest.approx(0.25, rel=0.1)


@pytest.mark.parametrize("number", [1, 6])
def test_a_run_begins_with_that_share(
    started: Recipe, methods: tuple[Method, ...], number: int
) -> None:
    method = methods[number]
    (factor,) = weights_of_equal_pull(started, [method], 0.4, batches=1).values()
    recipe = replace(
        started,
        weights=weights_of(method, factor, started.weights),
        terms=terms_of(method, factor),
        losses=replace(started.losses, binary_beta=0.0),
        log_gradients=True,
        steps=1,
    )
    train(recipe, progress=False)
    pull = read_log(recipe.out)[0]["pull"]
    distilled = sum(share for name, share in pull.items() if name not in ("qfl", "dfl", "giou"))
    assert distilled == pytest.approx(0.4, rel=0.01)


class TestRefusals:
    @pytest.mark.parametrize("share", [0.0, 1.0, float("nan")])
    def test_no_share(self, started: Recipe, share: float) -> None:
        with pytest.raises(InputError, match="expected one between 0 and 1"):
            weights_of_equal_pull(started, (), share)

    def test_a_method_that_pulls_nowhere(self, started: Recipe, tmp_path: Path) -> None:
        source = tmp_path / "pulls_nowhere.py"
        source.write_text("def nothing(student, *others):\n    return 0 * student.boxes.sum()\n")
        method = Method("nothing", {"nothing": 1.0}, terms=(f"{source}:nothing",))
        with pytest.raises(InputError, match=r"method nothing: its distillation pull by 0\.0 on"):
            weights_of_equal_pull(started, [method], 0.3, batches=1)

    def test_no_losses_from_labels(self, started: Recipe) -> None:
        alone = replace(started, weights=LossWeights(qfl=0, dfl=0, giou=0, binary=0, iou=0))
        method = Method("L_cls", {"binary": 1.0})
        with pytest.raises(InputError, match="its losses from labels pull by"):
            weights_of_equal_pull(alone, [method], 0.3, batches=1)

    def test_no_teacher(self, started: Recipe) -> None:
        method = Method("L_cls", {"binary": 1.0})
        with pytest.raises(InputError, match="teacher is None; expected"):
            weights_of_equal_pull(replace(started, teacher=None), [method], 0.3)
