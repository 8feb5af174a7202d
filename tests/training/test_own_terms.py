"""Distillation terms of one's own: named by a recipe, with parameters or without."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from bckd.commands.main import run as run_command
from bckd.datasets.scene_drawing import class_names
from bckd.image_size import ImageSize
from bckd.losses.terms import TERMS, needs
from bckd.models.detector import Detector
from bckd.recipes import LossWeights, Recipe
from bckd.system.errors import InputError
from bckd.system.values import to_plain
from bckd.teachers.targets import TeacherTargets
from bckd.training.build_terms import build_own_terms
from bckd.training.own_terms import OwnTerms, named_terms
from bckd.training.run_log import read_log
from bckd.training.student import build_student
from bckd.training.trainer import train
from bckd.zoo.checkpoints import save_detector
from bckd.zoo.nanodet import NanoDet
from bckd.zoo.unfinished import STATE, STUDENT

SOURCE = '''
import torch
from torch import nn
from bckd.losses.terms import TERMS, needs


def gap(student, teacher, assignment, batch):
    """Mean squared gap of the scores."""
    pair = student.cls_logits.sigmoid(), teacher.cls_logits.sigmoid()
    return (pair[0] - pair[1]).square().mean()


def boxes_in_batch(student, teacher, assignment, batch):
    return student.boxes.sum() * 0 + (batch.ground_truth.labels >= 0).sum()


def no_scalar(student, teacher, assignment, batch):
    return student.cls_logits


@needs("features")
class Imitation(nn.Module):
    """FitNets: a 1x1 convolution brings the student's maps to the teacher's channels."""

    def __init__(self, student, teacher):
        super().__init__()
        ours, theirs = (x.features[0].shape[1] for x in (student, teacher))
        self.adapter = nn.Conv2d(ours, theirs, 1)

    def forward(self, student, teacher, assignment, batch):
        pairs = zip(student.features, teacher.features, strict=True)
        return sum((self.adapter(ours) - theirs).square().mean() for ours, theirs in pairs)


@needs("sound")
def of_sound(student, teacher, assignment, batch):
    ...
'''


@pytest.fixture
def source(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A file of terms; its name is its test's own, as a process keeps what it has loaded."""
    path = tmp_path / f"terms_{abs(hash(request.node.name))}.py"
    path.write_text(SOURCE, encoding="utf-8")
    return path


@pytest.fixture
def distilling(
    tiny_recipe: Recipe, tmp_path: Path, tiny_detector: Callable[..., Detector]
) -> Recipe:
    """A recipe with a teacher of more channels than the student, which distils nothing yet."""
    path = tmp_path / "teacher.safetensors"
    save_detector(path, tiny_detector(channels=16), ImageSize(64, 64), {})
    nothing = LossWeights(binary=0, iou=0)
    return replace(tiny_recipe, teacher=path, teacher_check=0, weights=nothing)


def run(recipe: Recipe, resume: bool = False) -> None:
    train(recipe, resume, progress=False)


def terms_in_log(recipe: Recipe) -> list[set[str]]:
    return [set(line["unweighted"]) for line in read_log(recipe.out) if "unweighted" in line]


def test_a_function_is_a_term(distilling: Recipe, source: Path) -> None:
    recipe = replace(distilling, terms=(f"{source}:gap=2.5", f"{source}:boxes_in_batch=0.001"))
    run(recipe)
    lines = [line for line in read_log(recipe.out) if "unweighted" in line]
    assert terms_in_log(recipe)[0] == {"qfl", "dfl", "giou", "gap", "boxes_in_batch"}
    for line in lines:
        assert line["weighted"]["gap"] == pytest.approx(2.5 * line["unweighted"]["gap"], rel=1e-6)
        assert line["unweighted"]["gap"] > 0
        assert line["unweighted"]["boxes_in_batch"] >= 4  # an image of a batch has one or more


def test_it_changes_what_is_learnt(distilling: Recipe, source: Path, tmp_path: Path) -> None:
    found = []
    for weight in ("1e-9", "50"):
        recipe = replace(distilling, terms=(f"{source}:gap={weight}",), out=tmp_path / weight)
        run(recipe)
        found.append(load_file(recipe.out / STUDENT))
    assert any(not torch.equal(found[0][name], found[1][name]) for name in found[0])


