"""A run killed and resumed ends with the weights of one that was not."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from bckd.commands.main import run
from bckd.datasets.scene_drawing import class_names
from bckd.recipes import EvaluationConfig, LossWeights, Optimisation, Recipe
from bckd.system.errors import InputError
from bckd.training import resume_state
from bckd.training import run as running
from bckd.training.resume_state import PREVIOUS
from bckd.training.run import snapshot
from bckd.training.run_log import LOG, read_log
from bckd.training.student import build_student
from bckd.training.trainer import train
from bckd.zoo.checkpoints import load_detector
from bckd.zoo.unfinished import STATE, STUDENT

UNTIMED = dict.fromkeys(("images_per_second", "data_wait", "seconds_left", "memory"))
ROOT = Path(__file__).parents[2]
STEPS, KILLED_AFTER = 36, 8
NAMES = class_names("standard")


def arguments(recipe: Recipe, out: Path, teacher: Path | None) -> list[str]:
    """The command line of a run on the tiny scenes, with every distillation term on."""
    options = f"""
        train scenes --model.width 4 --model.channels 8 --model.head-groups 2
        --model.head-convs 1 --data.size.short-side 64 --data.size.long-side 64
        --batch-size 4 --steps {STEPS} --checkpoint-every 5 --log-every 1 --device cpu
        --teacher-check 0
        --weights.softmax 0.75 --weights.ld 0.25 --weights.ld-region 0.25
    """.split()
    paths = ["--data.root", str(recipe.data.root), "--out", str(out)]
    return [*options, *paths, *(["--teacher", str(teacher)] if teacher else [])]


@pytest.fixture
def killed() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that a test started; none outlives it."""
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        process.kill()
        process.wait()


def kill_in_the_middle(processes: list[subprocess.Popen[bytes]], command: list[str]) -> None:
    """Start a run as a process of its own and send it SIGKILL after some steps."""
    out = Path(command[command.index("--out") + 1])
    # As many threads as here: sums in another order end in other last digits.
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "bckd", *command],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    processes.append(process)
    deadline = time.monotonic() + 120
    while len(read_log(out)) < KILLED_AFTER:
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < deadline, "the run takes too long"
        time.sleep(0.005)
    process.kill()
    process.wait()


@pytest.mark.parametrize("with_teacher", [False, True], ids=["alone", "teacher"])
def test_killed_and_resumed_is_as_never_killed(
    tiny_recipe: Recipe,
    tiny_teacher: Path,
    tmp_path: Path,
    killed: list[subprocess.Popen[bytes]],
    with_teacher: bool,
) -> None:
    teacher = tiny_teacher if with_teacher else None
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    kill_in_the_middle(killed, arguments(tiny_recipe, broken, teacher))
    assert (broken / STATE).exists() and not (broken / STUDENT).exists()
    done = len(read_log(broken))
    assert KILLED_AFTER <= done < STEPS

    run([*arguments(tiny_recipe, broken, teacher), "--resume"])
    run(arguments(tiny_recipe, whole, teacher))
    ours, expected = load_file(broken / STUDENT), load_file(whole / STUDENT)
    assert ours.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(ours[name], value), name
    lines, expected_lines = (
        [line for line in read_log(out) if "unweighted" in line] for out in (broken, whole)
    )
    assert [line["step"] for line in lines] == list(range(STEPS))
    terms = [line["unweighted"] for line in lines]
    assert terms == [line["unweighted"] for line in expected_lines]
    assert len(terms[0]) == (8 if with_teacher else 3)
    results, expected_results = (
        json.loads((out / "results.json").read_text()) for out in (broken, whole)
    )
    del results["seconds"], expected_results["seconds"]
    assert results == expected_results


@pytest.fixture(scope="module")
def once(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str, Path, Callable[[], object]], None]:
    """`once(name, folder, work)`: what the work of that name wrote there, done once, copied then.

    Equal runs are equal bytes, and a run's folder may be copied.
    """
    kept: dict[str, Path] = {}

    def do(name: str, folder: Path, work: Callable[[], object]) -> None:
        if name in kept:
            shutil.copytree(kept[name], folder)
            return
        work()
        kept[name] = tmp_path_factory.mktemp("once") / "kept"
        shutil.copytree(folder, kept[name])

    return do


