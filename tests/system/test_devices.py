"""A training step on a GPU: traced without one on fake CUDA tensors, and run where there is one.

A fake tensor has a device and a shape and no values. An operation on tensors of two devices
raises there as it would on a GPU, and so does what needs a value: there the host would wait for
the GPU, with nothing queued behind. Autograd's engine needs a real device, so the backward pass,
which follows the forward pass from tensor to tensor, runs on a GPU alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, is_tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.overrides import TorchFunctionMode
from tqdm.auto import tqdm

from bckd.correspondence import compared
from bckd.evaluation.gradient_shares import pull_of_terms
from bckd.losses.crosskd import CrossBCKD, CrossHeadTerm, CrossKD
from bckd.models.dense import DenseDetector
from bckd.models.detector import Detector, DetectorConfig
from bckd.models.heads.layers import ExactConv2d
from bckd.normalisation import CAFFE, IMAGENET
from bckd.recipes import LossWeights, Recipe
from bckd.structures import Batch, GroundTruth
from bckd.system.interruption import Ending
from bckd.system.precision import Precision, autocast_type
from bckd.teachers.heads import CrossedHeads
from bckd.teachers.matching import matched
from bckd.teachers.targets import TeacherTargets, live_teaching
from bckd.training import run as running
from bckd.training.accumulating import InParts
from bckd.training.averaging import AveragedStudent
from bckd.training.checks import FiniteCheck
from bckd.training.first_step import FirstStep
from bckd.training.loss_window import LossWindow
from bckd.training.own_terms import OwnTerms
from bckd.training.run import Run
from bckd.training.run_log import NoLog
from bckd.training.schedule import build_optimizer, set_learning_rate
from bckd.training.steering import Steering
from bckd.training.terms import compute_terms
from bckd.zoo.nanodet import NanoDet
from bckd.zoo.torchvision_detectors import TorchvisionDetector

NAMES = ("truck", "bus", "car")
SUPERVISED = {
    "gfl": {"qfl", "dfl", "giou"},
    "retinanet": {"focal", "l1"},
    "fcos": {"focal", "log_iou", "centerness"},
    "atss": {"focal", "giou", "centerness"},
}
CANVASES = ((64, 96), (64, 96), (96, 64), (96, 64))


def batch_on(device: str, labelled: Sequence[bool] | None = None) -> Batch:
    """Four images on two canvases, two boxes each, one of them a crowd region."""
    boxes = torch.tensor([[[4.0, 4, 40, 44], [30, 10, 60, 60]]]).repeat(4, 1, 1)
    labels = torch.tensor([[0, 2]]).repeat(4, 1)
    crowd = torch.tensor([[False, True]]).repeat(4, 1)
    truth = GroundTruth(boxes, labels, crowd)
    if labelled is not None:
        known = torch.tensor(labelled)
        labels = torch.where(known[:, None], labels, -1)
        truth = replace(truth, labels=labels, crowd=crowd & known[:, None], labelled=known)
    sizes = torch.tensor(CANVASES)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (4, 3, 96, 96), dtype=torch.uint8, generator=generator)
    return Batch(
        pixels=pixels,
        normalisation=IMAGENET,
        sizes=sizes,
        padded_sizes=sizes,
        canvases=CANVASES,
        original_sizes=sizes,
        frames=torch.zeros(4, 4, dtype=torch.long),
        ground_truth=truth,
        indices=(0, 1, 2, 3),
        flipped=(False,) * 4,
        image_ids=(1, 2, 3, 4),
        file_names=("",) * 4,
    ).to(device)


def recipe_of(tiny: Recipe, head: str, teacher: str) -> Recipe:
    bins = float(head == "gfl" and teacher == "gfl")
    weights = LossWeights(softmax=0.5, ld=bins, ld_region=bins)
    model = replace(tiny.model, head=head)
    return replace(tiny, model=model, weights=weights, images_per_group=2)


def teacher_of(kind: str, model: DetectorConfig) -> DenseDetector:
    """A detector of another head, other levels, classes and normalisation, or of another make."""
    if kind == "nanodet":
        return NanoDet()
    if kind == "torchvision":
        return TorchvisionDetector("fcos_resnet50_fpn", None)
    if kind == "unlike":
        unlike = replace(model, head="fcos", strides=(8, 16, 32, 64), normalisation=CAFFE)
        return Detector(unlike, ("sky", *NAMES[::-1]))
    return Detector(replace(model, head=kind), NAMES)


def placed(build: Callable[[], nn.Module], device: str, real: bool) -> nn.Module:
    """The module on the device; one of fake tensors is made there, since it can't be moved."""
    if real:
        return build().to(device)
    with torch.device(device):
        module = build()
    # What is neither parameter nor buffer would have stayed where it was made.
    left = {type(m).__name__ for m in module.modules() for x in vars(m).values() if is_tensor(x)}
    assert not left, f"plain tensors in {left}"
    return module


