"""The configuration of a run.

One frozen dataclass, `Recipe`, serves Python, the notebooks and the command line;
the text below a field is its help there. Presets (`bckd.recipes.presets`) are instances of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from bckd.image_size import ImageSize
from bckd.losses.options import LossOptions
from bckd.models.detector import DetectorConfig
from bckd.recipes.loss_weights import LossWeights
from bckd.system.precision import Precision
from bckd.system.values import (
    BelowOne,
    Count,
    CountOrZero,
    Fraction,
    Images,
    Place,
    Positive,
    PositiveOrZero,
    Seed,
    Side,
    Workers,
)
from bckd.weights.torchvision_models import TorchvisionName


@dataclass(frozen=True)
class DataConfig:
    """Where a COCO-format data set lies; paths below are relative to its root."""

    root: Place = Path("data/coco")
    """folder of the data set"""
    train_images: str = "train2017"
    """folder of the training images"""
    train_annotations: str = "annotations/instances_train2017.json"
    """COCO instances file of the training images"""
    val_images: str = "val2017"
    """folder of the images to evaluate on"""
    val_annotations: str = "annotations/instances_val2017.json"
    """COCO instances file of the images to evaluate on"""
    size: ImageSize = field(default_factory=ImageSize)
    multi_scale: tuple[Side, Side] | None = None
    """smallest and largest short side in pixels, between which one is drawn for each image and
    epoch of training; None: always that of size"""
    flip: Fraction = 0.5
    """probability of a horizontal flip in training"""
    augmentations: Annotated[
        tuple[str, ...],
        tyro.conf.arg(name="augment", metavar="MODULE:NAME"),
        tyro.conf.UseAppendAction,
    ] = ()
    """an augmentation of your own: a function (image, boxes, rng) or a transform of
    torchvision's v2, in an importable module or a file (my_data.py:cutout); may be given again"""
    first_train: Count | None = None
    """train on the first images by id only"""
    first_val: Count | None = None
    """evaluate on the first images by id only"""
    workers: Workers = 4
    """processes that load images; 0 loads in the main process (each process has its own)"""
    prefetch: Count = 2
    """batches that each of these processes holds ready"""
    two_canvases: bool = False
    """pad each batch of training to one of two sizes, the largest wide and the largest tall one,
    and let it be all wide or all tall: a compiled network then sees two shapes"""
    cache: bool = False
    """keep decoded images in memory (small data sets)"""
    unreadable: CountOrZero = 10
    """images of training that a process may find unreadable on its way: each is told, and another
    one learnt from in its place; one more stops the run"""


@dataclass(frozen=True)
class Optimisation:
    """Optimiser and learning-rate schedule; the defaults are the official COCO recipe's."""

    optimizer: Literal["sgd", "adamw"] = "sgd"
    """SGD with momentum, or AdamW"""
    learning_rate: Positive = 0.01
    """for a batch of 16 images; scaled linearly with the batch size"""
    momentum: BelowOne = 0.9
    """of SGD"""
    weight_decay: PositiveOrZero = 1e-4
    """of every parameter, but for Swin's LayerNorms and position tables"""
    bias_rate: PositiveOrZero = 1.0
    """factor on the learning rate of biases (FCOS: 2); those of normalisation layers have 1"""
    bias_decay: PositiveOrZero = 1.0
    """factor on the weight decay of biases (FCOS: 0), but for those of normalisation layers"""
    norm_decay: PositiveOrZero = 1.0
    """factor on the weight decay of the weights and biases of normalisation layers"""
    backbone_rate: PositiveOrZero = 1.0
    """factor on the learning rate of the backbone; 0 keeps it as it starts"""
    warmup: Literal["linear", "constant"] = "linear"
    """the learning rate grows linearly, or is low (FCOS), for the steps of warm-up"""
    warmup_steps: CountOrZero = 500
    """steps of warm-up"""
    warmup_start: Fraction = 0.001
    """factor of the learning rate at step 0"""
    schedule: Literal["step", "cosine"] = "step"
    """after warm-up: tenfold drops, or a cosine to 0"""
    drops: tuple[Fraction, ...] = (8 / 12, 11 / 12)
    """step schedule: at these fractions of the run the rate falls tenfold"""
    clip_norm: Positive | None = None
    """largest norm of the gradient; None does not clip"""
    ema: BelowOne | None = None
    """decay a step of an exponential moving average of the weights (0.9998), which is then what is
    evaluated and saved; None: the weights themselves"""


Scorer = Literal["hotcoco", "pycocotools"]
Fittable = Literal["size", "strides", "anchor_scale", "steps", "cache"]