class TestModule:
    def test_it_learns_and_stays_out_of_the_student(
        self, distilling: Recipe, source: Path, tmp_path: Path
    ) -> None:
        recipe = replace(distilling, terms=(f"{source}:Imitation=1",))
        run(recipe)
        state, student = load_file(recipe.out / STATE), load_file(recipe.out / STUDENT)
        assert state["terms/modules_of.Imitation.adapter.weight"].shape == (16, 8, 1, 1)
        assert "optimizer/terms:modules_of.Imitation.adapter.weight/exp_avg" in state
        assert not any("adapter" in name for name in student)
        plain = replace(distilling, terms=(f"{source}:gap=1",), out=tmp_path / "plain")
        run(plain)
        assert student.keys() == load_file(plain.out / STUDENT).keys()
        before = terms_at_start(recipe)
        now = state["terms/modules_of.Imitation.adapter.weight"]
        assert not torch.equal(now, before["modules_of.Imitation.adapter.weight"])

    def test_a_resumed_run_ends_with_the_same_weights(
        self, distilling: Recipe, source: Path, tmp_path: Path
    ) -> None:
        recipe = replace(distilling, terms=(f"{source}:Imitation=1",), steps=6, checkpoint_every=3)
        run(recipe)
        other = replace(recipe, out=tmp_path / "resumed")
        first = replace(other, steps=6)
        stop_at(first, 4)
        run(other, resume=True)
        for file in (STUDENT, STATE):
            whole, resumed = load_file(recipe.out / file), load_file(other.out / file)
            assert whole.keys() == resumed.keys()
            assert all(torch.equal(whole[name], resumed[name]) for name in whole)

    def test_its_file_may_not_change_before_a_run_is_resumed(
        self, distilling: Recipe, source: Path
    ) -> None:
        recipe = replace(distilling, terms=(f"{source}:Imitation=1",))
        run(recipe)
        run(recipe, resume=True)
        source.write_text(SOURCE.replace("square()", "abs()"), encoding="utf-8")
        with pytest.raises(InputError, match="another content of terms .*:Imitation=1: SHA-256"):
            run(recipe, resume=True)

    def test_a_state_without_its_parameters(self, distilling: Recipe, source: Path) -> None:
        plain = replace(distilling, terms=(f"{source}:gap=1",))
        run(plain)
        with pytest.raises(InputError, match="started with another recipe: terms was"):
            run(replace(plain, terms=(f"{source}:Imitation=1",)), resume=True)


CROSSED = ("bckd.losses.crosskd:CrossKD=1", "bckd.losses.crosskd:CrossBCKD=0.5")


