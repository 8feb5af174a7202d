"""The worked examples of exported files in programs that have neither PyTorch nor this package."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from bckd.datasets.scene_drawing import draw_scene
from bckd.export import exporting, graphs
from bckd.export.exporting import run_export
from bckd.export.options import ExportOptions
from bckd.prediction import LoadedDetector, load

HERE = Path(__file__).parent
TEACHER = HERE.parents[1] / "data" / "weights" / "scenes_teacher.safetensors"
CLIENTS = {"onnx_client.py": True, "onnx_client_prepared.py": False}
BOXES, SCORES = 0.3, 0.01  # pixels of the photograph


@pytest.fixture(scope="module")
def teacher() -> LoadedDetector:
    return load(TEACHER, device="cpu")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """The scenes' teacher as ONNX, without the preprocessing and with it; traced once."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("exported")
    made = {preprocess: folder / f"{preprocess}.onnx" for preprocess in (False, True)}
    export, once = torch.onnx.export, []

    def converted(*program: object, **options: object) -> object:
        once.append(once[0] if once else export(*program, **options))
        return once[0]

    with pytest.MonkeyPatch.context() as patch:
        trace = cache(lambda checkpoint: graphs.trace(load(TEACHER, device="cpu")))
        patch.setattr(exporting, "trace", lambda checkpoint: trace(None))
        patch.setattr(torch.onnx, "export", converted)
        for preprocess, path in made.items():
            options = ExportOptions(onnx=path, preprocess=preprocess)
            agreement = run_export(TEACHER, options)["onnx"]
            assert agreement.detections > 3 and agreement.missed == 0
    return made


@pytest.fixture(scope="module")
def photograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes side by side, 611 x 300 pixels, stored on their side."""
    pixels = np.concatenate([draw_scene(0, index)[0] for index in (0, 1)], axis=1)
    wide = Image.fromarray(pixels.astype(np.uint8)).resize((611, 300))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # to be shown turned back
    path = tmp_path_factory.mktemp("photograph") / "photograph.jpg"
    wide.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
    return path


@pytest.mark.parametrize("client", CLIENTS)
def test_it_finds_what_predict_finds(
    client: str, files: dict[bool, Path], photograph: Path, teacher: LoadedDetector
) -> None:
    code = f"""
import json, runpy, sys
sys.modules.update(torch=None, torchvision=None, bckd=None)
detect = runpy.run_path({str(HERE / client)!r})["detect"]
found = detect({str(files[CLIENTS[client]])!r}, {str(photograph)!r}, 0.2)
print(json.dumps([[name, float(score), box.tolist()] for name, score, box in found]))
"""
    run = [sys.executable, "-c", code]
    said = subprocess.run(run, check=True, capture_output=True, text=True, timeout=300).stdout
    found, expected = json.loads(said), teacher.predict(photograph, threshold=0.2)
    assert len(expected) >= 6 and max(expected.boxes[:, 2]) > 400
    for name, score, box in zip(
        expected.names, expected.scores.tolist(), expected.boxes.tolist(), strict=True
    ):
        places = [other for other in found if other[0] == name]
        near = min(places, key=lambda other: np.abs(np.subtract(other[2], box)).max())
        assert np.abs(np.subtract(near[2], box)).max() < BOXES
        assert abs(near[1] - score) < SCORES
    assert len(found) == len(expected)


def test_pixels_of_several_images(
    files: dict[bool, Path], photograph: Path, teacher: LoadedDetector
) -> None:
    """Each of a batch as alone."""
    import onnxruntime

    with Image.open(photograph) as image:
        stored = np.array(image)  # not turned
    batch = np.stack([stored, stored[::-1], 0 * stored])
    session = onnxruntime.InferenceSession(files[True], providers=["CPUExecutionProvider"])
    boxes, scores, _, counts = session.run(None, {"pixels": batch})
    for n, pixels in enumerate(batch):
        alone = session.run(None, {"pixels": pixels[None]})
        start = counts[:n].sum()
        assert counts[n] == len(alone[1])
        np.testing.assert_allclose(scores[start : start + counts[n]], alone[1], atol=1e-6)
        np.testing.assert_allclose(boxes[start : start + counts[n]], alone[0], atol=1e-3)
    assert counts[:2].min() > 3
