"""NanoDet-m: its maps, its boxes and its published entries (weights: tests/test_real.py)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bckd.datasets.coco_classes import COCO_CLASSES
from bckd.normalisation import NANODET
from bckd.system.errors import InputError
from bckd.zoo.nanodet import SIZE, NanoDet, load_nanodet


def nanodet(seed: int = 0, names: tuple[str, ...] = COCO_CLASSES) -> NanoDet:
    torch.manual_seed(seed)
    return NanoDet(names).eval()


@pytest.fixture(scope="module")
def detector() -> NanoDet:
    return nanodet()


def published(source: NanoDet) -> dict[str, Tensor]:
    """A state dict as in the published file, with what nothing reads."""
    unused = {"head.distribution_project.project": torch.arange(8.0)}
    for level in range(3):
        unused[f"head.gfl_reg.{level}.weight"] = torch.ones(32, 96, 1, 1)
        unused[f"head.gfl_reg.{level}.bias"] = torch.ones(32)
    return {name: value.clone() for name, value in source.state_dict().items()} | unused


class TestDetector:
    def test_is_as_large_as_published(self, detector: NanoDet) -> None:
        assert sum(x.numel() for x in detector.parameters()) == pytest.approx(0.95e6, rel=0.01)
        assert not any(isinstance(module, nn.ReLU) for module in detector.modules())

    @torch.no_grad()
    def test_dense_output(self, detector: NanoDet) -> None:
        output = detector(torch.randn(2, 3, 64, 96))
        locations = 8 * 12 + 4 * 6 + 2 * 3
        assert output.cls_logits.shape == (2, locations, 80)
        assert output.boxes.shape == (2, locations, 4)
        assert output.box_logits.shape == (2, locations, 4, 8)
        shapes = [(2, 96, 8, 12), (2, 96, 4, 6), (2, 96, 2, 3)]
        assert [tuple(x.shape) for x in output.features] == shapes

    @torch.no_grad()
    def test_boxes_are_not_rounded_under_autocast(self, detector: NanoDet) -> None:
        with torch.autocast("cpu", torch.bfloat16):
            sides = detector(torch.randn(1, 3, 64, 96)).box_logits
        assert sides.dtype == torch.float32
        assert not torch.equal(sides, sides.bfloat16().float())

    @torch.no_grad()
    def test_centres_are_in_the_middle_of_the_cells(self, detector: NanoDet) -> None:
        found = detector(torch.randn(1, 3, 32, 64)).locations
        assert [level.stride for level in found.levels] == [8, 16, 32] == list(detector.strides)
        assert found.centres[:2].tolist() == [[4, 4], [12, 4]]
        assert found.centres[-2:].tolist() == [[16, 16], [48, 16]]
        assert found.anchors[-1].tolist() == [48 - 80, 16 - 80, 48 + 80, 16 + 80]

    @torch.no_grad()
    def test_batched_equals_single(self, detector: NanoDet) -> None:
        images = torch.randn(3, 3, 64, 64)
        together = detector(images)
        for n in range(3):
            alone = detector(images[n : n + 1])
            torch.testing.assert_close(alone.cls_logits[0], together.cls_logits[n])
            torch.testing.assert_close(alone.boxes[0], together.boxes[n])

    @torch.no_grad()
    def test_pyramid_adds_downwards_then_upwards(self) -> None:
        detector = nanodet()
        for value, layer in zip((1.0, 10.0, 100.0), detector.fpn.lateral_convs, strict=True):
            nn.init.zeros_(layer.conv.weight)
            nn.init.constant_(layer.conv.bias, value)
        maps = detector.fpn(detector.backbone(torch.randn(1, 3, 64, 64)))
        # Downwards 111, 110, 100; then upwards 111, 110 + 111, 100 + 221.
        for x, expected in zip(maps, (111.0, 221.0, 321.0), strict=True):
            torch.testing.assert_close(x, torch.full_like(x, expected))

    @torch.no_grad()
    def test_neighbouring_levels_meet_by_bilinear_interpolation(self) -> None:
        """Halving a map averages 2 x 2 cells; doubling it blends with weights 3/4 and 1/4."""
        detector = nanodet()
        for layer in detector.fpn.lateral_convs:
            nn.init.zeros_(layer.conv.weight)
            nn.init.zeros_(layer.conv.bias)
        detector.fpn.lateral_convs[1].conv.weight[0, 0] = 1.0
        stages = detector.backbone(torch.zeros(1, 3, 64, 64))
        stages[1] = torch.zeros_like(stages[1])
        stages[1][0, 0, 0, :2] = torch.tensor([16.0, 32.0])
        fine, middle, coarse = (x[0, 0] for x in detector.fpn(stages))
        assert fine[0, :5].tolist() == [16.0, 20.0, 28.0, 24.0, 8.0]
        assert fine[1, 0] == 12 and fine[2, 0] == 4
        assert middle[0, 0] == 16 + (16 + 20 + 12 + 15) / 4
        assert coarse[0, 0] == middle[:2, :2].mean()

    @torch.no_grad()
    def test_classes_stand_before_sides_in_the_predictor(self) -> None:
        detector = nanodet()
        for level, predict in enumerate(detector.head.gfl_cls):
            nn.init.zeros_(predict.weight)
            predict.bias.copy_(torch.arange(112.0) / 10 + level)
            predict.bias[80:] = -1e4
            for side, distance in enumerate((1, 2, 3, 7)):  # strides to left, top, right, bottom
                predict.bias[80 + 8 * side + distance] = 0.0
        output = detector(torch.randn(1, 3, 64, 64))
        first = torch.arange(80.0) / 10
        for location, level, stride, centre in ((0, 0, 8, 4), (64, 1, 16, 8), (80, 2, 32, 16)):
            torch.testing.assert_close(output.cls_logits[0, location], first + level)
            box = [centre - stride, centre - 2 * stride, centre + 3 * stride, centre + 7 * stride]
            assert output.boxes[0, location].tolist() == box

    def test_every_parameter_learns_but_the_statistics(self, detector: NanoDet) -> None:
        output = detector(torch.randn(1, 3, 64, 64))
        loss = output.cls_logits.square().mean() + output.boxes.square().mean()
        names, parameters = zip(*detector.named_parameters(), strict=True)
        for name, gradient in zip(names, torch.autograd.grad(loss, parameters), strict=True):
            assert gradient.isfinite().all() and gradient.any(), name


class TestPreprocessing:
    def test_blue_green_red_in_units_of_255(self) -> None:
        red = torch.zeros(3, 1, 1)
        red[0] = 1.0
        found = NANODET.apply(red).flatten()
        expected = [-103.53 / 57.375, -116.28 / 57.12, (255 - 123.675) / 58.395]
        torch.testing.assert_close(found, torch.tensor(expected))

    def test_letter_box(self) -> None:
        assert SIZE.resized(480, 640) == (240, 320)
        assert SIZE.margins(240, 320) == (0, 40, 0, 40)
        assert SIZE.margins(320, 213) == (53, 0, 54, 0)


class TestLoad:
    def test_every_entry_arrives(self) -> None:
        source, target = nanodet(), nanodet(seed=1)
        entries = published(source)
        report = load_nanodet(target, entries)
        for name, value in source.state_dict().items():
            assert torch.equal(target.state_dict()[name], value), name
        assert set(report.loaded) | set(report.unused) == set(entries)
        assert len(report.unused) == 7
        assert str(report).startswith(f"{len(source.state_dict())} entries loaded; unused: head.")

    def test_every_misfit_is_named_and_nothing_is_changed(self) -> None:
        target = nanodet(seed=1)
        before = {name: value.clone() for name, value in target.state_dict().items()}
        wrong = published(nanodet())
        del wrong["backbone.stage2.0.branch1.0.weight"], wrong["fpn.lateral_convs.0.conv.bias"]
        wrong["head.extra.weight"] = wrong["aux_head.bias"] = torch.zeros(1)
        wrong["head.gfl_cls.0.bias"] = torch.zeros(38)
        with pytest.raises(InputError) as caught:
            load_nanodet(target, wrong)
        missing, unexpected, shapes = str(caught.value).split("; ")
        assert missing == (
            "weights do not fit NanoDet-m: missing (2): backbone.stage2.0.branch1.0.weight, "
            "fpn.lateral_convs.0.conv.bias"
        )
        assert unexpected == "unexpected (2): head.extra.weight, aux_head.bias"
        assert shapes == "of another shape (1): head.gfl_cls.0.bias is (38,), expected (112,)"
        for name, value in target.state_dict().items():
            assert torch.equal(value, before[name]), name

    def test_other_classes_do_not_fit(self) -> None:
        with pytest.raises(InputError, match=r"gfl_cls\.0\.weight is \(112, .*expected \(34, "):
            load_nanodet(nanodet(names=("nut", "screw")), published(nanodet()))
