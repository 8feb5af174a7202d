from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from bckd.system.errors import InputError
from bckd.zoo.wrapped import read_official

Weights = dict[str, Tensor]
WEIGHTS: Weights = {
    "backbone.conv1.weight": torch.ones(2),
    "backbone.layer1.0.bn1.running_mean": torch.full((2,), 2.0),
    "neck.fpn_convs.0.conv.bias": torch.full((2,), 3.0),
    "bbox_head.gfl_cls.bias": torch.full((3,), 4.0),
}


def prefixed(prefix: str, factor: float = 1.0) -> Weights:
    return {prefix + name: value * factor for name, value in WEIGHTS.items()}


def check(path: Path) -> str:
    """See that a file gives just these weights; what was told of it."""
    found = read_official(path)
    assert found.state_dict.keys() == WEIGHTS.keys()
    for name, value in WEIGHTS.items():
        assert torch.equal(found.state_dict[name], value), name
    return "; ".join(found.notes)


def within(wrapper: str) -> Weights:
    """Wrapped at every level, as torch.compile and FSDP do."""
    return {
        wrapper + name.replace("backbone.", f"backbone.{wrapper}"): value
        for name, value in WEIGHTS.items()
    }


WRAPPED: dict[str, tuple[Callable[[], Any], str]] = {
    "bare": (lambda: WEIGHTS, ""),
    "in a state_dict": (lambda: {"state_dict": WEIGHTS, "epoch": 3}, ""),
    "DistributedDataParallel": (lambda: {"state_dict": prefixed("module.")}, "prefix 'module.'"),
    "twice": (lambda: prefixed("module.module."), "prefix 'module.module.'"),
    "Lightning": (
        lambda: {
            "state_dict": prefixed("model."),
            "hyper_parameters": {"lr": 0.1},
            "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(2)}}}],
        },
        "prefix 'model.'",
    ),
    "DeepSpeed": (
        lambda: {"module": prefixed("module."), "optimizer": prefixed("x.", 9.0)},
        "the weights in module are taken",
    ),
    "torch.compile": (lambda: within("_orig_mod."), ""),
    "FSDP": (lambda: {"model": within("_fsdp_wrapped_module.")}, "the weights in model are taken"),
    "compiled, then distributed": (
        lambda: {f"module._orig_mod.{name}": x for name, x in WEIGHTS.items()},
        "prefix 'module.'",
    ),
    "a framework for distillation": (
        lambda: {"state_dict": prefixed("architecture.") | prefixed("teacher.", 9.0)},
        "4 entries of another detector are left out: teacher.backbone",
    ),
    "student and teacher": (
        lambda: {"student": WEIGHTS, "teacher": prefixed("", 9.0)},
        "the weights in student are taken, not those in teacher",
    ),
    "averaged beside": (
        lambda: {"state_dict": WEIGHTS, "state_dict_ema": prefixed("module.", 9.0)},
        "in state_dict are taken, not those in state_dict_ema.module",
    ),
    "MMEngine's average": (
        lambda: {
            "state_dict": WEIGHTS,
            "ema_state_dict": {**prefixed("module.", 9.0), "steps": torch.tensor(7)},
            "message_hub": {},
        },
        "in state_dict (where MMEngine saves the averaged ones) are taken, not those in ema_",
    ),
    "an average in the module": (
        lambda: {"state_dict": WEIGHTS | prefixed("model_ema.module.", 9.0)},
        "4 entries of another detector are left out: model_ema.module.",
    ),
    "an average with underscores": (
        lambda: WEIGHTS | {"ema_" + name.replace(".", "_"): x * 9 for name, x in WEIGHTS.items()},
        "4 entries of another detector are left out: ema_backbone_conv1_weight",
    ),
    "nested averages": (
        lambda: {"model": WEIGHTS, "ema": {"module": prefixed("", 9.0), "updates": 3}},
        "the weights in model are taken, not those in ema.module",
    ),
    "an average alone": (
        lambda: {"ema_state_dict": {**prefixed("module."), "n_averaged": torch.tensor(7)}},
        "the weights in ema_state_dict are taken",
    ),
    "an optimiser by names": (
        lambda: {"state_dict": WEIGHTS, "optimizer": {"state": {"exp_avg": prefixed("", 9.0)}}},
        "",
    ),
    "normalisation beside": (
        lambda: {"state_dict": {**WEIGHTS, "data_preprocessor.mean": torch.ones(3, 1, 1)}},
        "",
    ),
}


