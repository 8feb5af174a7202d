"""A worked example: as `onnx_client.py`, of a file that was exported without --preprocess.

    python onnx_client_prepared.py student.onnx photograph.jpg

What it does before and after the network, the file's own metadata say in words (`usage`). It
needs onnxruntime, numpy and Pillow, and neither PyTorch nor bckd.
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def detect(file, photograph, threshold=0.3):
    """Names, scores and boxes (x1, y1, x2, y2 in pixels of the upright photograph), best first."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    told = session.get_modelmeta().custom_metadata_map
    told = {key: json.loads(value) for key, value in told.items() if key != "usage"}
    pixels = np.array(ImageOps.exif_transpose(Image.open(photograph)).convert("RGB"))
    image, size, start, sides = prepared(pixels, told["image_size"], told["normalisation"])
    boxes, scores, labels, _ = session.run(None, {"images": image[None], "sizes": [size]})
    inside = np.clip(boxes.reshape(-1, 2, 2) - start, 0, sides)
    boxes = (inside * pixels.shape[1::-1] / sides).reshape(-1, 4)
    found = zip(labels, scores, boxes, strict=True)
    return [(told["class_names"][x], score, box) for x, score, box in found if score >= threshold]


def prepared(pixels, size, normalisation):
    """The image (3, H, W), its size, and where the picture begins and what sides it has (x, y)."""
    given, multiple = np.array(pixels.shape[:2]), size["pad_multiple"]
    scale = min(size["short_side"] / min(given), size["long_side"] / max(given))
    sides = np.maximum((given * scale + 0.5).astype(int), 1)
    values = stretched(stretched(pixels, sides[1], axis=1), sides[0], axis=0)
    room = -sides % multiple
    start = room // 2 if size["centred"] else 0 * room
    margins = [*zip(start, room - start, strict=True), (0, 0)]
    if size["centred"]:  # black all around, and then normalised
        values = np.pad(values, margins)
    values = values[..., ::-1] if normalisation["bgr"] else values
    image = (values / 255 - normalisation["mean"]) / normalisation["deviation"]
    seen = np.array(image.shape[:2])
    if not size["centred"]:
        image = np.pad(image, margins)
    return image.astype(np.float32).transpose(2, 0, 1), seen, start[::-1], sides[::-1]


def stretched(values, count, axis):
    """Linear along one axis, without antialiasing, to whole numbers."""
    last = values.shape[axis] - 1
    at = np.clip((np.arange(count) + 0.5) * (last + 1) / count - 0.5, 0, last)
    lower, share = at.astype(int), np.expand_dims(at % 1, axis=(1 - axis, 2))
    upper = np.minimum(lower + 1, last)
    return np.rint(values.take(lower, axis) * (1 - share) + values.take(upper, axis) * share)


if __name__ == "__main__":
    for name, score, box in detect(*sys.argv[1:3]):
        print(f"{name} {score:.2f} {box.round(1).tolist()}")