@pytest.fixture
def stopped(
    tiny_recipe: Recipe, stop_at_first_state: Callable[..., None], once: Callable[..., None]
) -> Recipe:
    """The recipe of a run that stopped in its middle, at step 3 of 6."""
    once(
        "stopped",
        tiny_recipe.out,
        lambda: stop_at_first_state(lambda: train(tiny_recipe, progress=False)),
    )
    return tiny_recipe


@pytest.fixture
def uninterrupted(once: Callable[..., None]) -> Callable[[Recipe], dict[str, torch.Tensor]]:
    """`uninterrupted(recipe)`: weights of the recipe's whole run, beside its folder."""

    def whole(recipe: Recipe) -> dict[str, torch.Tensor]:
        out = recipe.out.with_name("uninterrupted")
        name = repr(replace(recipe, out=None))
        once(name, out, lambda: train(replace(recipe, out=out), progress=False))
        return load_file(out / STUDENT)

    return whole


def finish(recipe: Recipe) -> dict[str, torch.Tensor]:
    train(recipe, resume=True, progress=False)
    return load_file(recipe.out / STUDENT)


def assert_equal(ours: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(ours[name], value), name


class TestResume:
    def test_leftovers_of_a_kill_during_a_write(
        self, stopped: Recipe, uninterrupted: Callable
    ) -> None:
        state = stopped.out / STATE
        (stopped.out / ".bckd-1234.part").write_bytes(state.read_bytes()[:1000])
        with (stopped.out / LOG).open("a") as log:
            log.write('{"step": 3, "loss": 1.')
        assert_equal(finish(stopped), uninterrupted(stopped))
        assert [x["step"] for x in read_log(stopped.out) if "loss" in x] == list(range(6))

    @pytest.mark.parametrize("momentum", [0.9, 0.0])
    def test_sgd(
        self,
        tiny_recipe: Recipe,
        stop_at_first_state: Callable[..., None],
        momentum: float,
        uninterrupted: Callable,
    ) -> None:
        settings = Optimisation(learning_rate=0.05, momentum=momentum, warmup_steps=2)
        recipe = replace(tiny_recipe, optimisation=settings)
        stop_at_first_state(lambda: train(recipe, progress=False))
        assert_equal(finish(recipe), uninterrupted(recipe))

    def test_fp16_goes_on_with_its_loss_scale(
        self, tiny_recipe: Recipe, stop_at_first_state: Callable[..., None], uninterrupted: Callable
    ) -> None:
        """The scale had been halved by then, and two good steps counted since."""
        recipe = replace(tiny_recipe, precision="fp16")
        scaler = torch.amp.GradScaler
        made = []

        def make(*arguments: object, **options: object) -> torch.amp.GradScaler:
            made.append(scaler(*arguments, **options, init_scale=2.0**120))
            made[-1].set_backoff_factor(2.0**-110)
            return made[-1]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.amp, "GradScaler", make)
            stop_at_first_state(lambda: train(recipe, progress=False))
            expected = uninterrupted(recipe)
        stopped_at, ended_at = (x.state_dict() for x in made)
        assert stopped_at["scale"] == 2.0**10 and stopped_at["_growth_tracker"] == 2
        assert_equal(finish(recipe), expected)
        assert ended_at["_growth_tracker"] == 5

    def test_a_state_of_an_earlier_version(
        self, tiny_recipe: Recipe, tmp_path: Path, uninterrupted: Callable
    ) -> None:
        """It numbers the parameters, and knows no groups, crowds or factors of biases."""
        recipe = replace(tiny_recipe, out=tmp_path / "earlier")
        recipe.out.mkdir()
        shutil.copy(
            ROOT / "tests" / "states" / "tiny_scenes_at_3_of_6.safetensors", recipe.out / STATE
        )
        found, expected = finish(recipe), uninterrupted(recipe)
        assert found.keys() == expected.keys()
        for name, value in expected.items():  # it was written on another machine
            torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4, msg=name)

    def test_buffers_find_their_parameters_by_name(
        self, tiny_recipe: Recipe, stop_at_first_state: Callable[..., None], uninterrupted: Callable
    ) -> None:
        """Biases in a group of their own change the order of the parameters."""
        settings = replace(tiny_recipe.optimisation, bias_rate=2.0, bias_decay=0.0)
        recipe = replace(tiny_recipe, optimisation=settings)
        stop_at_first_state(lambda: train(recipe, progress=False))
        names = {name.split("/")[1] for name in load_file(recipe.out / STATE) if "exp_avg" in name}
        assert names == {name for name, _ in build_student(recipe, NAMES).named_parameters()}
        assert_equal(finish(recipe), uninterrupted(recipe))

    def test_what_does_not_touch_the_weights_may_differ(
        self, stopped: Recipe, uninterrupted: Callable
    ) -> None:
        changed = replace(stopped, log_every=2, checkpoint_every=100, evaluate_every=4)
        changed = replace(changed, evaluation=EvaluationConfig(3, "bf16", "pycocotools"))
        assert_equal(finish(changed), uninterrupted(stopped))

    def test_a_finished_run_is_only_evaluated_again(self, tiny_recipe: Recipe) -> None:
        before = train(tiny_recipe, progress=False)
        log = read_log(tiny_recipe.out)
        after = train(tiny_recipe, resume=True, progress=False)
        assert repr(after.metrics) == repr(before.metrics)  # AP of large objects is nan
        assert read_log(tiny_recipe.out) == log
        assert_equal(after.detector.state_dict(), before.detector.state_dict())

    def test_an_empty_folder_starts_from_the_beginning(
        self, tiny_recipe: Recipe, uninterrupted: Callable
    ) -> None:
        assert_equal(finish(tiny_recipe), uninterrupted(tiny_recipe))


