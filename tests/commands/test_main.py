"""The command `bckd`: help, errors, and a whole round on a data set of one's own."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
import torch._inductor.config

from bckd.commands.main import main, run
from bckd.commands.metrics import print_metrics
from bckd.datasets.annotations import read_annotations
from bckd.image_size import ImageSize
from bckd.models.detector import Detector
from bckd.models.postprocess import PostProcess
from bckd.recipes.presets import PRESETS
from bckd.system.errors import InputError, lacks_compiler
from bckd.training import trainer
from bckd.training.run import snapshot
from bckd.zoo.checkpoints import save_detector
from bckd.zoo.unfinished import STUDENT

ROOT = Path(__file__).parents[2]
TINY = """
    --model.width 4 --model.channels 8 --model.head-groups 2 --model.head-convs 1
    --data.size.short-side 64 --data.size.long-side 64 --steps 2 --batch-size 4 --device cpu
""".split()


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Calls `bckd` in an empty folder; exit code, standard output and standard error."""
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["bckd", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main()
        return int(caught.value.code or 0), *capsys.readouterr()

    return call


@pytest.fixture
def refusal(call: Callable[..., tuple[int, str, str]]) -> Callable[..., str]:
    """Calls `bckd` with bad input; the one line it says. Nothing is written."""

    def refusal(*arguments: object) -> str:
        code, _, error = call(*arguments)
        assert code == 2
        lines = error.splitlines()
        assert len(lines) == 1, error
        assert lines[0].startswith("bckd: error: ")
        assert not list(Path.cwd().iterdir())
        return lines[0]

    return refusal


class TestHelp:
    @pytest.mark.parametrize(
        ("arguments", "mentioned"),
        [
            ([], ["bckd train PRESET", "bckd eval RUN", "bckd demo", "bckd study", "bckd scenes"]),
            (["--help"], ["bckd train PRESET"]),
            (["scenes", "--help"], ["--root", "--train", "--val", "--seed", "--variant"]),
            (["train"], list(PRESETS)),
            (["train", "--help"], list(PRESETS)),
            (
                ["train", "custom", "--help"],
                ["--data.root", "--teacher", "--resume", "--model.backbone", "--help-all"],
            ),
            (["train", "custom", "--help-all"], ["--data.root", "--resume", "--weights.binary"]),
            (["eval"], ["RUN", "--detections", "--data.root"]),
            (["eval", "--help"], ["RUN", "--detections", "--data.root"]),
            (["demo", "--help"], ["--out", "--root", "--teacher", "--steps", "--device"]),
            (["study"], ["base", "four-classes", "runs", "steps"]),
            (["study", "base", "--help"], ["--results", "--processes", "--seeds", "--methods"]),
        ],
        ids=" ".join,
    )
    def test_lists_what_there_is(
        self,
        call: Callable[..., tuple[int, str, str]],
        arguments: list[str],
        mentioned: list[str],
    ) -> None:
        code, text, error = call(*arguments)
        assert (code, error) == (0, "")
        for word in mentioned:
            assert word in text

    def test_defaults_are_those_of_the_preset(
        self, call: Callable[..., tuple[int, str, str]]
    ) -> None:
        texts = [call("train", preset, "--help")[1] for preset in ("scenes", "coco-r50")]
        assert "data/scenes" in texts[0] and "data/scenes" not in texts[1]
        assert "87960" in texts[1]


class TestRefusals:
    def test_an_unknown_command(self, refusal: Callable[..., str]) -> None:
        message = refusal("trian")
        assert "'trian'" in message and "train" in message

    def test_an_unknown_study(self, refusal: Callable[..., str]) -> None:
        message = refusal("study", "bsae")
        assert "'bsae'" in message and "base" in message

    def test_an_unknown_preset(self, refusal: Callable[..., str]) -> None:
        message = refusal("train", "coco-r51")
        assert "'coco-r51'" in message and "coco-r50" in message

    def test_an_explanation_of_what_no_run_can_have(self, refusal: Callable[..., str]) -> None:
        assert "seed is -1; expected" in refusal("train", "coco-r50", "--explain", "--seed", -1)

    def test_two_lengths_of_a_run(self, refusal: Callable[..., str]) -> None:
        message = refusal("train", "scenes", *TINY, "--epochs=1")
        assert "--steps and --epochs are both given; expected one of them" in message

    @pytest.mark.parametrize(
        "arguments",
        [["scenes"], ["train", "scenes"], ["demo"], ["study", "base"], ["eval", "RUN"]],
    )
    def test_an_unknown_option(
        self, refusal: Callable[..., str], arguments: list[str], tmp_path: Path, tiny_teacher: Path
    ) -> None:
        path = [str(tiny_teacher) if word == "RUN" else word for word in arguments]
        message = refusal(*path, "--colour", "red")
        assert "'--colour'" in message and "--help" in message

    @pytest.mark.parametrize(
        ("option", "value"), [("--steps", "many"), ("--optimisation.schedule", "linear")]
    )
    def test_a_value_of_another_kind(
        self, refusal: Callable[..., str], option: str, value: str
    ) -> None:
        message = refusal("train", "scenes", option, value)
        assert option in message and value in message

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("--batch-size", 0),
            ("--log-every", 0),
            ("--checkpoint-every", 0),
            ("--seed", -1),
            ("--steps", 0),
            ("--data.workers", -1),
            ("--data.first-val", 0),
            ("--data.first-train", -3),
            ("--data.size.pad-multiple", 0),
            ("--model.head-groups", 3),
            ("--optimisation.learning-rate", "nan"),
        ],
    )
    def test_a_value_out_of_range(
        self, refusal: Callable[..., str], scenes_root: Path, option: str, value: object
    ) -> None:
        message = refusal("train", "scenes", *TINY, "--data.root", scenes_root, option, value)
        name = option.strip("-").split(".")[-1].replace("-", "_")
        assert name in message and str(value) in message

    @pytest.mark.parametrize("command", ["train", "eval"])
    def test_no_annotation_file(
        self, refusal: Callable[..., str], tiny_teacher: Path, tmp_path: Path, command: str
    ) -> None:
        start = ["train", "scenes"] if command == "train" else ["eval", tiny_teacher]
        message = refusal(*start, "--data.root", tmp_path / "nothing")
        assert str(tmp_path / "nothing") in message and "does not exist" in message

    def test_no_such_teacher(self, refusal: Callable[..., str], scenes_root: Path) -> None:
        message = refusal(
            "train", "scenes", *TINY, "--data.root", scenes_root, "--teacher", "nothing.pth"
        )
        assert "nothing.pth does not exist" in message

    @pytest.mark.parametrize("run", ["nothing", "nothing.pth", "nothing.safetensors"])
    def test_no_such_run(self, refusal: Callable[..., str], run: str) -> None:
        assert f"{run} does not exist" in refusal("eval", run)

    def test_eval_of_other_classes(
        self, refusal: Callable[..., str], tiny_teacher: Path, custom_root: Path
    ) -> None:
        data = ["--data.root", custom_root, "--data.val-images", "val"]
        data += ["--data.val-annotations", "annotations/instances_val.json"]
        message = refusal("eval", tiny_teacher, *data, "--device", "cpu")
        assert str(tiny_teacher) in message and "washer" in message
        assert "its classes are 'square', " in message  # all of them, not those that both have

    def test_eval_without_a_run(self, refusal: Callable[..., str]) -> None:
        assert "folder of a run" in refusal("eval", "--device", "cpu")

    def test_no_such_device(self, refusal: Callable[..., str], scenes_root: Path) -> None:
        message = refusal("train", "scenes", "--data.root", scenes_root, "--device", "abacus")
        assert "'abacus'" in message

    @pytest.mark.parametrize("command", ["train", "eval", "protocols"])
    def test_a_device_that_computes_nothing(
        self, refusal: Callable[..., str], scenes_root: Path, tiny_teacher: Path, command: str
    ) -> None:
        data = ["--data.root", scenes_root, "--device", "meta"]
        val = ["--data.val-images", "val"]
        val += ["--data.val-annotations", "annotations/instances_val.json"]
        start = {
            "train": ["train", "scenes", *TINY],
            "eval": ["eval", tiny_teacher, *val],
            "protocols": ["protocols", "--weights", tiny_teacher, *val],
        }
        assert "device 'meta' is not available" in refusal(*start[command], *data)

    def test_a_file_that_cant_be_written_is_told_before_the_work(
        self, refusal: Callable[..., str], scenes_root: Path, tiny_teacher: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "file").touch()
        for option in ("--detections", "--score-maps"):
            message = refusal("eval", tiny_teacher, option, tmp_path / "file" / "d.json")
            assert "can't be written" in message

    def test_what_eval_and_export_read_is_never_replaced(
        self,
        refusal: Callable[..., str],
        custom_root: Path,
        tiny_teacher: Path,
        tmp_path: Path,
    ) -> None:
        weights = Path(shutil.copy(tiny_teacher, tmp_path / "run.pth"))
        assert "used for" in refusal("export", weights, "--official", weights)
        image = next((custom_root / "val").iterdir())
        listed = custom_root / "annotations/instances_val.json"
        data = ["--data.root", custom_root, "--data.val-images", "val"]
        data += ["--data.val-annotations", "annotations/instances_val.json", "--device", "cpu"]
        weights = Path(shutil.copy(tiny_teacher, tmp_path / "student.safetensors"))
        before = [path.read_bytes() for path in (weights, image, listed)]
        for path in (weights, image, listed):
            message = refusal("eval", tmp_path, *data, "--detections", path)
            assert f"{path} is used for something else here" in message
        assert "used for" in refusal(
            "eval", tmp_path, *data, "--detections", "x", "--score-maps", "./x"
        )
        assert [path.read_bytes() for path in (weights, image, listed)] == before

    def test_a_word_that_is_nothing_or_no_text(self, refusal: Callable[..., str]) -> None:
        message = refusal("train", "scenes", "--out", "")
        assert "argument 4 (after --out) is ''; expected a value, not nothing" in message
        assert "argument 3 (after scenes) is '--out='" in refusal("train", "scenes", "--out=")
        assert "argument 2, '\\udcff', is no text" in refusal("eval", "\udcff")

    def test_scenes_out_of_range(self, refusal: Callable[..., str]) -> None:
        assert "train is 0" in refusal("scenes", "--root", "scenes", "--train", 0)

    def test_the_folder_of_the_run_is_a_file(
        self, refusal: Callable[..., str], scenes_root: Path, tmp_path: Path
    ) -> None:
        file = tmp_path / "file"
        file.write_text("keep me")
        for out in (file, file / "run"):
            message = refusal("train", "scenes", *TINY, "--data.root", scenes_root, "--out", out)
            assert str(file) in message
        assert file.read_text() == "keep me"

    @pytest.mark.parametrize("workers", [0, 1])
    def test_an_image_that_cannot_be_decoded(
        self, call: Callable[..., tuple[int, str, str]], custom_root: Path, workers: int
    ) -> None:
        path = custom_root / "train" / "wide.png"
        path.write_text("not pixels")
        code, _, error = call(
            "train", "scenes", *TINY, "--data.root", custom_root, "--data.workers", workers
        )
        assert code == 2
        (line,) = error.splitlines()  # before the first step
        assert line.startswith("bckd: error: ")
        assert f"{path} cannot be decoded" in line
        assert not list(Path.cwd().rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("error", "asked"),
    [
        (lambda: torch.empty(10**15), " (4000000000000000 bytes were asked for)"),
        (lambda: np.empty(10**15), " (7.11 PiB were asked for)"),
        (lambda: bytearray(2**62), ""),
    ],
)
def test_memory_that_runs_out(
    refusal: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    error: Callable[[], object],
    asked: str,
) -> None:
    monkeypatch.setattr(trainer, "train", lambda *_, **__: error())
    message = refusal("train", "scenes")
    assert f"error: memory ran out{asked}; fewer images at once (--batch-size)" in message