@pytest.mark.parametrize("kind", WRAPPED)
@pytest.mark.parametrize("name", ["file.pth", "file.bin", "file.ckpt"])
def test_one_detector_is_found_and_the_choice_is_told(tmp_path: Path, kind: str, name: str) -> None:
    make, told = WRAPPED[kind]
    torch.save(make(), tmp_path / name)
    notes = check(tmp_path / name)
    assert told in notes
    assert told or not notes


@pytest.mark.parametrize("prefix", ["", "module.", "model."])
def test_safetensors_of_others(tmp_path: Path, prefix: str) -> None:
    save_file(prefixed(prefix), tmp_path / "a.safetensors", {"format": "pt", "classes": '["a"]'})
    check(tmp_path / "a.safetensors")
    assert read_official(tmp_path / "a.safetensors").class_names == ("a",)


@pytest.mark.parametrize(
    "content",
    [
        lambda: {"state_dict": prefixed("one.") | prefixed("two.")},
        lambda: {"first": WEIGHTS, "second": WEIGHTS},
    ],
)
def test_nothing_tells_which_is_meant(tmp_path: Path, content: Callable[[], Any]) -> None:
    torch.save(content(), tmp_path / "two.pth")
    with pytest.raises(InputError, match=r"two\.pth holds the weights of 2 detectors \(.*one"):
        read_official(tmp_path / "two.pth")


def test_a_stray_entry_is_not_passed_over(tmp_path: Path) -> None:
    """It stays, for whoever loads the weights to refuse."""
    torch.save(WEIGHTS | {"roi_head.bias": torch.ones(1)}, tmp_path / "more.pth")
    assert "roi_head.bias" in read_official(tmp_path / "more.pth").state_dict


@pytest.mark.parametrize(
    "content",
    [
        {"meta": {"CLASSES": ("b", "a")}},
        {"meta": {"dataset_meta": {"classes": ["b", "a"]}}},
        {"dataset_meta": {"classes": ["b", "a"]}},
        {"dataset_meta": {"CLASSES": ("b", "a")}},
        {"hyper_parameters": {"class_names": ["b", "a"]}},
        {"hyper_parameters": {"classes": 2, "names": {0: "b", 1: "a"}}},
        {"names": {"1": "a", "0": "b"}},
    ],
)
def test_class_names_wherever_they_are(tmp_path: Path, content: dict[str, Any]) -> None:
    torch.save({"state_dict": WEIGHTS, **content}, tmp_path / "named.pth")
    assert read_official(tmp_path / "named.pth").class_names == ("b", "a")


# An engine's log, whose package is not here when it is read.
History = type("HistoryBuffer", (), {"__module__": "absent_engine"})


def history() -> object:
    log = History()
    log.values = np.arange(3.0)  # type: ignore[attr-defined]
    return log


class TestObjectsBeside:
    @pytest.fixture(autouse=True)
    def absent_package(self, monkeypatch: pytest.MonkeyPatch) -> None:
        module = types.ModuleType("absent_engine")
        module.HistoryBuffer = History  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "absent_engine", module)

    def test_weights_are_read_around_them(self, tmp_path: Path) -> None:
        """As every training of mmdetection 3 writes them: its log, numbers of numpy."""
        content = {
            "meta": {"seed": np.int64(7), "dataset_meta": {"classes": ("a", "b", "c")}},
            "state_dict": WEIGHTS,
            "message_hub": {"log_scalars": {"train/loss": history()}},
            "optimizer": {"state": {}, "param_groups": [{"lr": np.float64(1e-4)}]},
        }
        torch.save(content, tmp_path / "epoch_12.pth")
        notes = check(tmp_path / "epoch_12.pth")
        assert "objects beside its weights are passed over (absent_engine.HistoryBuffer" in notes
        assert read_official(tmp_path / "epoch_12.pth").class_names == ("a", "b", "c")

    def test_in_place_of_weights_they_are_refused(self, tmp_path: Path) -> None:
        torch.save({"state_dict": {"backbone.x": history()}}, tmp_path / "odd.pth")
        with pytest.raises(InputError, match=r"an object \(absent_engine.HistoryBuffer\) that may"):
            read_official(tmp_path / "odd.pth")

    def test_no_code_is_run(self, tmp_path: Path) -> None:
        trace = tmp_path / "trace"
        torch.save({"state_dict": WEIGHTS, "more": _Touch(trace)}, tmp_path / "evil.pth")
        check(tmp_path / "evil.pth")
        assert not trace.exists()


class _Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return open, (self.path, "w")