def flip_bytes(path: Path, at: int = -100) -> None:
    content = bytearray(path.read_bytes())
    content[at : at + 8] = bytes(255 - x for x in content[at : at + 8])
    path.write_bytes(content)


def change_buffer(tensors: dict[str, torch.Tensor], change: Callable) -> None:
    name = next(x for x in tensors if x.endswith("exp_avg"))
    tensors[name] = change(tensors[name])


def without_checksum(path: Path, change: Callable[[dict, dict], object]) -> Path:
    """The state as earlier versions wrote it, or a hand: changed, no checksum."""
    with safe_open(path, "pt") as file:
        header = file.metadata()
    tensors = dict(sorted(load_file(path).items()))
    del header["checksum"]
    change(tensors, header)
    save_file(tensors, path, header)
    return path


class TestDamage:
    """A state is believed only where it is what was written."""

    @pytest.fixture
    def interrupted(self, tiny_recipe: Recipe, once: Callable[..., None]) -> Recipe:
        """A run of two states, at steps 2 and 4 of 6."""
        recipe = replace(tiny_recipe, checkpoint_every=2)
        save = running.save_state

        def stop(*state: object) -> None:
            save(*state)
            if (recipe.out / PREVIOUS).exists():
                raise InputError("stopped")

        def work() -> None:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(running, "save_state", stop)
                with pytest.raises(InputError, match="stopped"):
                    train(recipe, progress=False)

        once("interrupted", recipe.out, work)
        return recipe

    @pytest.mark.parametrize("how", ["bytes", "header", "cut", "gone"])
    def test_the_one_before_takes_its_place(
        self,
        interrupted: Recipe,
        how: str,
        capsys: pytest.CaptureFixture[str],
        uninterrupted: Callable,
    ) -> None:
        path = interrupted.out / STATE
        if how == "bytes":
            flip_bytes(path)
        elif how == "header":
            path.write_bytes(path.read_bytes().replace(b'"seconds":"', b'"seconds":"1', 1))
        elif how == "cut":
            path.write_bytes(path.read_bytes()[:-500])
        else:
            path.unlink()
        assert_equal(finish(interrupted), uninterrupted(interrupted))
        said = capsys.readouterr().out
        assert (f"the run goes on from {PREVIOUS}, step 2" in said) == (how != "gone")

    def test_a_damaged_one_is_never_the_one_before(
        self, interrupted: Recipe, stop_at_first_state: Callable[..., None], uninterrupted: Callable
    ) -> None:
        flip_bytes(interrupted.out / STATE)
        stop_at_first_state(lambda: train(interrupted, resume=True, progress=False))
        flip_bytes(interrupted.out / STATE)
        assert_equal(finish(interrupted), uninterrupted(interrupted))

    def test_two_damaged_ones_are_told(self, interrupted: Recipe) -> None:
        for name in (STATE, PREVIOUS):
            flip_bytes(interrupted.out / name)
        with pytest.raises(InputError, match=f"{STATE} is damaged: its checksum is another"):
            finish(interrupted)
        with pytest.raises(InputError, match=f"{STATE} is damaged: its checksum is another"):
            load_detector(interrupted.out)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda tensors, header: tensors.popitem(), "1 tensors of the optimiser are missing"),
            (
                lambda tensors, header: [tensors.pop(x) for x in list(tensors) if "optim" in x],
                "tensors of the optimiser are missing",
            ),
            (
                lambda tensors, header: tensors.update({"optimizer/9999/exp_avg": torch.ones(1)}),
                "optimizer/9999|9999/exp_avg",
            ),
            (
                lambda tensors, header: tensors.update(
                    {next(x for x in tensors if x.endswith("exp_avg")): torch.ones(7)}
                ),
                "1 tensors of the optimiser",
            ),
            (
                lambda tensors, header: change_buffer(tensors, torch.Tensor.half),
                "1 tensors of the optimiser",
            ),
            (
                lambda tensors, header: change_buffer(tensors, lambda x: x * math.nan),
                "1 tensors of the optimiser .* not finite: .*exp_avg",
            ),
            (
                lambda tensors, header: tensors.pop(next(x for x in tensors if x[:5] == "model")),
                "another model: missing .1.: backbone",
            ),
            (lambda tensors, header: header.update(step="1000000"), "step 1000000; expected 6 or"),
            (lambda tensors, header: header.update(step="-1"), "step is -1; expected 0 or more"),
            (lambda tensors, header: header.update(step="abc"), "step is not valid JSON"),
            (lambda tensors, header: header.update(recipe="{"), "recipe is not valid JSON"),
            (lambda tensors, header: header.update(recipe="[]"), "recipe is "),
            (lambda tensors, header: header.update(seconds="nan"), "seconds is not valid JSON"),
            (lambda tensors, header: header.pop("seconds"), "no resume state of bckd"),
        ],
    )
    def test_a_state_without_a_checksum_that_does_not_fit(
        self, stopped: Recipe, change: Callable[[dict, dict], object], words: str
    ) -> None:
        path = without_checksum(stopped.out / STATE, change)
        with pytest.raises(InputError, match=words) as caught:
            finish(stopped)
        assert str(path) in str(caught.value)

    def test_a_state_without_a_checksum_that_fits(
        self, stopped: Recipe, uninterrupted: Callable
    ) -> None:
        without_checksum(stopped.out / STATE, lambda tensors, header: None)
        assert_equal(finish(stopped), uninterrupted(stopped))

    def test_a_log_without_a_state_is_told(
        self, tiny_recipe: Recipe, capsys: pytest.CaptureFixture[str]
    ) -> None:
        tiny_recipe.out.mkdir()
        (tiny_recipe.out / LOG).write_text('{"step": 0}\n')
        finish(tiny_recipe)
        assert f"holds a {LOG} but no {STATE}: the run starts" in capsys.readouterr().out

    @pytest.mark.parametrize("line", [b"garbage\n", b"\xff\xfe\n", b"[1]\n", b'{"step": "x"}\n'])
    def test_a_garbled_line_of_the_log_is_left_out(
        self,
        stopped: Recipe,
        line: bytes,
        capsys: pytest.CaptureFixture[str],
        uninterrupted: Callable,
    ) -> None:
        log = stopped.out / LOG
        log.write_bytes(line + log.read_bytes())
        assert_equal(finish(stopped), uninterrupted(stopped))
        assert "lines that hold no record are left out (1): line 1" in capsys.readouterr().out
        assert [x["step"] for x in read_log(stopped.out) if "loss" in x] == list(range(6))


