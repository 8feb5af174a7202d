"""What several detectors say of one picture, checked to correspond, ready to be drawn.

The explorers and their figures read it, so that both show the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from bckd.correspondence import per_cell
from bckd.structures import DenseOutput, Level
from bckd.system.errors import InputError
from bckd.system.nearest import expected
from bckd.viz.location_losses import binary_pull, softmax_pull

Protocol = Literal["sigmoid", "softmax"]
Kind = Literal["score", "difference", "pull"]
TOP_CLASSES = 5  # of a location
QUIET = 0.05  # no detection has a lower score
LITTLE = 0.1  # below it the teacher sees next to nothing
HALF = np.finfo(np.float16)


@dataclass(frozen=True)
class PictureOutputs:
    """Dense outputs of one picture; a cell of the grid is one location.

    Attributes:
        picture: (H, W, 3) uint8.
        class_names: the K names.
        levels: from fine to coarse; their cells cover the picture.
        centres: (A, 2) x and y of the locations, in pixels.
        logits: by detector, (A, K) float16, which moves a score by less than 5e-4.
        boxes: by detector, (A, 4) float32 decoded boxes in pixels.
    """

    picture: np.ndarray
    class_names: tuple[str, ...]
    levels: tuple[Level, ...]
    centres: np.ndarray
    logits: dict[str, np.ndarray]
    boxes: dict[str, np.ndarray]

    @property
    def names(self) -> tuple[str, ...]:
        """The detectors, the reference (the teacher) first."""
        return tuple(self.logits)

    @cached_property
    def stack(self) -> np.ndarray:
        """(L, h, w) int32: each level's location at every cell of the finest level's h x w."""
        finest = self.levels[0]
        rows, columns = np.mgrid[: finest.height, : finest.width] * finest.stride
        firsts = np.cumsum([0, *(level.count for level in self.levels)])
        found = [
            first + rows // level.stride * level.width + columns // level.stride
            for first, level in zip(firsts, self.levels, strict=False)
        ]
        return np.stack(found).astype(np.int32)

    def scores(self, name: str, protocol: Protocol = "sigmoid") -> np.ndarray:
        """(A, K) scores of a detector: K sigmoids, or one softmax over the K logits (T = 1)."""
        logits = torch.from_numpy(self.logits[name]).double()
        return (logits.sigmoid() if protocol == "sigmoid" else logits.softmax(dim=-1)).numpy()

    def pulls(self, name: str, protocol: Protocol) -> np.ndarray:
        """(A, K) gradient of a loss on a student's logits, each location by itself.

        Args:
            name: a student's.
            protocol: "sigmoid" for L_cls, "softmax" for softmax distillation, both unweighted
                and not divided by the positives (`bckd.viz.location_losses`).
        """
        student, teacher = (torch.from_numpy(self.logits[n]) for n in (name, self.names[0]))
        pull = binary_pull if protocol == "sigmoid" else softmax_pull
        return pull(student, teacher)[1].numpy()

    def values(
        self, kind: Kind, name: str, protocol: Protocol = "sigmoid", label: int | None = None
    ) -> np.ndarray:
        """(A,) what a map shows at every location.

        Args:
            kind: "score"; "difference", of a detector's score to the reference's; "pull", the
                size of the loss's gradient there (`pulls`).
            label: one class, or None for all: the highest score or difference, the sum of the
                gradient's sizes.
        """
        if kind == "pull":
            found = np.abs(self.pulls(name, protocol))
            return found.sum(axis=1) if label is None else found[:, label]
        found = self.scores(name, protocol)
        if kind == "difference":
            found = np.abs(found - self.scores(self.names[0], protocol))
        return found.max(axis=1) if label is None else found[:, label]

    def background_location(self) -> int:
        """Where all detectors say no, and the reference's softmax is surest of a class.

        Where none is as quiet, the location at which the loudest detector says least.
        """
        loudest = np.max([self.scores(name).max(axis=1) for name in self.names], axis=0)
        quiet = loudest <= QUIET
        if not quiet.any():
            return int(loudest.argmin())
        surest = self.scores(self.names[0], "softmax").max(axis=1)
        return int(np.where(quiet, surest, -1).argmax())

    def object_location(self) -> int:
        """Where the reference's score is highest."""
        return int(self.scores(self.names[0]).max(axis=1).argmax())

    def haze_location(self, objects: np.ndarray | None = None) -> int:
        """Where the reference sees next to nothing, on any level, and another differs most.

        Args:
            objects: (G, 4) annotated boxes, whose places are left out.
        """
        top = self.values("score", self.names[0])
        at_cell = top[self.stack].max(axis=0)
        seen = np.zeros_like(top)  # by the loudest location of any level in each one's cell
        for level in self.stack:
            np.maximum.at(seen, level, at_cell)
        gaps = np.max([self.values("difference", name) for name in self.names[1:]], axis=0)
        for left, upper, right, lower in () if objects is None else objects:
            x, y = self.centres.T
            gaps[(left <= x) & (x <= right) & (upper <= y) & (y <= lower)] = 0
        return int(np.where(seen <= max(LITTLE, seen.min()), gaps, -1).argmax())

    def speakers(self, values: np.ndarray, level: int | None = None) -> np.ndarray:
        """(h, w) the location that speaks for each cell of the finest level.

        Args:
            values: (A,); of all levels, that with the highest value speaks, the finer of equals.
            level: position of one level, or None for all.
        """
        if level is not None:
            return self.stack[level]
        best = values[self.stack].argmax(axis=0)
        return np.take_along_axis(self.stack, best[None], axis=0)[0]

    def over_picture(self, values: np.ndarray) -> np.ndarray:
        """(H, W) the highest value of the locations whose cells hold each pixel."""
        side = self.levels[0].stride
        height, width = self.picture.shape[:2]
        found = values[self.speakers(values)]
        return found.repeat(side, axis=0).repeat(side, axis=1)[:height, :width]

    def at_point(self, values: np.ndarray, point: Sequence[float], level: int | None = None) -> int:
        """The location that speaks for `point` (x and y in pixels), as in `speakers`.

        Raises:
            InputError: the point is outside the picture.
        """
        (x, y), (height, width) = point, self.picture.shape[:2]
        if not (0 <= x < width and 0 <= y < height):
            raise InputError(f"point ({x}, {y}) is outside the picture, {width} x {height} pixels")
        side = self.levels[0].stride
        return int(self.speakers(values, level)[int(y // side), int(x // side)])

    def location(self, cell: Sequence[int]) -> int:
        """The location of a cell: stride of its level, row and column.

        Raises:
            InputError: there is no such level, row or column.
        """
        stride, row, column = cell
        place = self.level(stride) or 0
        level = self.levels[place]
        if not (0 <= row < level.height and 0 <= column < level.width):
            raise InputError(
                f"there is no row {row}, column {column} on the level of stride {stride}, which "
                f"has {level.height} x {level.width} cells"
            )
        before = sum(level.count for level in self.levels[:place])
        return before + row * level.width + column

    def cell(self, location: int) -> tuple[Level, int, int]:
        """The location's level, and its row and column there."""
        for level in self.levels:
            if location < level.count:
                break
            location -= level.count
        return level, *divmod(location, level.width)

    def top_classes(self, location: int) -> list[int]:
        """Labels with the highest sigmoid score of any detector there, at most five, best first."""
        highest = np.max([self.scores(name)[location] for name in self.names], axis=0)
        return np.argsort(-highest, kind="stable")[:TOP_CLASSES].tolist()

    def label(self, class_name: str | None) -> int | None:
        """The label of a class; None for None, which is all classes.

        Raises:
            InputError: there is no such class.
        """
        if class_name is None:
            return None
        if class_name not in self.class_names:
            known = expected(class_name, self.class_names)
            raise InputError(f"there is no class {class_name!r}; {known}")
        return self.class_names.index(class_name)

    def level(self, stride: int | None) -> int | None:
        """Position of the level of a stride; None for None, which is all levels.

        Raises:
            InputError: there is no such level.
        """
        strides = [level.stride for level in self.levels]
        if stride is not None and stride not in strides:
            known = ", ".join(str(each) for each in strides)
            raise InputError(f"there is no level of stride {stride}; expected one of {known}")
        return None if stride is None else strides.index(stride)

    def check_view(self, kind: str, protocol: str) -> None:
        """Refuse a map that `values` can't make.

        Raises:
            InputError: there is no such kind or protocol.
        """
        for what, value, known in (
            ("kind of map", kind, get_args(Kind)),
            ("protocol", protocol, get_args(Protocol)),
        ):
            if value not in known:
                raise InputError(f"there is no {what} {value!r}; {expected(value, known)}")


def outputs_of_picture(
    picture: np.ndarray, outputs: dict[str, DenseOutput], class_names: Sequence[str], image: int = 0
) -> PictureOutputs:
    """One picture's part of several dense outputs.

    Of several anchors a cell the best speaks (`correspondence.per_cell`).

    Args:
        picture: (H, W, 3) uint8, as the detectors saw it: padding included
            (`bckd.viz.pictures.pictures_of`).
        outputs: by name, for the same batch; the first is what others are compared with.
        class_names: of all of them.
        image: position of the picture in the batch.

    Raises:
        InputError: the picture is no such array, an output has other classes, another grid
            than the picture or the first output, no such image, or values that are not finite.
    """
    picture = np.asarray(picture)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise InputError(
            f"the picture is {picture.dtype} of shape {picture.shape}; expected uint8 (H, W, 3)"
        )
    if not outputs:
        raise InputError("there is no dense output to show; expected at least one")
    chosen = {name: _one_image(name, output, image) for name, output in outputs.items()}
    reference = next(iter(chosen))
    levels = chosen[reference].locations.levels
    for name, output in chosen.items():
        _check_values(name, output, len(class_names))
        if output.locations.levels != levels:
            raise InputError(
                f"{name!r} has the levels {_listed(output.locations.levels)}, {reference!r} has "
                f"{_listed(levels)}; expected the same"
            )
    _check_grid(picture, reference, levels)
    return PictureOutputs(
        picture=picture,
        class_names=tuple(class_names),
        levels=levels,
        centres=_array(chosen[reference].locations.centres),
        logits={name: _half(output.cls_logits[0]) for name, output in chosen.items()},
        boxes={name: _array(output.boxes[0]) for name, output in chosen.items()},
    )


def compared_outputs(
    picture: np.ndarray, outputs: dict[str, DenseOutput], class_names: Sequence[str], image: int = 0
) -> PictureOutputs:
    """`outputs_of_picture` of a teacher and one, two or three students.

    Raises:
        InputError: there are more or fewer, or as `outputs_of_picture` says.
    """
    if len(outputs) not in (2, 3, 4):
        raise InputError(
            f"there are {len(outputs)} dense outputs; expected a teacher's and those of one to "
            "three students"
        )
    return outputs_of_picture(picture, outputs, class_names, image)


def checked_ground_truth(
    ground_truth: tuple[Tensor, Tensor], class_names: Sequence[str]
) -> tuple[np.ndarray, list[int]]:
    """(G, 4) boxes and G labels of one picture.

    Raises:
        InputError: the shapes differ from (G, 4) and (G,), or there is no class of a label.
    """
    boxes, labels = (torch.as_tensor(part) for part in ground_truth)
    shapes = f"{tuple(boxes.shape)} and {tuple(labels.shape)}"
    if boxes.dim() != 2 or boxes.shape != (len(labels), 4) or labels.dim() != 1:
        raise InputError(f"ground-truth boxes and labels are {shapes}; expected (G, 4) and (G,)")
    wrong = [label for label in labels.tolist() if not 0 <= label < len(class_names)]
    if wrong:
        raise InputError(
            f"ground-truth label {wrong[0]} names no class; expected 0 to {len(class_names) - 1}"
        )
    return _array(boxes), [int(label) for label in labels]


def _one_image(name: str, output: DenseOutput, image: int) -> DenseOutput:
    count = len(output.cls_logits)
    if not 0 <= image < count:
        raise InputError(f"{name!r} holds {count} images; there is no image {image}")
    logits, boxes = (x[image : image + 1].detach() for x in (output.cls_logits, output.boxes))
    alone = DenseOutput(logits, boxes, output.locations)
    return per_cell(alone) if output.locations.levels[0].per_cell > 1 else alone


def _check_values(name: str, output: DenseOutput, num_classes: int) -> None:
    found = output.cls_logits.shape[-1]
    if found != num_classes:
        raise InputError(f"{name!r} has {found} classes, class_names has {num_classes}")
    for field in ("cls_logits", "boxes"):
        wrong = int((~getattr(output, field).isfinite()).sum())
        if wrong:
            raise InputError(f"{field} of {name!r} has {wrong} values that are nan or infinite")


def _check_grid(picture: np.ndarray, name: str, levels: tuple[Level, ...]) -> None:
    height, width = picture.shape[:2]
    for level in levels:
        if level.stride % levels[0].stride:
            raise InputError(
                f"{name!r} has a level of stride {level.stride}; expected a multiple of the "
                f"finest, {levels[0].stride}"
            )
        needed = (-(-height // level.stride), -(-width // level.stride))
        if (level.height, level.width) != needed:
            raise InputError(
                f"{name!r} has {level.height} x {level.width} cells of stride {level.stride}, the "
                f"picture of {height} x {width} pixels has {needed[0]} x {needed[1]}; give the "
                "picture that the detector saw, padding included (bckd.viz.pictures.pictures_of)"
            )


def _listed(levels: tuple[Level, ...]) -> str:
    return ", ".join(f"{x.height} x {x.width} of stride {x.stride}" for x in levels)


def _half(logits: Tensor) -> np.ndarray:
    return logits.cpu().float().clamp(float(HALF.min), float(HALF.max)).numpy().astype(np.float16)


def _array(values: Tensor) -> np.ndarray:
    return values.detach().cpu().float().numpy()