@dataclass(frozen=True)
class EvaluationConfig:
    """How average precision is measured."""

    batch_size: Images | None = None
    """images a forward pass of a process; None: its share of a step, or 16 without a run"""
    precision: Precision = "float32"
    """autocast of the network, as in training"""
    scorer: Scorer = "hotcoco"
    """who judges the detections: hotcoco, or pycocotools, which is slower and gives the same"""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the outcome of a run."""

    model: DetectorConfig = field(default_factory=DetectorConfig)
    data: DataConfig = field(default_factory=DataConfig)
    weights: LossWeights = field(default_factory=LossWeights)
    terms: Annotated[
        tuple[str, ...],
        tyro.conf.arg(name="term", metavar="MODULE:NAME=WEIGHT"),
        tyro.conf.UseAppendAction,
    ] = ()
    """a distillation term of your own: a function, or a module's class, in an importable module
    or a file, with its weight (my_losses:pearson=1.0); may be given again"""
    shares: Annotated[
        tuple[str, ...],
        tyro.conf.arg(name="share", metavar="NAME=SHARE"),
        tyro.conf.UseAppendAction,
    ] = ()
    """a distillation term whose weight is steered, from its own on, so that its gradient is that
    part of the whole one (binary=0.3); may be given again"""
    losses: LossOptions = field(default_factory=LossOptions)
    optimisation: Optimisation = field(default_factory=Optimisation)
    teacher: Place | None = None
    """weights of the teacher (a run, a file, or a published name); without one, no distillation"""
    teacher_classes: tuple[str, ...] = ()
    """classes that the teacher calls by another name, as ours=theirs"""
    teacher_check: CountOrZero = 32
    """validation images on which the teacher has to prove itself first; 0 trusts it"""
    start: Annotated[Place | None, tyro.conf.arg(aliases=["--start-from"])] = None
    """weights that the student starts from; without them, from the seed (and the backbone's);
    under torchrun, which takes --start for one of its own, --start-from"""
    inherit: bool = False
    """start neck and head from the teacher's, which has to be of the same family and channels"""
    student: TorchvisionName | None = None
    """one of torchvision's detectors in place of the model's; of --model it takes pretrained and
    weights (IMAGENET1K_V1 of its backbone, or COCO_V1 of all but its class outputs)"""
    out: Place = Path("runs/run")
    """folder of the run: student, log, resume state"""
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    fit: tuple[Fittable, ...] = ()
    """what the data choose, once, at the start of the run, where it is left as in the official
    recipe and no option sets it (see `bckd.recipes.fitted`)"""
    fit_pixels: Count = 320 * 320
    """most pixels of an image whose size the data choose"""
    steps: Count = 87_960
    """training steps; 87,960 are 12 epochs of COCO at batch 16"""
    epochs: Count | None = None
    """the length of training in epochs, in place of steps"""
    batch_size: Images = 16
    """images a step, of all processes together"""
    accumulate: Count = 1
    """equal parts in which a process takes its images of a step, one after the other: less memory,
    a second forward pass, and the gradient of all images at once"""
    images_per_group: Images | None = None
    """images that the official code has on a GPU (2), and that level gate, padding, LD's sums,
    BatchNorm and wide or tall batches go by, on any number of processes; None: all of a step"""
    seed: Seed = 0
    """of initial weights, order of images and flips"""
    precision: Precision = "auto"
    """autocast of the networks (losses stay float32); auto: bf16 on a GPU that has it, fp16 on
    an older one with tensor cores (V100, T4, RTX 20), bf16 on a CPU that has it for networks of 10
    million parameters or more, else float32"""
    teacher_precision: Precision | None = None
    """likewise for the teacher alone; None: as the student"""
    compile: bool = False
    """compile networks and losses by torch.compile: minutes at the start, then faster steps (needs
    a C++ compiler on a CPU)"""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps; auto: cuda where there is one, else cpu"""
    log_every: Count = 20
    """steps between two lines of the log"""
    log_gradients: bool = False
    """log each term's gradient on the class logits, at positives and elsewhere, and its share of
    the pull at all that lies in front of the head"""
    checkpoint_every: Count = 500
    """steps between two resume states"""
    evaluate_every: Count | None = None
    """steps between two evaluations, each of which keeps the student; None: at the end only"""
    evaluate_epochs: Count | None = None
    """the same in epochs, in place of steps"""
    patience: Count | None = None
    """evaluations without a higher AP after which the run ends; None: it takes all its steps"""