def test_no_compiler(refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"cpp.cxx": ("/absent/g++",), "fx_graph_cache": False}

    def compile_and_run(*_: object, **__: object) -> None:
        with torch._inductor.config.patch(settings):
            torch.compile(lambda x: (3 * x).sigmoid())(torch.ones(17))

    monkeypatch.setattr(trainer, "train", compile_and_run)
    message = refusal("train", "scenes", "--compile")
    assert "error: torch.compile finds no C++ compiler here" in message
    assert lacks_compiler(RuntimeError("Failed to find C compiler. Please specify via CC"))


def test_a_fault_of_our_own_is_no_sentence(
    call: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "train", lambda *_, **__: torch.ones(2) + torch.ones(3))
    with pytest.raises(RuntimeError, match="must match the size"):
        call("train", "scenes")


def test_prints_where_a_notebook_shows_it(
    call: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """IPython's streams are no text files and can't be reconfigured."""
    shown = StringIO()
    monkeypatch.setattr(sys, "stdout", shown)
    assert call("--help")[0] == 0
    assert "bckd train PRESET" in shown.getvalue()


@pytest.mark.parametrize(("streams", "code"), [(">&- 2>&-", 0), (">&-", 0), ("2>&-", 0)])
def test_closed_streams_change_nothing(tmp_path: Path, streams: str, code: int) -> None:
    command = f'"{sys.executable}" -m bckd scenes --root s --train 1 --val 1 {streams}'
    assert subprocess.run(command, shell=True, cwd=tmp_path).returncode == code
    assert (tmp_path / "s" / "scenes.json").exists()


def test_as_a_process(tmp_path: Path) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "bckd", "train", "nothing", "--out", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 2
    assert process.stdout == ""
    (line,) = process.stderr.splitlines()
    assert line.startswith("bckd: error: preset 'nothing' is unknown")
    assert not list(tmp_path.iterdir())


def test_an_explanation_starts_no_run(call: Callable[..., tuple[int, str, str]]) -> None:
    code, text, _ = call("train", "coco-r50", "--explain", "--batch-size", 8)
    assert code == 0 and "Learning rate: 0.01 for 16 images a step is 0.005 for 8" in text
    assert not list(Path.cwd().iterdir())


def test_a_run_to_go_on_with_that_is_not_there_is_told(
    call: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise InputError("nothing else")

    monkeypatch.setattr(trainer, "train", refused)
    for out, told in ((tmp_path / "absent", True), (tmp_path, False)):
        (tmp_path / "resume.safetensors").touch()
        _, text, _ = call("train", "scenes", "--resume", "--out", out)
        assert ("holds no run to go on with" in text) == told


def test_a_round_on_a_data_set_of_ones_own(
    call: Callable[..., tuple[int, str, str]], custom_root: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    options = """
        --model.no-pretrained --model.channels 32 --data.size.short-side 64
        --data.size.long-side 96 --data.workers 0 --steps 3 --batch-size 2 --log-every 1
        --device cpu --evaluate-every 2 --optimisation.warmup-steps 2
    """.split()
    code, text, _ = call("train", "custom", "--data.root", custom_root, "--out", out, *options)
    assert code == 0
    lines = [x for x in text.splitlines() if not x.startswith(("chosen", "data: ", "model: "))]
    lines = [x for x in lines if "are few" not in x and "fewer than" not in x]
    what = "boxes without width or height are left out of training and evaluation (1): id 6 (ent"
    assert "instances_train.json: " + what in lines[0]
    assert lines[1].endswith("images without a box are left out of training (1): empty.png")
    assert lines.pop(2).startswith("after 2 of 3 steps: AP ")
    trained = lines[2:6]
    results = json.loads((out / "results.json").read_text())
    assert set(results["per_class"]) == {"nut", "washer", "screw"}
    assert trained[0].startswith(f"AP {100 * results['AP']:.1f}")

    # The run knows its data set, and so does its weights file.
    for path in (out, out / STUDENT):
        code, text, _ = call("eval", path, "--device", "cpu")
        assert code == 0
        assert text.splitlines()[-4:] == trained
    code, _, error = call("eval", snapshot(out, 2), "--device", "cpu")
    assert code == 0, error

    detections = tmp_path / "x.json"
    code, text, _ = call("eval", out, "--detections", detections, "--device", "cpu")
    assert code == 0
    found = json.loads(detections.read_text())
    assert f"{len(found)} detections are in {detections}" in text
    annotations = read_annotations(custom_root / "annotations" / "instances_val.json")
    assert {row["image_id"] for row in found} <= {image.id for image in annotations.images}
    assert {row["category_id"] for row in found} <= {3, 7, 20}

    code, _, error = call("train", "custom", "--data.root", custom_root, "--out", out, *options)
    assert code == 2
    assert f"{out} already holds a run" in error


def test_eval_of_weights_elsewhere_uses_the_size_they_were_trained_at(
    call: Callable[..., tuple[int, str, str]],
    tiny_detector: Callable[..., Detector],
    custom_root: Path,
    tmp_path: Path,
) -> None:
    path = tmp_path / "weights.safetensors"
    detector = tiny_detector(("nut", "washer", "screw"))
    save_detector(path, detector, ImageSize(short_side=48, long_side=80), {})
    _, text, _ = call("eval", path, "--help-all")
    assert "(default: 48)" in text and "(default: 80)" in text
    data = ["--data.root", str(custom_root), "--data.val-images", "val"]
    data += ["--data.val-annotations", "annotations/instances_val.json", "--data.workers", "0"]
    assert run(["eval", str(path), *data, "--device", "cpu"]) == 0


def test_eval_goes_by_the_names_of_classes(
    call: Callable[..., tuple[int, str, str]],
    tiny_detector: Callable[..., Detector],
    custom_root: Path,
    tmp_path: Path,
) -> None:
    """The same detector with its classes in another order, and one more, has the same AP."""
    path, texts = tmp_path / "weights.safetensors", []
    detector = tiny_detector(("nut", "washer", "screw", "lorry"))
    with torch.no_grad():
        detector.head.cls.weight *= 50
    data = ["--data.root", custom_root, "--data.val-images", "val", "--device", "cpu"]
    data += ["--data.val-annotations", "annotations/instances_val.json", "--data.workers", 0]
    for order in ([0, 1, 2, 3], [3, 2, 0, 1]):
        chosen = tiny_detector([detector.class_names[k] for k in order])
        state = detector.state_dict()
        for name in ("head.cls.weight", "head.cls.bias"):
            state[name] = state[name][order]
        chosen.load_state_dict(state)
        save_detector(path, chosen, ImageSize(64, 96), {})
        code, text, error = call("eval", path, *data)
        assert code == 0, error
        texts.append(text)
    told, *numbers = texts[0].splitlines()
    assert told.endswith(": 1 of its classes are not in the data set and left out: lorry")
    assert texts[0] == texts[1] and any(line.split()[1] != "0.0" for line in numbers[1:])


def test_eval_on_a_challenge_s_file_writes_detections(
    call: Callable[..., tuple[int, str, str]], tiny_teacher: Path, scenes_root: Path, tmp_path: Path
) -> None:
    content = json.loads((scenes_root / "annotations" / "instances_val.json").read_text())
    del content["annotations"]
    test = tmp_path / "test.json"
    test.write_text(json.dumps(content))
    data = ["--data.root", scenes_root, "--data.val-images", "val", "--data.val-annotations", test]
    options = ["--data.workers", 0, "--device", "cpu", "--detections", tmp_path / "d.json"]
    code, text, _ = call("eval", tiny_teacher, *data, *options)
    assert code == 0
    assert f"{test}: there are no 'annotations', so AP is unknown" in text
    assert text.splitlines()[-1] == "AP is unknown: no object to find is listed"
    found = json.loads((tmp_path / "d.json").read_text())
    assert {row["image_id"] for row in found} == {row["id"] for row in content["images"]}


def test_metrics_of_classes_without_an_object_are_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    parts = {name: 0.5 for name in ("AP", "AP50", "AP75", "APs", "APm")}
    absent = {f"class {n}": math.nan for n in range(1200)}
    print_metrics({**parts, "APl": math.nan, "per_class": {"nut": 0.25, **absent}})
    assert capsys.readouterr().out.splitlines() == [
        "AP 50.0  AP50 50.0  AP75 50.0  APs 50.0  APm 50.0  APl -",
        "  nut  25.0",
        "no object here of 1200 classes: class 0, class 1, class 2 and 1197 more",
    ]


def test_more_detections_are_kept_and_judged(
    call: Callable[..., tuple[int, str, str]], tiny_teacher: Path, scenes_root: Path, tmp_path: Path
) -> None:
    data = ["--data.root", scenes_root, "--data.val-images", "val", "--data.workers", 0]
    data += ["--data.val-annotations", "annotations/instances_val.json", "--device", "cpu"]
    counts = {}
    for limit in (1, 100):
        path = tmp_path / f"{limit}.json"
        options = ["--max-detections", limit, "--detections", path]
        code, text, _ = call("eval", tiny_teacher, *data, *options)
        assert code == 0 and ("AP can't be above" in text) == (limit == 1)
        counts[limit] = len(json.loads(path.read_text()))
    assert counts[1] == 8 < counts[100]


def test_a_detector_that_keeps_few_has_a_ceiling_too(
    call: Callable[..., tuple[int, str, str]],
    tiny_detector: Callable[..., Detector],
    scenes_root: Path,
    tmp_path: Path,
) -> None:
    data = ["--data.root", scenes_root, "--data.val-images", "val", "--data.workers", 0]
    data += ["--data.val-annotations", "annotations/instances_val.json", "--device", "cpu"]
    path = tmp_path / "few.safetensors"
    few = tiny_detector(postprocess=PostProcess(max_detections=1))
    save_detector(path, few, ImageSize(64, 64), {})
    code, text, _ = call("eval", path, *data)
    assert code == 0 and "as 1 detections of an image are kept and judged" in text


def test_sizes_that_only_the_files_say(
    call: Callable[..., tuple[int, str, str]], custom_root: Path, tiny_detector: Callable
) -> None:
    path = custom_root / "annotations" / "instances_val.json"
    content = json.loads(path.read_text())
    for image in content["images"]:
        del image["width"]
    path.write_text(json.dumps(content))
    weights = custom_root / "w.safetensors"
    names = tuple(row["name"] for row in content["categories"])
    save_detector(weights, tiny_detector(names), ImageSize(64, 64), {})
    data = ["--data.root", custom_root, "--data.val-images", "val", "--data.workers", 0]
    data += ["--data.val-annotations", "annotations/instances_val.json", "--device", "cpu"]
    code, text, _ = call("eval", weights, *data)
    assert code == 0 and "have those of their files" in text


@pytest.mark.parametrize("closed", ["0", "1", "2", "012"])
def test_standard_streams_may_be_closed(closed: str) -> None:
    """As a service may start a command."""
    ends = " ".join(f"{number}>&-" for number in closed)
    command = f'"{sys.executable}" -m bckd eval nothing {ends}'
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        command, shell=True, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    assert done.stderr.startswith("bckd: error: nothing does not exist") == ("2" not in closed)


def test_scenes(call: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    root = tmp_path / "scenes"
    for _ in range(2):
        code, text, _ = call("scenes", "--root", root, "--train", 2, "--val", 1)
        assert (code, text) == (0, f"scenes are in {root}\n")
    assert len(list(root.rglob("*.png"))) == 3
