"""What is measured: a preset's recipe at the sizes asked for, its networks with random weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from bckd.bench.options import NOBODY, BenchOptions
from bckd.bench.results import Settings
from bckd.datasets.coco_classes import COCO_CLASSES
from bckd.datasets.scene_drawing import class_names as scene_classes
from bckd.image_size import ImageSize
from bckd.models.detector import Detector, DetectorConfig
from bckd.recipes import Recipe
from bckd.recipes.fitted import fitted_to_nothing
from bckd.recipes.presets import PRESETS, SCENES_TEACHER_MODEL
from bckd.system.device import pick_device
from bckd.system.errors import InputError
from bckd.system.nearest import expected
from bckd.system.precision import autocast_type

_SMALL = 320  # pixels of a side on a CPU, at most
_SMALL_BATCH = 2  # images of a step there


@dataclass(frozen=True)
class Subject:
    """What is measured.

    Attributes:
        recipe: the preset's, of this device, batch and images.
        teacher: the teacher's model; None: nobody teaches.
        canvas: height and width of what the network sees.
        repeat: times that each thing is measured.
        photographs: the size that the preset brings them to, on any machine.
    """

    recipe: Recipe
    preset: str
    teacher: DetectorConfig | None
    teacher_name: str
    class_names: tuple[str, ...]
    canvas: tuple[int, int]
    repeat: int
    photographs: ImageSize
    drawn: bool

    @property
    def device(self) -> torch.device:
        """What computes."""
        return torch.device(self.recipe.device)

    @cached_property
    def autocast(self) -> torch.dtype | None:
        """What the student computes in; None: float32."""
        with torch.device("meta"):
            student = Detector(self.recipe.model, self.class_names)
        return autocast_type(self.recipe.precision, self.device, student)

    @property
    def settings(self) -> Settings:
        """All of it in plain words."""
        types = {torch.bfloat16: "bf16", torch.float16: "fp16", None: "float32"}
        return Settings(
            preset=self.preset,
            teacher=self.teacher_name,
            device=self.device.type,
            batch_size=self.recipe.batch_size,
            height=self.canvas[0],
            width=self.canvas[1],
            precision=types[self.autocast],
            compile=self.recipe.compile,
            repeat=self.repeat,
            workers=self.recipe.data.workers,
            photographs="drawn" if self.drawn else self.recipe.data.root.as_posix(),
        )


def subject_of(preset: str, options: BenchOptions) -> Subject:
    """What the options say of a preset, with all that they leave open filled in.

    Raises:
        InputError: there is no such preset or device.
    """
    recipe = _recipe_of(preset)
    preset_size = recipe.data.size
    device = pick_device(options.device)
    fast = device.type != "cpu"
    wide = (
        recipe.data.size.padded(recipe.data.size.short_side),
        recipe.data.size.padded(recipe.data.size.long_side),
    )
    height, width = wide if fast else (min(side, _SMALL) for side in wide)
    height, width = options.height or height, options.width or width
    sides = ImageSize(min(height, width), max(height, width), recipe.data.size.pad_multiple)
    canvas = sides.padded(height), sides.padded(width)
    batch_size = options.batch_size or (recipe.batch_size if fast else _SMALL_BATCH)
    data = replace(
        recipe.data,
        root=options.root or recipe.data.root,
        size=sides,
        workers=recipe.data.workers if options.workers is None else options.workers,
        cache=False,
    )
    grouped = recipe.images_per_group is not None and batch_size % recipe.images_per_group == 0
    name, teacher = _teacher_of(preset, recipe, options.teacher)
    recipe = replace(
        recipe,
        model=replace(recipe.model, pretrained=False).resolved(),
        data=data,
        batch_size=batch_size,
        images_per_group=recipe.images_per_group if grouped else None,
        precision=options.precision or recipe.precision,
        compile=options.compile,
        device=str(device),
    )
    given = options.height is not None or options.width is not None
    return Subject(
        recipe=recipe,
        preset=preset,
        teacher=teacher,
        teacher_name=name,
        class_names=scene_classes() if preset.startswith("scenes") else COCO_CLASSES,
        canvas=canvas,
        repeat=options.repeat or (20 if fast else 3),
        photographs=sides if given else preset_size,
        drawn=options.root is None,
    )


def _recipe_of(preset: str) -> Recipe:
    if preset not in PRESETS:
        raise InputError(f"preset {preset!r} is unknown; {expected(preset, PRESETS, 'bckd train')}")
    return fitted_to_nothing(PRESETS[preset].recipe)


def _teacher_of(preset: str, recipe: Recipe, name: str | None) -> tuple[str, DetectorConfig | None]:
    """What a teacher is called, and its model."""
    if name == NOBODY:
        return NOBODY, None
    if name is not None:
        return name, replace(_recipe_of(name).model, pretrained=False).resolved()
    if preset.startswith("scenes"):
        return "scenes-teacher", SCENES_TEACHER_MODEL.resolved()
    model = replace(recipe.model, backbone="resnet101", pretrained=False, leaky=False)
    return f"{model.head} on resnet101", model.resolved()


def network_of(config: DetectorConfig, class_names: tuple[str, ...]) -> Detector:
    """A network with random weights and plausible statistics, on the CPU.

    With fixed batch norms at 0 and 1 what it computes would grow from layer to layer.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        detector = Detector(config, class_names)
        side = 2 * max(detector.strides)
        _look_at(detector, torch.randn(2, 3, side, side))
    return detector


@torch.no_grad()
def _look_at(network: nn.Module, images: torch.Tensor) -> None:
    """Let batch norms take their statistics from some images."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    before = [(norm.training, norm.momentum) for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    network(images)
    for norm, (training, momentum) in zip(norms, before, strict=True):
        norm.train(training)
        norm.momentum = momentum
