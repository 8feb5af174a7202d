"""Several processes train one student: real ones, started by torchrun."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from bckd.commands.main import main, run
from bckd.evaluation.average_precision import evaluate
from bckd.recipes import Recipe
from bckd.recipes.presets import PRESETS
from bckd.system import launcher
from bckd.system.distributed import (
    Anywhere,
    first_process_first,
    from_first,
    joined_lists,
    mean_over_processes,
    own_device,
    processes_joined,
    rows_of_all_processes,
    share_statistics,
    shared,
)
from bckd.system.errors import InputError
from bckd.system.launcher import is_first, process_name
from bckd.system.values import from_plain
from bckd.training import checks, trainer
from bckd.training.data import validation_data
from bckd.training.resuming import agreed_state
from bckd.training.run_log import read_log
from bckd.zoo.checkpoints import load_detector
from bckd.zoo.unfinished import STATE, STUDENT
from tests.processes import start_processes

ROOT = Path(__file__).parents[2]
TEACHER = ROOT / "data" / "weights" / "scenes_teacher.safetensors"
STEPS = 4
# Trained further, with a BatchNorm that learns, levels without a positive and sums over images:
# each group of two images is what a process alone would see.
OPTIONS = """
    train scenes-teacher --images-per-group 2
    --weights.softmax 0.75 --weights.ld 0.25 --weights.ld-region 0.25
    --optimisation.optimizer sgd --optimisation.warmup-steps 0
    --batch-size 4 --checkpoint-every 2 --evaluate-every 3 --log-every 1
    --device cpu --teacher-check 0
""".split()


def command(scenes: Path, out: Path, *more: str) -> list[str]:
    paths = ["--data.root", str(scenes), "--out", str(out)]
    paths += ["--teacher", str(TEACHER), "--start-from", str(TEACHER)]
    return [*OPTIONS, *paths, "--steps", str(STEPS), *more]


SOURCE = """
from torch import nn
from bckd.losses.terms import needs

@needs("features")
class Imitation(nn.Module):
    def __init__(self, student, teacher):
        super().__init__()
        self.adapter = nn.Conv2d(student.features[0].shape[1], teacher.features[0].shape[1], 1)

    def forward(self, student, teacher, assignment, batch):
        pairs = zip(student.features, teacher.features, strict=True)
        return sum((self.adapter(ours) - theirs).square().mean() for ours, theirs in pairs)
"""


def torchrun(arguments: list[str], processes: int = 2) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.run(
        [*launcher, "--nproc-per-node", str(processes), "-m", "bckd", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )


def files(out: Path) -> set[str]:
    found = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    return {name for name in found if not name.startswith("tensorboard")}


def assert_same_run(ours: Path, expected: Path) -> None:
    """Weights, log and metrics agree to rounding, which sums in another order bring."""
    weights, others = load_file(ours / STUDENT), load_file(expected / STUDENT)
    assert weights.keys() == others.keys()
    for name, value in others.items():
        torch.testing.assert_close(weights[name], value, rtol=1e-4, atol=1e-6, msg=name)
    lines, other_lines = (
        [line for line in read_log(out) if "loss" in line] for out in (ours, expected)
    )
    assert [line["step"] for line in lines] == [line["step"] for line in other_lines]
    for line, other in zip(lines, other_lines, strict=True):
        assert line["unweighted"] == pytest.approx(other["unweighted"], rel=1e-4)
        assert line["loss"] == pytest.approx(other["loss"], rel=1e-4)
    results, other_results = (
        json.loads((out / "results.json").read_text()) for out in (ours, expected)
    )
    for metrics in (results, other_results):
        del metrics["seconds"]
    assert results["AP"] > 0.3
    assert results.pop("per_class") == pytest.approx(other_results.pop("per_class"), abs=2e-3)
    assert results == pytest.approx(other_results, abs=2e-3, nan_ok=True)


def assert_same_terms(ours: Path, expected: Path) -> None:
    """What terms that learn have learnt beside the student agrees likewise."""
    states = [load_file(out / STATE) for out in (ours, expected)]
    names = [name for name in states[1] if name.startswith("terms/")]
    assert len(names) == 2 + 4  # of Imitation and of CrossKD, which follows the student's head
    for name in names:
        torch.testing.assert_close(states[0][name], states[1][name], rtol=1e-4, atol=1e-6)


def assert_metrics_are_the_students(out: Path, scenes: Path) -> None:
    """Every process evaluated the student that was saved: its running statistics too."""
    recipe = from_plain(Recipe, json.loads((out / "recipe.json").read_text()), "recipe.json")
    student = load_detector(out).detector
    expected, _ = evaluate(student, validation_data(replace(recipe.data, root=scenes)), 1)
    found = json.loads((out / "results.json").read_text())
    assert found["AP"] == pytest.approx(expected.AP, abs=1e-9)
    assert found["per_class"] == pytest.approx(expected.per_class, abs=1e-9)


KILLER = """
import os, signal
from pathlib import Path

