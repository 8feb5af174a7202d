"""What an exported file says of itself, so that it can be used from the file alone."""

from __future__ import annotations

import json

from bckd.system.values import to_plain
from bckd.zoo.checkpoints import Checkpoint

_RESIZING = (
    "Resizing: scale is the smaller of short_side / (shorter side) and long_side / (longer side), "
    "so the aspect ratio stays; a new side is floor(side * scale + .5), at least 1. Bilinear "
    "without antialiasing, pixel centres at .5: value i of n, made of m, lies between those around "
    "(i + .5) * m / n - .5, which is held within 0 and m - 1. The width first, rounded to whole "
    "numbers, then the height, rounded too. (With antialiasing, as Pillow's resize has it, other "
    "scores come out.)"
)
_NORMALISING = (
    "Normalising: RGB values of 0..255 over 255, then the channels in the order {order}, then "
    "minus mean, over deviation, channel by channel."
)
_PADDED_AT_THE_END = (
    "Padding, after normalising: zeros on the right and at the bottom, up to the least multiples "
    "of pad_multiple; further padding would change what is found. sizes has (height, width) before "
    "padding. Images of one input need the same padded sides. A box of the original image is the "
    "box times (original width / resized width), and height alike."
)
_PADDED_AROUND = (
    "Padding, before normalising: black (0) on all sides, up to the least multiples of "
    "pad_multiple; of what is missing, the floor of half is on the left and at the top. sizes has "
    "(height, width) after padding. Images of one input need the same padded sides. A box of the "
    "original image is the box, clipped to the picture, minus (left, top), times (original width / "
    "resized width), and height alike."
)
_FOUND = (
    "boxes are x1, y1, x2, y2 in pixels of {place}; labels count class_names from 0; all images' "
    "detections follow one another, best first within an image, and counts says how many are each "
    "image's. Of one image counts need not be read."
)


def metadata_of(checkpoint: Checkpoint, preprocess: bool = False) -> dict[str, str]:
    """What a user needs to feed an exported file; values are JSON but for `usage`.

    Args:
        preprocess: the file takes pixels as they come.

    Returns:
        class_names: in the order of the labels.
        normalisation: mean and deviation a channel of pixels over 255, and whether the
            channels are blue, green, red.
        image_size: the sides to resize to, the multiple to pad to, and whether the padding is
            on all sides; see `ImageSize`.
        usage: how these go together, in words that suffice.
    """
    detector, size = checkpoint.detector, checkpoint.size
    usage = _FROM_PIXELS if preprocess else _usage(checkpoint)
    return {
        "class_names": json.dumps(list(detector.class_names), ensure_ascii=False),
        "normalisation": json.dumps(to_plain(detector.normalisation)),
        "image_size": json.dumps(to_plain(size)),
        "usage": usage,
    }


_UPRIGHT = "Images are upright: turned as their EXIF orientation says."
_FROM_PIXELS = (
    f"pixels are (N, height, width, 3) uint8, RGB, images of one size as they come. {_UPRIGHT} "
    f"Resizing, normalising and padding are done inside. {_FOUND.format(place='pixels')}"
)


def _usage(checkpoint: Checkpoint) -> str:
    """How to feed a file that takes prepared images."""
    detector = checkpoint.detector
    order = "blue, green, red" if detector.normalisation.bgr else "red, green, blue"
    parts = (
        "images are (N, 3, height, width) float32; sizes are (N, 2) int64.",
        _UPRIGHT,
        _RESIZING,
        _NORMALISING.format(order=order),
        _PADDED_AROUND if checkpoint.size.centred else _PADDED_AT_THE_END,
        _FOUND.format(place="images"),
        f"An exported program (.pt2) needs sides above {max(detector.strides)}, and `import "
        "torchvision` before torch.export.load. It runs on the CPU; "
        "torch.export.passes.move_to_device_pass moves it to another device.",
    )
    return " ".join(parts)