def step(
    recipe: Recipe,
    teacher_kind: str,
    device: str,
    real: bool,
    labelled: Sequence[bool] | None = None,
) -> dict[str, Tensor]:
    """From a batch on the device to new weights; the terms by name."""
    torch.manual_seed(0)
    model, teaching = recipe.model, None
    student = placed(lambda: Detector(model, NAMES), device, real)
    if teacher_kind != "none":
        teacher = placed(lambda: teacher_of(teacher_kind, model), device, real)
        teacher = matched(teacher, "", NAMES, model.strides, model.normalisation)
        teaching = live_teaching(teacher.requires_grad_(False).eval())
    student = student.train()
    optimizer = build_optimizer(student, recipe.optimisation)
    window = LossWindow()
    batch = batch_on(device, labelled)
    if teacher_kind == "torchvision":  # whose anchors come from the host in the first step
        teaching(batch)
    with nullcontext() if real else NoCopies():
        values = compute_terms(student, teaching, batch, recipe, recipe.weights).values
    weighted = {name: getattr(recipe.weights, name) * x for name, x in values.items()}
    total = torch.stack(list(weighted.values())).sum()
    set_learning_rate(optimizer, 1e-3)
    if real:
        total.backward()
    else:
        for parameter in student.parameters():
            parameter.grad = torch.zeros_like(parameter)
    torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
    optimizer.step()
    copy = placed(lambda: Detector(model, NAMES), device, real)
    average = AveragedStudent(student, copy, 0.9)
    with nullcontext() if real else NoCopies():
        average.update()
    window.add(values, weighted, len(batch.images))
    assert {p.device.type for p in student.parameters()} == {torch.device(device).type}
    return values


class HostWaitError(Exception):
    """The host copies to or from the GPU, and waits until that is done."""


class NoCopies(TorchFunctionMode):
    """Refuses copies between host and GPU for which the host waits."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if is_tensor(result) and not kwargs.get("non_blocking"):
            before = {x.device.type for x in args if is_tensor(x)} or {"cpu"}
            made_of_numbers = func in (torch.tensor, torch.as_tensor, torch.Tensor.new_tensor)
            moved = func in (torch.Tensor.to, torch.Tensor.cpu, torch.Tensor.cuda)
            copied = func is torch.Tensor.copy_ and len(before) > 1
            if copied or ((made_of_numbers or moved) and result.device.type not in before):
                raise HostWaitError(f"{func.__name__} from {before} to {result.device}")
            if made_of_numbers and result.device.type != "cpu":
                raise HostWaitError(f"{func.__name__} on {result.device}")
        return result


@pytest.fixture
def fake() -> Iterator[FakeTensorMode]:
    """Tensors made in here have no values, and what needs one raises."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "CUDA is not available")
        with FakeTensorMode() as mode:
            yield mode


PAIRS = [
    (head, teacher) for head in SUPERVISED for teacher in ("none", "gfl", "retinanet", "unlike")
]
PAIRS += [("gfl", "nanodet"), ("gfl", "torchvision")]


@pytest.mark.parametrize(("head", "teacher"), PAIRS)
def test_a_step_mixes_no_devices_and_never_waits(
    tiny_recipe: Recipe, fake: FakeTensorMode, head: str, teacher: str
) -> None:
    recipe = recipe_of(tiny_recipe, head, teacher)
    values = step(recipe, teacher, "cuda", real=False)
    distilled = set() if teacher == "none" else {"binary", "iou", "softmax"}
    distilled |= {"ld", "ld_region"} if head == teacher == "gfl" else set()
    assert set(values) == SUPERVISED[head] | distilled
    assert {value.device.type for value in values.values()} == {"cuda"}


@pytest.mark.parametrize("teacher", ["gfl", "retinanet", "unlike"])
@pytest.mark.parametrize("term", [CrossKD, CrossBCKD])
def test_terms_through_the_teachers_head_never_wait(
    tiny_recipe: Recipe, fake: FakeTensorMode, term: type[CrossHeadTerm], teacher: str
) -> None:
    recipe = recipe_of(tiny_recipe, "gfl", teacher)
    model = recipe.model
    student = placed(lambda: Detector(model, NAMES), "cuda", real=False)
    taught = placed(lambda: teacher_of(teacher, model), "cuda", real=False)
    taught = matched(taught, "", NAMES, model.strides, model.normalisation)
    batch = batch_on("cuda")
    said = compute_terms(student.train(), None, batch, recipe, recipe.weights)
    target = live_teaching(taught.requires_grad_(False).eval())(batch)
    given = compared(said.output, target, said.assignment)
    with torch.device("cuda"):
        module = term(*given[:2], CrossedHeads(student, taught))
    with NoCopies():
        value = module(*given, batch)
    assert value.device.type == "cuda" and value.requires_grad