calls = []

def killer(student, teacher, assignment, batch):
    calls.append(None)
    if len(calls) == 4 and os.environ.get("RANK") == "1" and Path(__file__ + ".armed").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return 0 * student.cls_logits.sum()
"""


def test_two_processes_train_the_student_of_one(scenes_root: Path, tmp_path: Path) -> None:
    """Killed, by the system for want of memory, say, and resumed: by two again, or by one alone.

    The process that is left says why it ends, and no step is lost that was saved.
    """
    one, two, alone = (tmp_path / name for name in ("one", "two", "alone"))
    imitation, killer = tmp_path / "imitation_in_two_processes.py", tmp_path / "killer.py"
    imitation.write_text(SOURCE, encoding="utf-8")
    killer.write_text(KILLER, encoding="utf-8")
    term = ["--term", f"{imitation}:Imitation=0.5", "--term", "bckd.losses.crosskd:CrossKD=0.1"]
    term += ["--term", f"{killer}:killer=1.0"]
    armed = tmp_path / "killer.py.armed"
    armed.touch()
    done = torchrun(command(scenes_root, two, *term))
    assert done.returncode != 0 and "Signal 9 (SIGKILL)" in done.stderr
    # The other one says why it ended, unless torchrun ends it before.
    assert any(x in done.stderr for x in ("another process of the run is gone", "Signal 15"))
    assert "[rank0]" not in done.stderr  # which torch puts before a traceback's lines
    with safe_open(two / STATE, "pt") as file:
        assert file.metadata()["step"] == "3"
    armed.unlink()
    shutil.copytree(two, alone)
    done = torchrun(command(scenes_root, two, "--resume", *term))
    assert done.returncode == 0, done.stderr
    assert "FutureWarning" not in done.stderr
    assert done.stdout.count("the student and its log are in") == 1  # said by one of them
    run(command(scenes_root, one, *term))
    run(command(scenes_root, alone, "--resume", *term))
    for resumed in (two, alone):
        assert_same_run(resumed, one)
        assert_same_terms(resumed, one)
        assert files(resumed) == files(one)
    assert_metrics_are_the_students(two, scenes_root)


def test_a_batch_that_the_processes_can_not_share_is_refused(
    tiny_recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "process_count", lambda: 2)
    said = "batch_size is 3; expected a multiple of the 2 processes that share it"
    with pytest.raises(InputError, match=said):
        trainer.train(replace(tiny_recipe, batch_size=3), progress=False)
    assert not tiny_recipe.out.exists()


@pytest.mark.parametrize(("rank", "who"), [("0", "bckd"), ("3", "bckd (process 3)")])
def test_a_message_says_whose_it_is(
    rank: str, who: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setattr(sys, "argv", ["bckd", "train", "nothing"])
    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().err.startswith(f"{who}: error: preset 'nothing' is unknown")


@pytest.mark.parametrize("rank", ["0", "1"])
def test_torchrun_says_the_last_words(
    rank: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It reads a file, shows what that says at its end, and ends the processes that wait."""
    file, waited = tmp_path / "error.json", []
    for name, value in (("RUN_ID", "x"), ("ERROR_FILE", str(file))):
        monkeypatch.setenv(f"TORCHELASTIC_{name}", value)
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setattr(sys, "argv", ["bckd", "train", "nothing"])
    monkeypatch.setattr(os, "_exit", sys.exit)
    monkeypatch.setattr(launcher.time, "sleep", waited.append)
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2 and capsys.readouterr().err == ""
    failure = ProcessFailure(0, 1, 2, str(file))
    said = ChildFailedError("bckd", {0: failure}).format_msg()
    assert said.count("error: preset 'nothing' is unknown") == 1
    assert bool(waited) == (rank == "1")