class TestContents:
    """Files that decide a run may move, but not change."""

    @pytest.fixture
    def distilled(
        self,
        tiny_recipe: Recipe,
        tiny_teacher: Path,
        tmp_path: Path,
        stop_at_first_state: Callable[..., None],
        once: Callable[..., None],
    ) -> Recipe:
        """A run with a teacher and a start of its own, stopped at step 3 of 6."""
        folder = tmp_path / "distilled"
        teacher, start = folder / "teacher.safetensors", folder / "start"
        recipe = replace(tiny_recipe, teacher=teacher, start=start, out=folder / "run")

        def work() -> None:
            folder.mkdir()
            shutil.copy(tiny_teacher, teacher)
            train(replace(tiny_recipe, out=start, steps=1), progress=False)
            stop_at_first_state(lambda: train(recipe, progress=False))

        once("distilled", folder, work)
        return recipe

    def test_they_may_move(
        self, distilled: Recipe, tmp_path: Path, uninterrupted: Callable
    ) -> None:
        expected = uninterrupted(distilled)
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        moved = {"teacher": distilled.teacher, "start": distilled.start}
        moved = {name: shutil.move(path, elsewhere) for name, path in moved.items()}
        root = shutil.copytree(distilled.data.root, elsewhere / "data")
        recipe = replace(distilled, teacher=Path(moved["teacher"]), start=Path(moved["start"]))
        recipe = replace(recipe, data=replace(recipe.data, root=root))
        assert_equal(finish(recipe), expected)

    def test_a_start_is_not_needed_again(self, distilled: Recipe, uninterrupted: Callable) -> None:
        expected = uninterrupted(distilled)
        shutil.rmtree(distilled.start)
        assert_equal(finish(distilled), expected)

    @pytest.mark.parametrize("name", ["teacher", "start", "data.train_annotations"])
    def test_another_content_is_told_by_name(
        self, distilled: Recipe, tmp_path: Path, name: str
    ) -> None:
        if name == "data.train_annotations":
            root = Path(shutil.copytree(distilled.data.root, tmp_path / "data"))
            path = root / distilled.data.train_annotations
            path.write_text(path.read_text() + " ")
            distilled = replace(distilled, data=replace(distilled.data, root=root))
        else:
            path = getattr(distilled, name)
            flip_bytes(path / STUDENT if path.is_dir() else path)
        with pytest.raises(InputError, match=f"another content of {name}: SHA-256 .*, now "):
            finish(distilled)

    def test_a_teacher_is_not_left_out(self, distilled: Recipe) -> None:
        with pytest.raises(InputError, match="another content of teacher: SHA-256 .*, now none"):
            finish(replace(distilled, teacher=None))

    def test_a_teacher_is_not_added(self, stopped: Recipe, tiny_teacher: Path) -> None:
        with pytest.raises(InputError, match="teacher was None, now "):
            finish(replace(stopped, teacher=tiny_teacher))