def test_kept_answers_of_the_teacher_never_wait(fake: FakeTensorMode) -> None:
    kept = object.__new__(TeacherTargets)  # no data set of fake images
    kept.count, kept.locations, said = 4, None, torch.zeros(8, 12, 3)
    kept.values = {"cls_logits": said, "boxes": torch.zeros(8, 12, 4)}
    kept.features = [torch.zeros(8, 5, 6, 6)]
    with NoCopies():
        found = kept(batch_on("cuda"))
    assert found.cls_logits.shape == (4, 12, 3) and found.features[0].shape == (4, 5, 6, 6)
    assert {x.device.type for x in (found.cls_logits, found.boxes, *found.features)} == {"cuda"}
    with pytest.raises(HostWaitError), NoCopies():
        said[[0, 1]].to("cuda")


@pytest.mark.parametrize("head", SUPERVISED)
def test_a_step_with_images_without_labels(
    tiny_recipe: Recipe, fake: FakeTensorMode, head: str
) -> None:
    recipe = recipe_of(tiny_recipe, head, "gfl")
    values = step(recipe, "gfl", "cuda", real=False, labelled=(True, False, False, True))
    assert SUPERVISED[head] | {"binary", "iou", "softmax"} <= set(values)
    assert {value.device.type for value in values.values()} == {"cuda"}


class Sent:
    """An event of a card that is not there."""

    def record(self, stream: object) -> None:
        """Note nothing."""


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a step asks a card's driver, answered without one; and gradients that are all 0."""
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    monkeypatch.setattr(torch.cuda, "Event", Sent)
    monkeypatch.setattr(running, "flat_gradients", lambda terms, _: torch.stack(terms)[:, None])


def in_type(teacher: DenseDetector, dtype: torch.dtype | None) -> DenseDetector:
    """As `keeping_type` leaves it, whose way of converting a module takes real tensors."""
    for module in teacher.modules():
        if isinstance(module, nn.Conv2d) and not isinstance(module, ExactConv2d):
            for name, x in module.named_parameters():
                setattr(module, name, nn.Parameter(x.to(dtype or x.dtype), requires_grad=False))
    return teacher


def run_of(recipe: Recipe, teacher_kind: str) -> Run:
    """A run on the fake card, of weights that are steered and averaged."""
    student = placed(lambda: Detector(recipe.model, NAMES), "cuda", real=False).train()
    teaching = None
    if teacher_kind != "none":
        teacher = placed(lambda: teacher_of(teacher_kind, recipe.model), "cuda", real=False)
        teacher = matched(teacher, "", NAMES, recipe.model.strides, recipe.model.normalisation)
        dtype = autocast_type(recipe.precision, torch.device("cuda"), teacher)
        teaching = live_teaching(in_type(teacher.requires_grad_(False).eval(), dtype), dtype)
    shares = {} if teaching is None else {"binary": 0.3}
    return Run(
        recipe,
        contents={},
        student=student,
        terms=OwnTerms(()),
        teaching=teaching,
        optimizer=build_optimizer(student, recipe.optimisation),
        scaler=torch.amp.GradScaler("cuda", enabled=False),
        validation=None,
        log=NoLog(),
        window=LossWindow(),
        told=Ending(None),
        progress=False,
        seconds=0.0,
        averaged=AveragedStudent(
            student, placed(lambda: Detector(recipe.model, NAMES), "cuda", real=False), 0.9
        ),
        steering=placed(lambda: Steering(shares), "cuda", real=False),
    )


