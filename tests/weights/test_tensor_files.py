"""Files of tensors: what they are said to be where they are none, and that no code in them runs."""

from __future__ import annotations

import os
import pickle
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import get_model_weights

from bckd.models.backbones import build_backbone
from bckd.system.errors import InputError
from bckd.weights.published import PRETRAINED
from bckd.weights.tensor_files import fill, read_saved, read_tensors
from bckd.zoo.checkpoints import load_detector
from bckd.zoo.torchvision_detectors import TorchvisionDetector

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3724288\n"
PAGE = b"\n<!DOCTYPE html>\n<html><body>sign in</body></html>"


class Evil:
    """Makes a folder when it is unpickled, in one way or another."""

    def __init__(self, folder: Path, how: Callable[..., Any]) -> None:
        self.folder, self.how = folder, how

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        if self.how is os.system:
            return os.system, (f"mkdir {self.folder}",)
        if self.how is eval:
            return eval, (f"__import__('os').mkdir({str(self.folder)!r})",)
        return self.how, (self.folder,)


WAYS = {"system": os.system, "mkdir": os.mkdir, "eval": eval, "Path": Path.mkdir}


def save_plain(content: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


def save_old(content: Any, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


SAVES = {"zip": torch.save, "old": save_old, "pickle": save_plain}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch.hub's folder of downloads."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


class TestCode:
    @pytest.mark.parametrize("save", SAVES.values(), ids=SAVES)
    @pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
    def test_a_file_runs_none(self, tmp_path: Path, save: Callable, way: Callable) -> None:
        trace = tmp_path / "trace"
        save({"state_dict": {"a": Evil(trace, way)}}, tmp_path / "evil.pth")
        with warnings.catch_warnings(), pytest.raises(InputError, match="loads safely: ") as caught:
            warnings.simplefilter("error")
            load_detector(tmp_path / "evil.pth")
        assert not trace.exists()
        sentence = str(caught.value)
        assert "weights_only" not in sentence and "\x1b" not in sentence and "\n" not in sentence

    @pytest.mark.parametrize("checked", [True, False], ids=["by hash", "hash forged"])
    @pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "swin_t", *PRETRAINED], ids=str)
    def test_torchs_cache_runs_none(
        self,
        name: str,
        checked: bool,
        cache: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        trace = tmp_path / "trace"
        if name in PRETRAINED:
            file = PRETRAINED[name].file_name
        else:
            file = urlsplit(get_model_weights(name).IMAGENET1K_V1.url).path.rpartition("/")[2]
        torch.save({"state_dict": Evil(trace, os.system)}, cache / file)
        if not checked:  # eight digits can be met by trying
            monkeypatch.setattr("bckd.weights.published._fault", lambda *_: None)
        with pytest.raises(InputError) as caught:
            if name in PRETRAINED:
                load_detector(name)
            else:
                build_backbone(name, "IMAGENET1K_V1")
        assert not trace.exists()
        assert file in str(caught.value)

    def test_objects_are_named(self, tmp_path: Path) -> None:
        torch.save({"state_dict": {"a": Path("harmless")}}, tmp_path / "object.pth")
        with pytest.raises(InputError, match=r"holds an object \(pathlib\.\w+\) that may run"):
            read_saved(tmp_path / "object.pth")


class TestOtherFiles:
    @pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
    @pytest.mark.parametrize("content", [LFS, PAGE, b"", b"no weights"])
    def test_are_called_by_what_they_are(self, tmp_path: Path, name: str, content: bytes) -> None:
        path, what = tmp_path / name, {LFS: "Git LFS", PAGE: "web page", b"": "empty"}
        path.write_bytes(content)
        with pytest.raises(InputError, match=what.get(content, "it is text, 10 bytes")) as caught:
            load_detector(path)
        assert str(path) in str(caught.value)

    @pytest.mark.parametrize("length", [8, 12, 100, -1])
    def test_cut_files(self, tmp_path: Path, length: int) -> None:
        tensors = {"a": torch.ones(1000), "b": torch.ones(2)}
        save_file(tensors, tmp_path / "a.safetensors")
        torch.save(tensors, tmp_path / "a.pth")
        for path in tmp_path.iterdir():
            path.write_bytes(path.read_bytes()[:length])
        with pytest.raises(InputError, match="cut short"):
            read_tensors(tmp_path / "a.safetensors")
        with pytest.raises(InputError, match="cut short"):
            read_saved(tmp_path / "a.pth")

    def test_in_torchs_cache(self, cache: Path) -> None:
        file = PRETRAINED["fcos_resnet50_fpn"].file_name
        (cache / file).write_bytes(LFS)
        with pytest.raises(InputError, match="as published .it is a Git LFS pointer"):
            TorchvisionDetector("fcos_resnet50_fpn", "COCO_V1")


class TestFill:
    def test_any_precision_fits(self) -> None:
        own = {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}
        for dtype in (torch.float16, torch.bfloat16, torch.float64):
            layer = nn.Linear(3, 2)
            fill(layer, {name: value.to(dtype) for name, value in own.items()}, "no", "fit")
            assert torch.equal(layer.weight, own["weight"]) and layer.weight.dtype == torch.float32

    @pytest.mark.parametrize(
        ("changes", "fault"),
        [
            (
                {"weight": torch.ones(2, 3, dtype=torch.int8)},
                r"of another type .1.: weight is int8",
            ),
            ({"weight": torch.ones(2, 3).to_sparse()}, r"of another type .1.: weight is "),
            ({"weight": torch.ones(2, 3, dtype=torch.complex64)}, "weight is complex64"),
            ({"weight": torch.ones(2, 3, device="meta")}, "of another type"),
            ({"weight": "text"}, "weight is None, expected .2, 3."),
            (
                {"weight": torch.ones(1).expand(10**6, 10**6)},
                "weight is .1000000, 1000000., expect",
            ),
            ({"weight": torch.full((2, 3), torch.nan)}, r"not finite numbers .1.: weight$"),
            ({"bias": torch.tensor([0.0, 1e300], dtype=torch.float64)}, r"not finite .*: bias$"),
            ({str(n): torch.ones(1) for n in range(5)}, r"unexpected .5.: 0, 1, 2 and 2 more$"),
        ],
    )
    def test_other_weights_change_nothing(self, changes: dict[str, Any], fault: str) -> None:
        layer = nn.Linear(3, 2)
        before = OrderedDict((name, value.clone()) for name, value in layer.state_dict().items())
        with pytest.raises(InputError, match=f"^this.*: .*{fault}"):
            fill(layer, layer.state_dict() | changes, "this", "is no good")
        assert all(torch.equal(before[name], value) for name, value in layer.state_dict().items())
