"""A worked example: objects in a photograph, by a file of `bckd export --onnx --preprocess`.

    python onnx_client.py student.onnx photograph.jpg

It needs onnxruntime, numpy and Pillow, and neither PyTorch nor bckd.
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def detect(file, photograph, threshold=0.3):
    """Names, scores and boxes (x1, y1, x2, y2 in pixels of the upright photograph), best first."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = json.loads(session.get_modelmeta().custom_metadata_map["class_names"])
    pixels = np.array(ImageOps.exif_transpose(Image.open(photograph)).convert("RGB"))
    boxes, scores, labels, _ = session.run(None, {"pixels": pixels[None]})
    found = zip(labels, scores, boxes, strict=True)
    return [(names[label], score, box) for label, score, box in found if score >= threshold]


if __name__ == "__main__":
    for name, score, box in detect(*sys.argv[1:3]):
        print(f"{name} {score:.2f} {box.round(1).tolist()}")