class TestOtherProcesses:
    """Where the number of processes decides the weights, a resumed run says so."""

    @pytest.fixture
    def shared(self, tiny_recipe: Recipe, stop_at_first_state: Callable) -> Callable:
        """`shared(recipe)`: the recipe's run, stopped at a state that says two processes."""

        def stop(recipe: Recipe) -> None:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(resume_state, "process_count", lambda: 2)
                stop_at_first_state(lambda: train(recipe, progress=False))

        return stop

    def test_they_are_told(
        self, tiny_recipe: Recipe, shared: Callable, capsys: pytest.CaptureFixture[str]
    ) -> None:
        shared(tiny_recipe)
        finish(tiny_recipe)
        out = capsys.readouterr().out
        assert f"{STATE} is of 2 processes, the run goes on with 1" in out
        assert "BatchNorm takes its statistics over the images of a process" in out

    @pytest.mark.parametrize("why", ["groups", "fixed", "equal"])
    def test_nothing_is_told_where_they_decide_nothing(
        self,
        tiny_recipe: Recipe,
        shared: Callable,
        stop_at_first_state: Callable,
        capsys: pytest.CaptureFixture[str],
        why: str,
    ) -> None:
        recipe = tiny_recipe
        if why == "groups":
            recipe = replace(recipe, images_per_group=2)
        if why == "fixed":
            recipe = replace(recipe, model=replace(recipe.model, norm_eval=True))
        if why == "equal":
            stop_at_first_state(lambda: train(recipe, progress=False))
        else:
            shared(recipe)
        finish(recipe)
        assert "processes" not in capsys.readouterr().out


