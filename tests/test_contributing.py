"""The recipes of CONTRIBUTING.md run as they stand there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from bckd.commands.main import run as run_command
from bckd.image_size import ImageSize
from bckd.models.detector import Detector
from bckd.training.run_log import read_log
from bckd.zoo.checkpoints import save_detector
from bckd.zoo.unfinished import STUDENT

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
# Files by their name, which is each one's first line.
FILES = {name: text for text, name in re.findall(r"```python\n(# (\S+\.py)\n.*?)```", TEXT, re.S)}
TINY = """
    --model.width 4 --model.channels 8 --model.head-groups 2 --model.head-convs 1
    --data.size.short-side 64 --data.size.long-side 64 --steps 2 --batch-size 4 --device cpu
""".split()


@pytest.fixture
def folder(
    tmp_path: Path,
    scenes_root: Path,
    tiny_detector: Callable[..., Detector],
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """The working folder of a contributor: scenes, a teacher, and nothing else."""
    shutil.copytree(scenes_root, tmp_path / "data" / "scenes")
    teacher = tiny_detector(channels=16)
    path = tmp_path / "data" / "weights" / "scenes_teacher.safetensors"
    path.parent.mkdir()
    save_detector(path, teacher, ImageSize(64, 64), {})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(start: str) -> list[str]:
    """The words after `bckd` of the command in the text that has this in it."""
    (line,) = [line for line in re.findall(r"^    bckd (.+)$", TEXT, re.M) if start in line]
    return line.split()


def write(folder: Path, name: str) -> None:
    (folder / name).write_text(FILES[name], encoding="utf-8")


def logged(out: str) -> dict[str, float]:
    return next(x for x in read_log(Path(out)) if "unweighted" in x)["unweighted"]


def python(folder: Path, *arguments: str) -> None:
    """Run Python in a folder, whose own package goes before the one that is tested."""
    places = os.pathsep.join([str(folder), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": places, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_a_head_is_one_file_and_the_lines_that_name_it(folder: Path) -> None:
    shutil.copytree(ROOT / "bckd", folder / "bckd", ignore=shutil.ignore_patterns("__pycache__"))
    write(folder, "bckd/models/heads/plain.py")
    names = folder / "bckd" / "models" / "heads" / "__init__.py"
    imported, entry = re.findall(r"^    (from .*PlainHead|    \"plain\": PlainHead,)$", TEXT, re.M)
    text = names.read_text(encoding="utf-8")
    text = text.replace("\n\nHEADS:", f"\n{imported}\n\nHEADS:", 1)
    text = text.replace("] = {\n", "] = {\n" + entry + "\n", 1)
    names.write_text(text, encoding="utf-8")
    taught = ["--teacher", "data/weights/scenes_teacher.safetensors", "--teacher-check", "0"]
    train = [*command("--model.head plain"), *TINY, *taught]
    export = ["export", "runs/plain", "--program", "plain.pt2"]
    python(folder, "-c", f"from bckd.commands.main import run; run({train}); run({export})")
    assert set(logged("runs/plain")) == {"focal", "giou", "binary", "iou"}
    assert (folder / "plain.pt2").is_file()


def test_a_term_is_a_function_of_ones_own(folder: Path) -> None:
    write(folder, "my_losses.py")
    assert run_command([*command("my_losses:pearson"), "--teacher-check", "0", *TINY]) == 0
    assert 0 < logged("runs/pearson")["pearson"] < 2


def test_a_term_with_parameters(folder: Path) -> None:
    write(folder, "my_imitation.py")
    words = [
        word.replace("my_losses:pearson", "my_imitation:Imitation") for word in command("my_l")
    ]
    assert run_command([*words, "--teacher-check", "0", *TINY]) == 0
    assert logged("runs/pearson")["Imitation"] > 0
    assert not any("adapter" in name for name in load_file(Path("runs/pearson") / STUDENT))


def test_augmentations(folder: Path) -> None:
    write(folder, "my_data.py")
    assert run_command([*command("my_data.py:cutout"), *TINY]) == 0
    assert "giou" in logged("runs/augmented")


def test_a_detector_of_ones_own(folder: Path) -> None:
    text = FILES["my_detector.py"].replace(
        "out=Path", "teacher_check=0, out=Path"
    )  # it is untrained
    (folder / "my_detector.py").write_text(text, encoding="utf-8")
    python(folder, "my_detector.py", "2")
    assert set(logged("runs/points")) == {"focal", "log_iou", "centerness", "binary", "iou"}


def test_every_recipe_is_run() -> None:
    assert set(FILES) == {
        "bckd/models/heads/plain.py",
        "my_losses.py",
        "my_imitation.py",
        "my_data.py",
        "my_detector.py",
    }
