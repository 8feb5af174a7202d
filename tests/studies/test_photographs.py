"""The studies on photographs: what a regime declares, and several studies under one name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bckd.commands.main import run
from bckd.datasets.coco_classes import COCO_CLASSES
from bckd.datasets.formats.voc2007 import CLASSES
from bckd.image_size import ImageSize
from bckd.models.detector import Detector, DetectorConfig
from bckd.normalisation import NANODET
from bckd.studies import label_files, photograph_methods, photographs, runner
from bckd.studies.catalogue import GRIDS
from bckd.studies.methods import methods
from bckd.studies.options import StudyOptions
from bckd.studies.study import Cell, Study, recipe_of
from bckd.studies.validation_parts import judged_file
from bckd.system.errors import InputError
from bckd.training.run_log import read_lines
from bckd.zoo.checkpoints import save_detector
from bckd.zoo.nanodet import REG_MAX, STRIDES

RESULTS = Path(__file__).parents[2] / "notebooks" / "results"


@pytest.mark.parametrize("name", [name for name in photographs.MODELS_OF if name != "resnet18"])
def test_students_speak_of_the_teachers_locations(name: photographs.Student) -> None:
    model = photographs.MODELS_OF[name]
    assert (model.strides, model.reg_max) == (STRIDES, REG_MAX)
    size = sum(x.numel() for x in Detector(_scratch(model), COCO_CLASSES[:20]).parameters())
    assert size < 3_000_000


def _scratch(model: DetectorConfig) -> DetectorConfig:
    return replace(model, pretrained=False, frozen_stages=0)


def test_the_shared_backbone_is_the_teachers_and_does_not_learn() -> None:
    for name in ("shared", "shared-narrow"):
        model = photographs.MODELS_OF[name]
        assert (model.weights, model.normalisation) == (str(photographs.TEACHER), NANODET)
        detector = Detector(replace(model, pretrained=False), COCO_CLASSES[:20]).train()
        assert not any(x.requires_grad for x in detector.backbone.parameters())
        norms = [x for x in detector.backbone.modules() if isinstance(x, torch.nn.BatchNorm2d)]
        assert norms and not any(norm.training for norm in norms)


def test_students_compute_in_bf16_on_two_cores_and_in_what_is_fastest_on_a_gpu() -> None:
    def precisions(grid: str) -> set[str]:
        return {study.base.precision for study in GRIDS[grid]}

    assert precisions("photographs-all") == {"bf16"}
    assert precisions("photographs-gpu") == {"auto"}
    assert {model.precision for model in photographs.MODELS.values()} == {"bf16"}


def test_classes_are_the_data_sets() -> None:
    assert len(CLASSES) == photographs.CLASSES
    assert methods(photographs.CLASSES)["softmax"].weights == {"softmax": 2.5}


def test_a_tenth_has_labels_and_the_teacher_speaks_of_all() -> None:
    (study,) = (x for x in GRIDS["photographs-all"] if x.name == "photographs-shared-tenth")
    data = {
        method.name: recipe_of(study, Cell("comparison", method.name, 1.0, 0), Path("runs")).data
        for method in study.methods
    }
    own = data.pop("none")
    assert (own.train_annotations, own.first_train) == (label_files.ANNOTATIONS, 280)
    assert data.pop("pseudo-labels").train_annotations.endswith("/tenth-pseudo.json")
    assert {x.train_annotations for x in data.values()} == {"../voc2007-labels/tenth.json"}
    assert {x.first_train for x in data.values()} == {None}


def test_without_labels_nobody_learns_without_a_teacher() -> None:
    (study,) = (x for x in GRIDS["photographs-all"] if x.name == "photographs-shared-none")
    assert "none" not in [method.name for method in study.methods]
    for start in study.starts:
        recipe = photographs.MODELS[str(start)]
        assert recipe.data.train_annotations == label_files.PseudoLabels("none").annotations
        assert not recipe.teacher


@pytest.mark.parametrize("study", GRIDS["photographs-all"], ids=lambda study: study.name)
def test_sweep_and_comparison_share_neither_starts_nor_images(study: Study) -> None:
    """Of the study whose sweep serves: starts of both kinds for either, other photographs."""
    source = next(
        x for x in GRIDS["photographs-all"] if x.name == (study.scales_from or study.name)
    )
    compared = {study.start(seed) for seed in study.seeds}
    swept = {source.start(seed) for seed in (*source.sweep_seeds, *source.edge_seeds)}
    assert not compared & swept
    left_to_the_sweep = 0 if study.name.endswith("-confirm") else 2
    assert (len(compared), len(swept)) == (len(study.starts) - left_to_the_sweep, 2)
    steps = [photographs.MODELS[str(name)].steps for name in study.starts]
    assert steps[0] == steps[2] == 3 * steps[1] == 3 * steps[3]
    seeds = [photographs.MODELS[str(name)].seed for name in study.starts]
    assert len({*seeds}) == len(seeds)
    assert source.sweep_data and source.scales_below
    assert source.sweep_data.val_annotations == judged_file(label_files.DATA, "sweep")
    assert study.base.data.val_annotations == judged_file(label_files.DATA, "comparison")


def test_what_is_asked_again_is_asked_of_students_that_nothing_was_done_with() -> None:
    studies = {study.name: study for study in GRIDS["photographs-all"]}
    again = studies.pop("photographs-shared-confirm")
    assert [again.start(seed) for seed in again.seeds] == [*again.starts]  # a pair each
    known = {name for study in studies.values() for name in study.starts}
    assert not known & {*again.starts}
    learnt = {photographs.MODELS[str(name)].seed for name in known}
    assert not learnt & {photographs.MODELS[str(name)].seed for name in again.starts}


@pytest.mark.parametrize("name", GRIDS)
def test_every_study_of_a_grid_has_its_methods_and_its_own_place(name: str) -> None:
    grid = GRIDS[name]
    assert len({study.name for study in grid}) == len(grid)
    for study in grid:
        names = [*(method.name for method in study.methods), *study.shared]
        few = "-tenth" in study.name or "-none" in study.name
        bare = few or study.name.endswith("-confirm")
        on_two_cores = photograph_methods.BARE if bare else photograph_methods.PROTOCOLS
        every = photograph_methods.METHODS if name.endswith("gpu") else on_two_cores
        assert {*every} - {"none"} <= {*names}
        for method in study.methods:
            assert method.weights.get("softmax", photographs.CLASSES / 8) == photographs.CLASSES / 8
        assert few or not any(x.startswith("pseudo-labels") for x in names)
        for method in study.methods:
            made = recipe_of(study, Cell("comparison", method.name, 1.0, 0), Path("runs"))
            assert made.teacher == (photographs.TEACHER if method.distils else None)
            assert made.device == ("cuda" if name.endswith("gpu") else "cpu")


def test_label_files_keep_the_first_labels(
    custom_root: Path, tmp_path: Path, tiny_detector: Callable[..., Detector]
) -> None:
    """Marked images, the teacher's boxes on these alone; what is there is not made again."""
    data, folder = tmp_path / "data", tmp_path / "labels"
    shutil.copytree(custom_root, data)
    source = json.loads((data / label_files.ANNOTATIONS).read_text())
    names = tuple(x["name"] for x in sorted(source["categories"], key=lambda x: x["id"]))
    teacher = tiny_detector(names, seed=3)
    with torch.no_grad():
        teacher.head.cls.bias += 4.0
    save_detector(tmp_path / "teacher.safetensors", teacher, ImageSize(64, 64), {})
    kept = {"tenth": 1, "none": 0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(label_files, "LABELLED", kept)
        made = [label_files.PseudoLabels(x, score) for x in kept for score in (0.3, 0.9)]
        made.append(label_files.PseudoLabels("none", side=96))
        patch.setattr(label_files, "PSEUDO_LABELS", made)
        label_files.write_label_files(str(tmp_path / "teacher.safetensors"), data, folder)
        files = {path.stem: path.read_bytes() for path in folder.iterdir()}
        label_files.write_label_files("absent.safetensors", data, folder)
    assert files == {path.stem: path.read_bytes() for path in folder.iterdir()}
    found = {name: json.loads(text) for name, text in files.items()}
    first = min(image["id"] for image in source["images"])
    own = [box for box in source["annotations"] if box["image_id"] == first]
    assert own and found["tenth"]["annotations"] == own and not found["none"]["annotations"]
    for name, count in kept.items():
        marks = [image.get("labelled", True) for image in found[name]["images"]]
        assert marks.count(True) == count and len(marks) == len(source["images"])
        new = [box for box in found[f"{name}-pseudo"]["annotations"] if "score" in box]
        of_teacher = {box["image_id"] for box in new}
        assert new and min(box["score"] for box in new) >= label_files.THRESHOLD
        assert (first in of_teacher) == (count == 0)
        assert len(found[f"{name}-pseudo"]["annotations"]) == len(new) + (len(own) if count else 0)
    assert all("labelled" not in image for image in found["none-pseudo"]["images"])
    for name in kept:
        surer, of_all = (found[f"{name}-pseudo{x}"]["annotations"] for x in ("-0.9", ""))
        assert surer == [box for box in of_all if box.get("score", 1) >= 0.9] != of_all
    larger = found["none-pseudo-96px"]["annotations"]
    assert larger and larger != found["none-pseudo"]["annotations"]


def test_a_grid_is_one_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each study in turn, with the options given, and its tables under its name."""
    asked: list[tuple[str, str | None]] = []

    def run_study(study: Study, options: StudyOptions) -> list[dict[str, object]]:
        asked.append((study.name, options.device))
        return read_lines(RESULTS / "steps-300.jsonl")

    monkeypatch.setattr(runner, "run_study", run_study)
    run(["study", "photographs-gpu", "--device", "cuda:1"])
    names = [study.name for study in GRIDS["photographs-gpu"]]
    assert asked == [(name, "cuda:1") for name in names]
    printed = capsys.readouterr().out
    assert all(f"{name}: " in printed for name in names)
    with pytest.raises(InputError, match="--extra takes the lines of one study"):
        run(["study", "photographs-gpu", "--extra", "mine.jsonl"])