class TestEvaluationsOnTheWay:
    """What a kill cuts is made up for: the evaluation, its line and its snapshot."""

    @pytest.mark.parametrize(
        ("place", "log_every"), [("evaluate", 1), ("evaluate", 4), ("save_detector", 1)]
    )
    def test_a_kill_in_one(
        self, tiny_recipe: Recipe, place: str, log_every: int, uninterrupted: Callable
    ) -> None:
        """Also where the log has no line yet."""
        recipe = replace(tiny_recipe, evaluate_every=2, checkpoint_every=2, log_every=log_every)

        def kill(*_: object, **__: object) -> None:
            raise SystemExit

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(running, place, kill)
            with pytest.raises(SystemExit):
                train(recipe, progress=False)
        assert not snapshot(recipe.out, 2).exists()
        assert_equal(finish(recipe), uninterrupted(recipe))
        whole = recipe.out.with_name("uninterrupted")
        for step in (2, 4):
            found, expected = (snapshot(out, step).read_bytes() for out in (recipe.out, whole))
            assert found == expected
        logs = [[{**x, **UNTIMED} for x in read_log(out)] for out in (recipe.out, whole)]
        assert repr(logs[0]) == repr(logs[1])

    def test_equal_runs_are_equal_bytes(self, tiny_recipe: Recipe, uninterrupted: Callable) -> None:
        finish(tiny_recipe)
        uninterrupted(tiny_recipe)
        found = [tiny_recipe.out / STUDENT, tiny_recipe.out.with_name("uninterrupted") / STUDENT]
        assert found[0].read_bytes() == found[1].read_bytes()


class TestRefusals:
    def refusal(self, recipe: Recipe, resume: bool) -> str:
        before = {p: p.read_bytes() for p in recipe.out.rglob("*") if p.is_file()}
        with pytest.raises(InputError) as caught:
            train(recipe, resume=resume, progress=False)
        assert before == {p: p.read_bytes() for p in recipe.out.rglob("*") if p.is_file()}
        assert str(recipe.out) in str(caught.value)
        return str(caught.value)

    def test_a_stopped_run_is_not_started_anew(self, stopped: Recipe) -> None:
        assert "--resume" in self.refusal(stopped, resume=False)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"seed": 1}, "seed was 0, now 1"),
            ({"steps": 9}, "steps was 6, now 9"),
            ({"batch_size": 2}, "batch_size was 4, now 2"),
            ({"weights": LossWeights(giou=1.5)}, "weights.giou was 2.0, now 1.5"),
            ({"images_per_group": 2}, "images_per_group was None, now 2"),
        ],
    )
    def test_another_recipe(self, stopped: Recipe, change: dict, words: str) -> None:
        assert words in self.refusal(replace(stopped, **change), resume=True)

    def test_a_nested_field_is_named(self, stopped: Recipe) -> None:
        size = replace(stopped.data.size, short_side=32)
        recipe = replace(stopped, data=replace(stopped.data, size=size))
        assert "data.size.short_side was 64, now 32" in self.refusal(recipe, resume=True)

    def test_a_broken_state(self, stopped: Recipe) -> None:
        path = stopped.out / STATE
        path.write_bytes(path.read_bytes()[:500])
        assert STATE in self.refusal(stopped, resume=True)

    def test_a_student_is_no_state(self, tiny_recipe: Recipe) -> None:
        train(tiny_recipe, progress=False)
        (tiny_recipe.out / STUDENT).replace(tiny_recipe.out / STATE)
        assert "no resume state" in self.refusal(tiny_recipe, resume=True)