class TestHead:
    """Terms through the teacher's head."""

    def test_only_adapters_learn_and_are_kept(self, distilling: Recipe) -> None:
        recipe = replace(distilling, terms=CROSSED)
        run(recipe)
        assert {"CrossKD", "CrossBCKD"} < terms_in_log(recipe)[0]
        state = load_file(recipe.out / STATE)
        kept = {name: x.shape for name, x in state.items() if name.startswith("terms/")}
        adapters = [f"terms/modules_of.{name}.adapters" for name in ("CrossKD", "CrossBCKD")]
        assert kept == {
            f"{adapter}.{tower}.{kind}": shape
            for adapter in adapters
            for tower in range(2)
            for kind, shape in (("weight", (16, 8, 1, 1)), ("bias", (16,)))
        }
        before, after = terms_at_start(recipe), state
        assert all(not torch.equal(x, after[f"terms/{name}"]) for name, x in before.items())

    def test_a_resumed_run_ends_with_the_same_weights(
        self, distilling: Recipe, tmp_path: Path
    ) -> None:
        recipe = replace(distilling, terms=CROSSED, steps=6, checkpoint_every=3)
        run(recipe)
        other = replace(recipe, out=tmp_path / "resumed")
        stop_at(other, 4)
        run(other, resume=True)
        for file in (STUDENT, STATE):
            whole, resumed = load_file(recipe.out / file), load_file(other.out / file)
            assert whole.keys() == resumed.keys()
            assert all(torch.equal(whole[name], resumed[name]) for name in whole)

    def test_answers_that_are_kept_will_do(self, distilling: Recipe, tmp_path: Path) -> None:
        """Computed once by the run or given by the caller, who has no teacher loaded."""
        from bckd.training.data import training_data
        from bckd.training.teacher import make_teaching

        found = []
        for cache, given in ((False, False), (True, False), (True, True)):
            out = tmp_path / f"{cache} {given}"
            data = replace(distilling.data, cache=cache)
            recipe = replace(distilling, data=data, terms=CROSSED, out=out)
            training = training_data(data, recipe.seed)
            teaching = (
                make_teaching(recipe, training, torch.device("cpu"), False) if given else None
            )
            assert not given or isinstance(teaching, TeacherTargets)
            train(recipe, progress=False, teaching=teaching)
            found.append(load_file(out / STUDENT))
        for name, value in found[0].items():
            assert torch.equal(found[1][name], found[2][name])
            torch.testing.assert_close(found[1][name], value, rtol=1e-3, atol=1e-4)

    def test_a_teacher_made_elsewhere(self, distilling: Recipe) -> None:
        recipe = replace(distilling, teacher=None, terms=CROSSED)
        teacher = NanoDet(class_names("standard"))
        with pytest.raises(InputError, match="CrossKD needs a head of two .*; the teacher"):
            train(recipe, progress=False, teacher=teacher)

    def test_answers_without_a_teacher(self, distilling: Recipe) -> None:
        from bckd.training.data import training_data
        from bckd.training.teacher import make_teaching

        training = training_data(distilling.data, 0)
        recipe = replace(distilling, terms=CROSSED)
        teaching = make_teaching(recipe, training, torch.device("cpu"), False)
        assert teaching is not None
        student = build_student(recipe, class_names("standard"), True, frozenset(), None)
        with pytest.raises(InputError, match="CrossKD needs the teacher's head; expected"):
            build_own_terms(recipe, student, None, teaching, training)


def terms_at_start(recipe: Recipe) -> dict[str, torch.Tensor]:
    """The parameters of the recipe's own terms as they were before the first step."""
    seen = {}

    def look(step: int, terms: OwnTerms) -> None:
        seen.update({name: x.detach().clone() for name, x in terms.named_parameters()})

    from bckd.training import trainer

    class Stopped(Exception):
        pass

    def stop(module: torch.nn.Module, *_: object) -> None:
        look(0, module[1])
        raise Stopped

    patch = pytest.MonkeyPatch()
    patch.setattr(trainer, "build_optimizer", stop)
    try:
        with pytest.raises(Stopped):
            run(replace(recipe, out=recipe.out.with_name("start")))
    finally:
        patch.undo()
    return seen


def stop_at(recipe: Recipe, step: int) -> None:
    """Train until a step, and be killed in it."""
    from bckd.training import run as running

    class Killed(Exception):
        pass

    compute, count = running.compute_terms, []

    def counted(*arguments: object) -> object:
        count.append(1)
        if len(count) > step:
            raise Killed
        return compute(*arguments)

    patch = pytest.MonkeyPatch()
    patch.setattr(running, "compute_terms", counted)
    try:
        with pytest.raises(Killed):
            run(recipe)
    finally:
        patch.undo()