@pytest.mark.parametrize(
    ("head", "teacher", "precision"),
    [
        *[(head, "gfl", "bf16") for head in SUPERVISED],
        ("gfl", "unlike", "bf16"),
        ("gfl", "none", "float32"),
    ],
)
def test_the_step_of_a_run_never_waits(
    tiny_recipe: Recipe,
    fake: FakeTensorMode,
    card: None,
    monkeypatch: pytest.MonkeyPatch,
    head: str,
    teacher: str,
    precision: Precision,
) -> None:
    """`Run.step` from the batch on the card to new weights: all but autograd's engine is real."""
    optimisation = replace(tiny_recipe.optimisation, clip_norm=1.0)
    recipe = replace(recipe_of(tiny_recipe, head, teacher), steps=100, log_every=100)
    recipe = replace(recipe, precision=precision, optimisation=optimisation)
    run, batch = run_of(recipe, teacher), batch_on("cuda")
    network, own = run.networks()
    types = set()
    network.head.register_forward_hook(lambda *seen: types.add(seen[1][0][0].dtype))

    def backward(total: Tensor) -> None:
        assert total.requires_grad and total.device.type == "cuda"
        for parameter in run.student.parameters():
            parameter.grad = torch.zeros_like(parameter)

    monkeypatch.setattr(Tensor, "backward", backward)
    for number in (0, 1):
        # What was found out of the step before lies on the host, where it has no values here.
        run.finite, run.first_step = FiniteCheck(run.student), FirstStep()
        with NoCopies(), tqdm(disable=True) as bar:
            assert run.step(network, own, batch, number, bar) is False
        pending = run.finite.pending
        assert pending is not None and pending.coming.values.device.type == "cpu"
        assert (run.first_step.pending is None) == (number == 1 or teacher == "none")
    assert run.window.steps == 2
    assert types == {torch.bfloat16 if precision == "bf16" else torch.float32}


def test_a_step_in_parts_never_waits(tiny_recipe: Recipe, fake: FakeTensorMode) -> None:
    recipe = replace(recipe_of(tiny_recipe, "gfl", "none"), accumulate=2)
    student = placed(lambda: Detector(recipe.model, NAMES), "cuda", real=False).train()
    batch = batch_on("cuda")
    with NoCopies():
        said = InParts(student, batch, recipe, None, lambda part: None)
        terms = compute_terms(student, None, batch, recipe, recipe.weights, output=said.output)
    assert {value.device.type for value in terms.values.values()} == {"cuda"}
    assert said.output.cls_logits.is_leaf and said.output.cls_logits.requires_grad


def test_steered_weights_never_wait(fake: FakeTensorMode) -> None:
    """What is made of the gradients, which take autograd's engine."""
    steering = placed(lambda: Steering({"binary": 0.3, "iou": 0.2}), "cuda", real=False)
    gradients = torch.zeros(4, 5, device="cuda").unbind()
    terms = dict(zip(("qfl", "giou", "binary", "iou"), gradients, strict=True))
    with NoCopies():
        pull = pull_of_terms(terms, (), lambda found, parameters: found)
        steering.update(pull)
        weights = steering.weights({"qfl": 1.0, "binary": 1.0, "iou": 4.0})
        total = weights["qfl"] * pull["qfl"] + weights["iou"] * pull["iou"]
    assert total.device.type == weights["binary"].device.type == "cuda"


def test_a_tensor_left_on_the_host_is_seen(tiny_recipe: Recipe, fake: FakeTensorMode) -> None:
    """The test above can fail: its batch without one of its moves."""
    student = placed(lambda: Detector(tiny_recipe.model, NAMES), "cuda", real=False).train()
    batch = batch_on("cuda")
    stray = replace(batch, padded_sizes=batch.padded_sizes.to("cpu"))
    with pytest.raises(RuntimeError, match=r"cuda.*cpu|cpu.*cuda"):
        compute_terms(student, None, stray, tiny_recipe, tiny_recipe.weights)


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.sum().item(),
        lambda x: bool((x > 0).any()),
        lambda x: x[0, 0].tolist(),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: x.to("cpu"),
        lambda x: torch.zeros(2, 2).copy_(x),
        lambda x: x + torch.tensor([1.0], device="cuda"),
        lambda x: x[:, [0, 0]] + x.new_tensor([1.0]),
    ],
)
def test_a_wait_is_seen(fake: FakeTensorMode, wait: Callable[[Tensor], object]) -> None:
    waits = (HostWaitError, DataDependentOutputException, DynamicOutputShapeException)
    with pytest.raises(waits), NoCopies():
        wait(torch.zeros(2, 2, device="cuda"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("teacher", ["none", "gfl", "unlike"])
@pytest.mark.parametrize("head", SUPERVISED)
def test_a_step_on_a_gpu_is_that_of_the_cpu(
    tiny_recipe: Recipe, head: str, teacher: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    recipe = recipe_of(tiny_recipe, head, teacher)
    found = step(recipe, teacher, "cuda", real=True)
    expected = step(recipe, teacher, "cpu", real=True)
    for name, value in expected.items():
        torch.testing.assert_close(found[name].cpu(), value, rtol=1e-4, atol=1e-5, msg=name)
