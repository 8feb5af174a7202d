"""`import bckd`: what it offers, what it costs, and predictions as evaluations make them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import ExifTags, Image
from torch import Tensor

import bckd
from bckd.commands.main import main, run
from bckd.image_size import ImageSize
from bckd.models.detector import Detector
from bckd.prediction import LoadedDetector
from bckd.recipes import Recipe
from bckd.system.errors import InputError
from bckd.system.files import write_json
from bckd.system.values import to_plain
from bckd.zoo.checkpoints import save_detector
from bckd.zoo.nanodet import SIZE as CENTRED

ROOT = Path(__file__).parents[1]

# What the README shows, with a run of minutes.
TEN_LINES = """\
from dataclasses import replace
import bckd
from bckd.datasets.scenes import write_scenes

write_scenes("data/scenes")  # 2,400 small pictures in COCO format
recipe = replace(bckd.PRESETS["scenes"].recipe, steps=600, out="runs/first")
print(bckd.train(recipe))
prediction = bckd.load("runs/first").predict("data/scenes/val/000001.png", threshold=0.3)
print(prediction)
prediction.draw().save("runs/first/prediction.png")
"""


def python(code: str, folder: Path) -> str:
    """What a process of its own prints."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def folder(default_scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the scenes where the presets expect them."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "scenes").symlink_to(default_scenes, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_ten_lines(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = TEN_LINES.replace("steps=600", "steps=2, batch_size=4")
    exec(few.replace("threshold=0.3", "threshold=0"), {})
    said = capsys.readouterr().out.splitlines()
    assert said[-2].startswith("RunResult(AP ") and said[-2].endswith("in runs/first)")
    assert said[-1].startswith("Prediction(")
    with Image.open("runs/first/prediction.png") as drawn:
        assert max(drawn.size) >= 640
    assert 0 <= bckd.evaluate("runs/first", progress=False).AP <= 1


def test_nothing_is_loaded_before_it_is_asked_for(tmp_path: Path) -> None:
    code = "import sys, bckd; bckd.__version__; print('torch' in sys.modules, dir(bckd))"
    said = python(code, tmp_path)
    assert said.startswith("False")
    assert all(repr(name) in said for name in bckd.__all__)
    assert all(getattr(bckd, name) is not None for name in bckd.__all__)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = bckd.trian


def test_help_and_refusals_load_none_of_what_runs(tmp_path: Path) -> None:
    write_json(tmp_path / "recipe.json", to_plain(bckd.PRESETS["scenes"].recipe))
    lines = [
        "train scenes --help",
        "train scenes --stepz 1",
        "eval --help",
        "predict --help",
        f"predict {tmp_path} x --treshold 1",
        f"eval {tmp_path} --dataa x",
        f"export {tmp_path} --help",
        f"export {tmp_path} --onx x",
        "detectors",
        "demo --help",
        "demo --stepz 1",
        "scenes --help",
        "protocols --help",
        "protocols --imagez 1",
        "study",
        "study base --help",
        "study base --seedz 1",
    ]
    heavy = ["torchvision", "scipy", "matplotlib", "tensorboard", "pycocotools", "torch._dynamo"]
    code = f"""
        import sys
        from bckd.commands.main import run
        from bckd.system.errors import InputError
        loaded = {{}}
        for line in {lines}:
            try:
                run(line.split())
            except SystemExit as stop:
                assert not stop.code
            except InputError as error:
                assert "is unknown" in str(error) or "nrecognized" in str(error), error
            loaded[line] = [name for name in {heavy} if name in sys.modules]
        print("loaded:", {{line: names for line, names in loaded.items() if names}})
    """
    assert python(code, tmp_path).endswith("loaded: {}\n")


def test_what_needs_no_network_loads_no_torch(tmp_path: Path) -> None:
    lines = ["--help", "scenes --help", "predict --help", "detectors"]
    code = f"""
        import sys
        from bckd.commands.main import run
        for line in {[*lines, "scenes --seeed 1"]}:
            try:
                run(line.split())
            except (SystemExit, ValueError):
                pass
            print(line, "torch" in sys.modules)
    """
    said = python(code, tmp_path).splitlines()
    assert [line for line in said if line.endswith(" True")] == []
    assert "detectors False" in said


def test_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["bckd", "--version"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code and capsys.readouterr().out == f"bckd {bckd.__version__}\n"


def core_distributions() -> set[str]:
    """What the core's requirements bring, as far as it is installed here."""
    found: set[str] = set()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    waiting = [Requirement(line) for line in project["dependencies"]]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in found:
            continue
        try:
            lines = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # of another system
            continue
        found.add(name)
        extras = requirement.extras or {""}
        for needed in map(Requirement, lines):
            marker = needed.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(needed)
    return found


def test_the_core_alone_trains_evaluates_and_predicts(folder: Path) -> None:
    """Every module of a package that the core does not bring is refused."""
    core = core_distributions()
    owners = metadata.packages_distributions()
    refused = [
        module
        for module, names in owners.items()
        if not {canonicalize_name(name) for name in names} & (core | {"bckd"})
    ]
    assert {"pytest", "anywidget", "onnx"} <= set(refused)
    said = python(
        f"""
        import sys
        sys.modules.update(dict.fromkeys({refused}))  # None: there is no such module
        from contextlib import redirect_stderr
        from dataclasses import replace
        import bckd
        recipe = replace(bckd.PRESETS["scenes"].recipe, steps=2, batch_size=2, out="runs/core")
        bckd.train(recipe, progress=False)
        bckd.load("runs/core").predict("data/scenes/val/000001.png", threshold=0).draw()
        print(bckd.evaluate("runs/core", progress=False).AP >= 0)
        from bckd.commands.main import run
        for command in ("demo", "study", "protocols", "export", "scenes", "detectors"):
            try:
                run([command, "--help"])
            except SystemExit as stop:
                assert not stop.code
        for wanted in ("onnx", "anywidget", "timm"):
            try:
                if wanted == "onnx":
                    with redirect_stderr(sys.stdout):
                        run(["export", "runs/core", "--onnx", "core.onnx"])
                elif wanted == "timm":
                    model = replace(recipe.model, backbone="timm:resnet18")
                    bckd.train(replace(recipe, model=model, out="runs/timm"))
                else:
                    import bckd.viz.explorers.base
            except bckd.system.errors.InputError as error:
                print(error)
            except SystemExit as stop:
                assert stop.code == 1
        """,
        folder,
    )
    assert [line for line in said.splitlines() if " needs the package " in line] == [
        "bckd: error: core.onnx is not written: writing ONNX needs the package onnx: "
        "pip install 'bckd[export]'",
        "an explorer needs the package anywidget: pip install 'bckd[notebooks]'",
        "backbone timm:resnet18 needs the package timm: pip install 'bckd[timm]'",
    ]
    assert "True" in said.splitlines()


class TestPredict:
    @pytest.fixture
    def loaded(self, tiny_teacher: Path) -> LoadedDetector:
        return bckd.load(str(tiny_teacher), device="cpu")

    @pytest.mark.parametrize("size", [ImageSize(48, 64), replace(CENTRED, short_side=64)])
    def test_is_what_an_evaluation_finds(
        self,
        tiny_detector: Callable[..., Detector],
        size: ImageSize,
        custom_root: Path,
        tmp_path: Path,
    ) -> None:
        """Files of several sizes, one turned by its EXIF tag, to the digits of the results."""
        turned = custom_root / "val" / "b.png"
        with Image.open(turned) as image:
            stored, exif = image.transpose(Image.Transpose.ROTATE_90), Image.Exif()
        exif[ExifTags.Base.Orientation] = 6  # to be shown turned back
        stored.save(turned, exif=exif)
        detector = tiny_detector(("nut", "washer", "screw"), seed=5)
        with torch.no_grad():
            detector.head.cls.weight *= 20.0  # so that something is found
        save_detector(tmp_path / "d.safetensors", detector, size, {})
        root = custom_root
        data = bckd.PRESETS["custom"].recipe.data
        arguments = ["eval", str(tmp_path / "d.safetensors"), "--data.root", str(root)]
        arguments += ["--data.workers", "0"]
        names = ("val-images", "val-annotations")
        for name in names:
            arguments += [f"--data.{name}", getattr(data, name.replace("-", "_"))]
        results = tmp_path / "results.json"
        run([*arguments, "--batch-size", "16", "--detections", str(results)])
        evaluated = json.loads(results.read_text())
        assert evaluated

        content = json.loads((root / data.val_annotations).read_text())
        ids = {row["name"]: row["id"] for row in content["categories"]}
        files = [str(root / data.val_images / row["file_name"]) for row in content["images"]]
        predictions = bckd.load(tmp_path / "d.safetensors").predict(files, threshold=0)
        found = [
            (image["id"], ids[name], box, score)
            for image, prediction in zip(content["images"], predictions, strict=True)
            for name, box, score in zip(
                prediction.names, xywh(prediction.boxes), prediction.scores.tolist(), strict=True
            )
        ]
        assert len(found) == len(evaluated)
        for (image_id, category, box, score), row in zip(found, evaluated, strict=True):
            assert (image_id, category) == (row["image_id"], row["category_id"])
            assert box == pytest.approx(row["bbox"], abs=1e-3)
            assert score == row["score"]

    def test_every_kind_of_image_gives_the_same(
        self, loaded: LoadedDetector, scenes_root: Path
    ) -> None:
        path = scenes_root / "val" / "000001.png"
        with Image.open(path) as file:
            file.load()
        array = np.array(file.convert("RGB"))
        tensor = torch.from_numpy(array).permute(2, 0, 1)
        images = [path, str(path), file, array, tensor]
        first, *others = [loaded.predict(image, threshold=0.2) for image in images]
        assert len(first) and first.boxes.shape == (len(first), 4)
        assert first.names == tuple(loaded.detector.class_names[k] for k in first.labels.tolist())
        for other in others:
            assert torch.equal(other.boxes, first.boxes)
            assert torch.equal(other.scores, first.scores)
            assert torch.equal(other.labels, first.labels)
        for together in loaded.predict(images, threshold=0.2):  # equal up to rounding
            torch.testing.assert_close(together.boxes, first.boxes)
            torch.testing.assert_close(together.scores, first.scores)
        assert loaded.predict([]) == []

    def test_threshold(self, loaded: LoadedDetector, scenes_root: Path) -> None:
        path = scenes_root / "val" / "000001.png"
        everything = loaded.predict(path, threshold=0)
        middle = everything.scores.median().item()
        assert len(loaded.predict(path, threshold=middle)) == (everything.scores >= middle).sum()
        none = loaded.predict(path, threshold=1)
        assert len(none) == 0 and repr(none) == "Prediction(nothing)"
        with pytest.raises(InputError, match="threshold is 30; expected a number from 0 to 1"):
            loaded.predict(path, threshold=30)

    def test_drawn_where_it_is(self, loaded: LoadedDetector) -> None:
        prediction = loaded.predict(np.full((40, 80, 3), 255, np.uint8))
        boxes = torch.tensor([[20.0, 10.0, 60.0, 30.0]])
        one = {"scores": torch.tensor([0.9]), "labels": torch.tensor([0]), "names": ("cat",)}
        drawn = np.array(replace(prediction, boxes=boxes, **one).draw())
        assert drawn.shape == (320, 640, 3)  # eight times as large
        rows, columns = np.nonzero((drawn != 255).any(axis=2))
        assert abs(columns.min() - 160) < 4 and abs(columns.max() - 480) < 4
        assert abs(rows.max() - 240) < 4

    @pytest.mark.parametrize(
        ("image", "said"),
        [
            ("https://example.org/cat.jpg", "image https://example.org/cat.jpg is an address"),
            ("absent.png", "image absent.png does not exist"),
            (np.zeros((4, 4, 3)), "number 1 is ndarray of float64 and shape (4, 4, 3); expected"),
            (torch.zeros(4, 4, 3, dtype=torch.uint8), "number 1 is Tensor of torch.uint8 and"),
            (np.zeros((0, 4, 3), np.uint8), "number 1 is ndarray of uint8 and shape (0, 4, 3)"),
            (Image.new("I;16", (4, 4)), "image number 1 has values of more than 8 bits"),
            (None, "image number 1 is NoneType; expected a path, a PIL image"),
        ],
    )
    def test_other_images_are_refused(self, loaded: LoadedDetector, image: Any, said: str) -> None:
        with pytest.raises(InputError) as error:
            loaded.predict(image)
        assert said in str(error.value)


class TestEvaluate:
    def test_of_a_run_and_of_weights(
        self, tiny_recipe: Recipe, tmp_path: Path, scenes_root: Path
    ) -> None:
        result = bckd.train(replace(tiny_recipe, out=str(tmp_path / "run")), progress=False)
        assert bckd.evaluate(str(tmp_path / "run"), progress=False) == result.metrics
        weights = tmp_path / "elsewhere.safetensors"
        (tmp_path / "run" / "student.safetensors").rename(weights)
        found = bckd.evaluate(weights, data=tiny_recipe.data, progress=False)
        assert found == result.metrics

    def test_on_another_folder(self, tiny_recipe: Recipe, tmp_path: Path) -> None:
        bckd.train(tiny_recipe, progress=False)
        with pytest.raises(InputError, match="elsewhere.*instances_val.json does not exist"):
            bckd.evaluate(tiny_recipe.out, data=str(tmp_path / "elsewhere"))


def test_short_reprs(
    tiny_teacher: Path, dense_output: Callable[..., Any], tiny_recipe: Recipe
) -> None:
    assert repr(dense_output()) == (
        "DenseOutput(cls_logits (2, 26, 3), boxes (2, 26, 4), box_logits (2, 26, 4, 6), "
        "strides 8, 16)"
    )
    assert len(repr(bckd.load(tiny_teacher))) < 250
    assert repr(bckd.load(tiny_teacher)).startswith("LoadedDetector(Detector of square, ")


def xywh(boxes: Tensor) -> Iterator[list[float]]:
    for left, top, right, bottom in boxes.tolist():
        yield [left, top, right - left, bottom - top]