def test_a_term_of_the_package_may_be_a_module(
    distilling: Recipe, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (imitation,) = named_terms((f"{source}:Imitation=1",))
    entry = replace(TERMS["softmax"], make=None, module=imitation.made_of, needs=("features",))
    monkeypatch.setitem(TERMS, "softmax", entry)
    recipe = replace(distilling, weights=replace(distilling.weights, softmax=0.25))
    run(recipe)
    line = next(x for x in read_log(recipe.out) if "unweighted" in x)
    assert line["weighted"]["softmax"] == pytest.approx(0.25 * line["unweighted"]["softmax"])
    with safe_open(recipe.out / STATE, "pt") as file:
        assert any(name.startswith("terms/modules_of.softmax") for name in file.keys())


class TestNeeds:
    def test_maps_are_the_same_stored_or_not(
        self, distilling: Recipe, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = replace(distilling.data, cache=True)
        found = []
        for most in (2**30, 0):
            monkeypatch.setattr("bckd.training.teacher.MOST_FEATURE_BYTES", most)
            term = (f"{source}:Imitation=1",)
            recipe = replace(distilling, data=data, terms=term, out=tmp_path / str(most))
            run(recipe)
            logs = [line["unweighted"] for line in read_log(recipe.out) if "unweighted" in line]
            found.append([terms["Imitation"] for terms in logs])
        assert found[0] == pytest.approx(found[1], rel=1e-4)

    def test_stored_answers_without_features_are_refused(
        self, distilling: Recipe, source: Path
    ) -> None:
        from bckd.training.data import training_data
        from bckd.training.teacher import make_teaching

        data = replace(distilling.data, cache=True)
        stored = replace(distilling, data=data, terms=(f"{source}:gap=1",))
        teaching = make_teaching(stored, training_data(data, 0), torch.device("cpu"), False)
        recipe = replace(stored, terms=(f"{source}:Imitation=1",))
        with pytest.raises(InputError, match="Imitation needs the maps of both .* teacher has"):
            train(recipe, progress=False, teaching=teaching)

    def test_what_no_detector_has(self, source: Path) -> None:
        with pytest.raises(InputError, match="of_sound needs 'sound'; expected some of features"):
            named_terms((f"{source}:of_sound=1",))

    def test_the_mark_is_what_is_read(self) -> None:
        @needs("region", "distributions")
        def term() -> None: ...

        assert term.needs == ("region", "distributions")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{}:gap", "expected MODULE:NAME=WEIGHT"),
        ("{}:gap=", "expected MODULE:NAME=WEIGHT"),
        ("{}:gap=heavy", "whose weight is no number"),
        ("{}:gap=-1", "weight is -1.0; expected 0 or more"),
        ("{}:gap=nan", "expected a finite number"),
        ("gap=1", "expected MODULE:NAME"),
        ("{}:gape=1", "has no function or class 'gape'"),
        ("no/such/file.py:gap=1", "there is no file no/such/file.py"),
        ("no_such_module:gap=1", "can't be loaded: No module named 'no_such_module'"),
    ],
)
def test_what_names_no_term(source: Path, text: str, sentence: str) -> None:
    with pytest.raises(InputError, match="^terms has .*" + sentence):
        named_terms((text.format(source),))


def test_a_cell_that_is_run_again_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a notebook defines is in `__main__`, and changes there as often as its reader likes."""
    for _ in range(2):

        def gap() -> None: ...

        monkeypatch.setattr(sys.modules["__main__"], "gap", gap, raising=False)
        (term,) = named_terms(("__main__:gap=1",))
        assert term.made_of is gap and term.name == "gap"


def test_two_terms_of_one_name(source: Path) -> None:
    with pytest.raises(InputError, match="two terms 'gap'"):
        named_terms((f"{source}:gap=1", f"{source}:gap=2"))


def test_without_a_teacher(tiny_recipe: Recipe, source: Path) -> None:
    with pytest.raises(InputError, match="terms is .*; expected a teacher beside it"):
        run(replace(tiny_recipe, terms=(f"{source}:gap=1",)))


def test_a_term_that_is_no_scalar(distilling: Recipe, source: Path) -> None:
    with pytest.raises(InputError, match=r"no_scalar gives \(4, \d+, \d+\); expected a tensor of"):
        run(replace(distilling, terms=(f"{source}:no_scalar=1",)))


def test_from_the_shell(
    distilling: Recipe, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As CONTRIBUTING.md has it: a module in the working folder."""
    monkeypatch.chdir(source.parent)
    out = tmp_path / "shell"
    options = f"""
        --data.root {distilling.data.root} --data.size.short-side 64 --data.size.long-side 64
        --model.width 4 --model.channels 8 --model.head-groups 2 --model.head-convs 1 --steps 2
        --batch-size 4 --device cpu --teacher {distilling.teacher} --teacher-check 0
        --term {source.stem}:gap=1.5 --out {out}
    """
    assert run_command(["train", "scenes", *options.split()]) == 0
    recipe = replace(distilling, out=out)
    assert "gap" in terms_in_log(recipe)[0] and "binary" in terms_in_log(recipe)[0]
    with safe_open(out / STATE, framework="pt") as file:
        assert f'"{source.stem}:gap=1.5"' in file.metadata()["recipe"]
    assert to_plain(recipe)["terms"] == []