def test_what_torchrun_cannot_be_told_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (("RUN_ID", "x"), ("ERROR_FILE", str(tmp_path))):  # no file, a folder
        monkeypatch.setenv(f"TORCHELASTIC_{name}", value)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setattr(sys, "argv", ["bckd", "train", "nothing"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert capsys.readouterr().err.count("error: preset 'nothing' is unknown") == 1


def _refused_by(rank: int) -> str:
    def refuse() -> None:
        raise InputError(f"refused by {rank}")

    try:
        from_first(refuse)
    except InputError as error:
        return str(error)
    return "nothing"


def _process(rank: int, folder: str, scenes: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    value = torch.tensor([1.0 + 2 * rank, 5.0])
    mean = mean_over_processes(value)

    def work() -> list[str]:
        """Which process is in here, and whether the first has been."""
        mark = Path(folder) / "first"
        seen = mark.exists()
        if is_first():
            mark.touch()
        return [process_name(), seen]

    norms = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2))
    for norm in norms:
        norm.running_mean[:] = torch.tensor([rank, 0.1])
        norm.running_var[:] = torch.tensor([3.0, 4.0 * rank])
    norms[1].eval()
    untracked = torch.nn.BatchNorm1d(2, track_running_stats=False)
    share_statistics(torch.nn.ModuleList([*norms, untracked]))

    told = Anywhere()
    dataset = validation_data(replace(PRESETS["scenes"][1].data, root=Path(scenes)))
    detector = load_detector(TEACHER).detector
    metrics, results = evaluate(detector, dataset, 3, progress=False)
    found = {
        "AP": metrics.AP,
        "results": results,
        "statistics": [(x.running_mean.tolist(), x.running_var.tolist()) for x in norms],
        "rows": rows_of_all_processes(torch.tensor([[rank], [7]])).tolist(),
        "value": value.tolist(),
        "mean": mean.tolist(),
        "joined": joined_lists([f"{rank}a", f"{rank}b"][: 2 - rank]),
        "from first": from_first(lambda: f"by {rank}"),
        "refused": _refused_by(rank),
        "anywhere": [told.after_a_step(rank == n, torch.device("cpu")) for n in range(4)],
        "first first": first_process_first(work),
    }
    (Path(folder) / f"{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


def test_what_processes_agree_on(tmp_path: Path, scenes_root: Path) -> None:
    start_processes(_process, (str(tmp_path), str(scenes_root)), 2)
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    for rank, own in enumerate(found):
        assert own["value"] == [1 + 2 * rank, 5]  # the input is left as it was
        assert own["mean"] == [2, 5]
        assert own["joined"] == ["0a", "0b", "1a"]
        assert own["from first"] == "by 0"
        assert own["refused"] == "refused by 0"
        assert own["anywhere"] == [False, True, True, False]
        assert own["rows"] == [[0], [7], [1], [7]]
        learning, fixed = own["statistics"]
        assert learning == [pytest.approx([0.5, 0.1]), [3, 2]]
        assert fixed == [pytest.approx([rank, 0.1]), [3, 4 * rank]], "to the last bit"
    dataset = validation_data(replace(PRESETS["scenes"][1].data, root=scenes_root))
    metrics, results = evaluate(load_detector(TEACHER).detector, dataset, 1, progress=False)
    assert metrics.AP > 0.3
    for own in found:
        assert own["AP"] == pytest.approx(metrics.AP, abs=1e-6)
        assert len(own["results"]) == len(results), "each image once"
        assert [x["image_id"] for x in own["results"]] == [x["image_id"] for x in results]
    assert found[0]["first first"] == ["", False]
    assert found[1]["first first"] == [" (process 1)", True]


def _machine(rank: int, folder: str, recipe: Recipe) -> None:
    """One of two machines: the same path is another disk's."""
    meeting = f"file://{folder}/machines"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    os.chdir(Path(folder) / str(rank))
    said = []
    cases = [("both", True), ("one", True), ("none", True), ("other", True)]
    for out, resume in [*cases, ("both", False), ("one", False)]:
        try:
            state = agreed_state(replace(recipe, out=Path(out)), resume)
            said.append(state and state.step)
        except InputError as error:
            said.append(str(error))
    (Path(folder) / f"machine{rank}.json").write_text(json.dumps(said))
    dist.destroy_process_group()


def test_machines_that_find_different_states_are_told(
    tiny_recipe: Recipe, tmp_path: Path, stop_at_first_state: Callable[..., None]
) -> None:
    out = tmp_path / "0" / "both"
    recipe = replace(tiny_recipe, out=out)
    stop_at_first_state(lambda: trainer.train(recipe, progress=False))
    shutil.copytree(out, tmp_path / "0" / "one")
    shutil.copytree(out, tmp_path / "1" / "both")
    shutil.copytree(out, tmp_path / "0" / "other")
    again = replace(recipe, out=tmp_path / "1" / "other", data=replace(recipe.data, flip=1.0))
    stop_at_first_state(lambda: trainer.train(again, progress=False))
    header = safetensors_header(out / STATE)
    del header["checksum"]
    save_file(load_file(again.out / STATE), again.out / STATE, header)  # as if of this recipe
    start_processes(_machine, (str(tmp_path), recipe), 2)
    first, second = (json.loads((tmp_path / f"machine{n}.json").read_text()) for n in (0, 1))
    assert first == second
    both, one, none, other, anew, different = first
    assert (both, none) == (3, None)
    expected = "; expected one folder that all processes see"
    assert one.startswith("in one process 0 finds a run of 3 steps (SHA-256 ")
    assert one.endswith(f"), process 1 no run{expected}")
    assert other.startswith("in other process 0 finds a run of 3 steps (SHA-256 ")
    assert other.endswith(expected) and other.count("a run of 3 steps") == 2
    assert anew == "both already holds a run; --resume continues it, another --out starts anew"
    assert different.startswith(
        "in one process 0 finds a run that it can't go on with (one already"
    )
    assert different.endswith(f"process 1 no run{expected}")


def safetensors_header(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata()


def test_a_single_process_is_left_as_it_is() -> None:
    value, part, network = torch.tensor(3.0), [1, 2], torch.nn.Linear(2, 2)
    assert mean_over_processes(value) is value
    assert joined_lists(part) is part
    assert shared(network) is network
    assert from_first(lambda: 4) == first_process_first(lambda: 4) == 4
    assert is_first() and process_name() == ""
    assert own_device("auto") == "auto" and own_device("cuda:1") == "cuda:1"


def test_processes_wait_for_one_that_scores_all_of_coco(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's own limit, 10 minutes with NCCL, would end the run."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    calls = []
    monkeypatch.setattr(dist, "init_process_group", lambda *a, **k: calls.append(k["timeout"]))
    monkeypatch.setattr(dist, "destroy_process_group", lambda: None)
    with processes_joined(torch.device("cpu")):
        assert calls[0].total_seconds() >= 3600


class TestDevice:
    """Which GPU a process takes: the environment that torchrun sets, on machines without one."""

    @pytest.fixture(autouse=True)
    def second_of_two(self, monkeypatch: pytest.MonkeyPatch) -> None:
        launched = {"TORCHELASTIC_RUN_ID": "x", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
        for name, value in {**launched, "RANK": "1", "WORLD_SIZE": "2"}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)

    def test_each_process_takes_its_own(self) -> None:
        assert own_device("auto") == own_device("cuda") == "cuda:1"
        assert own_device("cpu") == "cpu"

    def test_one_gpu_for_all_is_refused(self) -> None:
        with pytest.raises(InputError, match="device is cuda:0, one GPU for all processes"):
            own_device("cuda:0")

    def test_a_single_process_takes_the_one_that_is_named(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
        assert own_device("cuda:1") == "cuda:1"

    def test_more_processes_than_gpus_are_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        with pytest.raises(InputError, match=r"started 2 .* no GPU 1; expected --nproc-per-node 1"):
            own_device("cuda")
