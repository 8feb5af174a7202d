"""Real data and real weights, where the environment variable BCKD_SHARED names their folder."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from bckd.commands.main import run
from bckd.datasets.annotations import Annotations, read_annotations
from bckd.datasets.coco import CocoDataset
from bckd.evaluation.average_precision import evaluate, score
from bckd.models.backbones import build_backbone
from bckd.training.run_log import read_log
from bckd.zoo.checkpoints import load_detector
from tests.processes import start_processes

SHARED = os.environ.get("BCKD_SHARED")
pytestmark = pytest.mark.skipif(
    not SHARED, reason="BCKD_SHARED is not set: the folder that holds real/"
)
REAL = Path(SHARED or "") / "real"


@pytest.mark.parametrize(
    ("file", "images", "boxes", "classes"),
    [
        ("coco128/annotations/instances_val2017.json", 128, 903, 80),
        ("neu_det/annotations/instances_val.json", 360, 854, 6),
    ],
)
def test_ground_truth_fed_back_is_perfect(
    file: str,
    images: int,
    boxes: int,
    classes: int,
    perfect_results: Callable[[Annotations], list[dict[str, Any]]],
) -> None:
    found = read_annotations(REAL / file)
    assert len(found.images) == images
    assert len(found.content["annotations"]) == boxes
    assert len(found.class_names) == classes
    assert score(perfect_results(found), found).AP == pytest.approx(1.0, abs=1e-9)


def training(out: Path) -> list[str]:
    """The command line of two steps on coco128, of two images for each of two processes."""
    options = f"""
        train coco-r18 --model.no-pretrained --model.frozen-stages 0
        --data.root {REAL / "coco128"} --data.workers 0
        --data.size.short-side 128 --data.size.long-side 160 --data.first-val 6
        --batch-size 4 --steps 2 --log-every 1 --device cpu --precision float32
        --out {out}
    """
    return options.split()


def _process(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    run(training(folder / "two"))
    dist.destroy_process_group()


def test_a_coco_preset_trains_and_evaluates(tmp_path: Path) -> None:
    """In one process, and in two that come to the same, each on the images of one group."""
    out = tmp_path / "run"
    run(training(out))
    start_processes(_process, (tmp_path,), 2)
    logs = [[x for x in read_log(of) if "loss" in x] for of in (out, tmp_path / "two")]
    assert [x["unweighted"] for x in logs[1]] == [
        pytest.approx(x["unweighted"], rel=1e-4) for x in logs[0]
    ]
    assert len(logs[0]) == 2
    results = json.loads((out / "results.json").read_text())
    shared_results = json.loads((tmp_path / "two" / "results.json").read_text())
    assert shared_results["AP"] == pytest.approx(results["AP"], abs=2e-3)
    assert 0 <= results["AP"] < 0.05
    assert len(results["per_class"]) == 80
    run(["eval", str(out), "--detections", str(tmp_path / "detections.json")])
    found = json.loads((tmp_path / "detections.json").read_text())
    annotations = read_annotations(REAL / "coco128/annotations/instances_val2017.json").first(6)
    assert {row["image_id"] for row in found} <= {image.id for image in annotations.images}
    assert {row["category_id"] for row in found} <= set(annotations.category_ids)


def test_nanodet_has_the_AP_of_its_weights() -> None:
    """Of its own pipeline: 0.290, measured apart from this package."""
    loaded = load_detector(REAL / "weights/nanodet_m.pth")
    assert loaded.record["report"].startswith("414 entries loaded; unused: head.gfl_reg.0.weight")
    detector = loaded.detector
    annotations = read_annotations(REAL / "coco128/annotations/instances_val2017.json")
    assert annotations.class_names == detector.class_names
    images = REAL / "coco128/val2017"
    dataset = CocoDataset(images, annotations, loaded.size, normalisation=detector.normalisation)
    metrics, _ = evaluate(detector, dataset, progress=False)
    assert metrics.AP == pytest.approx(0.290, abs=0.005)


def test_pretrained_mobilenet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(REAL / "torch_home"))
    (file,) = (REAL / "torch_home" / "hub" / "checkpoints").glob("mobilenet_v2*.pth")
    weights = torch.load(file, weights_only=True)
    backbone = build_backbone("mobilenet_v2", weights="IMAGENET1K_V1")
    own = backbone.state_dict()
    assert own
    for name, value in own.items():
        assert torch.equal(value, weights[name]), name
