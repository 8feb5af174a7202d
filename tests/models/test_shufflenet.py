"""ShuffleNetV2: torchvision's network, its activations, and a published detector's weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

from bckd.models.backbones import build_backbone
from bckd.models.backbones.shufflenet import LEAKY_SLOPE, ShuffleNetV2
from bckd.models.detector import Detector, DetectorConfig
from bckd.normalisation import IMAGENET, NANODET
from bckd.system.errors import InputError
from bckd.weights import published
from bckd.zoo.nanodet import NanoDet


def norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    return [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]


def images(*shape: int) -> Tensor:
    return torch.randn(shape[0], 3, *shape[1:], generator=torch.Generator().manual_seed(0))


def test_gradients_reach_every_parameter_of_a_shufflenet() -> None:
    backbone = build_backbone("shufflenet_v2_x1_0").train()
    sum(x.square().mean() for x in backbone(images(2, 64, 64))).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in backbone.parameters())


@pytest.mark.parametrize("frozen_stages", [0, 1, 2, 3])
def test_frozen_stages_of_a_shufflenet(frozen_stages: int) -> None:
    backbone = build_backbone("shufflenet_v2_x1_0", frozen_stages=frozen_stages).train()
    stages = [backbone.conv1, backbone.stage2, backbone.stage3, backbone.stage4]
    for index, stage in enumerate(stages):
        frozen = frozen_stages > 0 and index <= frozen_stages
        assert all(p.requires_grad != frozen for p in stage.parameters()), index
        assert all(norm.training != frozen for norm in norms(stage)), index


def test_shufflenet_is_torchvisions_up_to_its_last_stage() -> None:
    torch.manual_seed(0)
    theirs, batch = torchvision.models.shufflenet_v2_x1_0().eval(), images(2, 64, 96)
    torch.manual_seed(0)
    ours, x = build_backbone("shufflenet_v2_x1_0").eval(), batch
    with torch.no_grad():
        for stage in (theirs.conv1, theirs.maxpool, theirs.stage2, theirs.stage3, theirs.stage4):
            x = stage(x)
        assert torch.equal(ours(batch)[2], x)


def test_the_leaky_shufflenet_has_no_other_activation() -> None:
    leaky, plain = (build_backbone("shufflenet_v2_x1_0", leaky=flag) for flag in (True, False))
    slopes = [m.negative_slope for m in leaky.modules() if isinstance(m, nn.LeakyReLU)]
    assert len(slopes) == sum(isinstance(m, nn.ReLU) for m in plain.modules()) > 0
    assert {*slopes} == {LEAKY_SLOPE}
    assert not any(isinstance(m, nn.ReLU) for m in leaky.modules())
    assert not any(isinstance(m, nn.LeakyReLU) for m in plain.modules())


def test_a_published_detector_lends_its_backbone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(published, "_fault", lambda *_: None)  # ours has another hash
    path = tmp_path / "hub" / "checkpoints" / published.PRETRAINED["nanodet_m"].file_name
    path.parent.mkdir(parents=True)
    torch.manual_seed(3)
    detector = NanoDet().eval()
    for norm in norms(detector):
        norm.running_mean.uniform_(-1, 1)
        norm.running_var.uniform_(0.5, 2)
    torch.save({"state_dict": detector.state_dict()}, path)
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        theirs = detector.backbone(NANODET.apply(pixels))
    for normalisation in (NANODET, IMAGENET):
        bgr = normalisation.bgr
        own = build_backbone("shufflenet_v2_x1_0", "nanodet_m", leaky=True, bgr=bgr).eval()
        assert isinstance(own, ShuffleNetV2)
        with torch.no_grad():
            ours = own(normalisation.apply(pixels))
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
        config = DetectorConfig(
            backbone="shufflenet_v2_x1_0",
            weights="nanodet_m",
            leaky=True,
            channels=32,
            normalisation=normalisation,
        )
        student = Detector(config, ("a",)).backbone
        assert isinstance(student, ShuffleNetV2)
        assert torch.equal(student.conv1[0].weight, own.conv1[0].weight)
    with pytest.raises(InputError, match="leaky is False: expected True beside the weights of"):
        build_backbone("shufflenet_v2_x1_0", "nanodet_m")
    state = {name: x for name, x in detector.state_dict().items() if "stage4" not in name}
    torch.save({"state_dict": state}, path)
    with pytest.raises(InputError, match="nanodet_m do not fit its backbone: missing"):
        build_backbone("shufflenet_v2_x1_0", "nanodet_m", leaky=True)
