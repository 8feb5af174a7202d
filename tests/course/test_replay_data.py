"""The committed frames of three trainings: written and read, and what they hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bckd.course.replay_data import Replay, read_replay, save_replay
from bckd.course.replay_training import METHODS, SCENE, STEPS, detectors_along, recipe_of
from bckd.geometry import grid
from bckd.models.detector import Detector
from bckd.structures import DenseOutput, Detections
from bckd.system.errors import InputError
from bckd.weights.tensor_files import save_tensors
from bckd.zoo.checkpoints import save_detector

COMMITTED = Path(__file__).resolve().parents[2] / "data/weights/students/replay.safetensors"


def detections(*counts: int) -> list[Detections]:
    generator = torch.Generator().manual_seed(sum(counts))
    return [
        Detections(
            torch.rand(count, 4, generator=generator),
            torch.rand(count, generator=generator),
            torch.arange(count),
        )
        for count in counts
    ]


def test_what_is_written_is_read(tmp_path: Path, dense_output: Callable[..., DenseOutput]) -> None:
    outputs = {"labels": [dense_output(n, num_images=1) for n in range(2)]}
    found = {"labels": [detections(0, 3, 1), detections(2, 0, 0)]}
    replay = Replay(1, (0, 10), outputs, found, {"labels": [0.01234, 0.5]})
    save_replay(tmp_path / "replay", replay)
    locations = outputs["labels"][0].locations
    back = read_replay(tmp_path / "replay", locations)
    assert (back.scene, back.steps, back.precision) == (1, (0, 10), {"labels": [0.0123, 0.5]})
    for ours, theirs in zip(back.outputs["labels"], outputs["labels"], strict=True):
        assert torch.allclose(ours.cls_logits, theirs.cls_logits, atol=2e-3)
        assert torch.allclose(ours.boxes, theirs.boxes, rtol=1e-3)
    for frame, expected in zip(back.detections["labels"], found["labels"], strict=True):
        for one, other in zip(frame, expected, strict=True):
            assert torch.allclose(one.boxes, other.boxes, atol=1e-3)
            assert torch.allclose(one.scores, other.scores, atol=1e-3)
            assert torch.equal(one.labels, other.labels)


def test_refusals(tmp_path: Path, dense_output: Callable[..., DenseOutput]) -> None:
    locations = dense_output().locations
    with pytest.raises(InputError, match="does not exist"):
        read_replay(tmp_path / "absent", locations)
    save_tensors(tmp_path / "other", {"x": torch.zeros(1)}, {})
    with pytest.raises(InputError, match="other is no replay"):
        read_replay(tmp_path / "other", locations)
    with pytest.raises(InputError, match="of 336 locations; these are 26"):
        read_replay(COMMITTED, locations)


def test_the_committed_file() -> None:
    assert COMMITTED.stat().st_size < 800_000
    replay = read_replay(COMMITTED, grid(((16, 16), (8, 8), (4, 4)), (8, 16, 32)))
    assert replay.scene == SCENE
    assert replay.steps == (*STEPS, 1200)
    assert sum(step <= 200 for step in replay.steps) > len(replay.steps) / 2, (
        "dense where it starts"
    )
    for name in METHODS:
        assert len(replay.outputs[name]) == len(replay.detections[name]) == len(replay.steps)
        assert {len(frame) for frame in replay.detections[name]} == {40}
        assert replay.precision[name][0] < 0.01 < 0.3 < replay.precision[name][-1]


def test_the_students_along_a_run(
    tmp_path: Path, tiny_detector: Callable[..., Detector], scenes_root: Path
) -> None:
    """The order of the files of a run, the untrained student first."""
    recipe = recipe_of("softmax", tmp_path)
    assert (recipe.weights.softmax, recipe.weights.binary, recipe.weights.iou) == (0.75, 0, 0)
    assert recipe_of("labels", tmp_path).teacher is None
    for seed, step in enumerate(STEPS[1:]):
        path = tmp_path / "snapshots" / f"{step:06d}.safetensors"
        save_detector(path, tiny_detector(seed=seed), recipe.data.size, {})
    save_detector(tmp_path / "student.safetensors", tiny_detector(seed=99), recipe.data.size, {})
    names = tuple("abcdef")
    found = detectors_along(recipe, names)
    assert len(found) == len(STEPS) + 1
    assert found[0].class_names == names and not found[0].training
    for detector, seed in ((found[1], 0), (found[-1], 99)):
        expected = tiny_detector(seed=seed).state_dict()
        assert all(torch.equal(x, expected[key]) for key, x in detector.state_dict().items())
