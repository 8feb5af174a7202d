"""Published detector weights: where they are, how good they are, and how a file gets here.

Sources of the table: the READMEs of configs/{gfl,retinanet,fcos,atss} of mmdetection 2.x (file
names, AP), the README of TinyTigerPan/BCKD (Google Drive, AP), the README of RangiLyu/nanodet of
November 2020 and its issues 24 and 209 (Google Drive, AP, size), and torchvision's weight API.

No file is trusted by its name alone. The zoo of mmdetection and torchvision end a file's name in
the first 8 hex digits of the SHA-256 of its content (tools/model_converters/publish_model.py;
torch.hub's check_hash). Where nothing longer is known, these digits are what a file is checked
against; where nothing at all is known, it is not checked.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from bckd.system.errors import InputError
from bckd.system.files import sha256_of, what_it_is
from bckd.system.nearest import expected, nearest, nearest_path, question_of
from bckd.system.telling import tell

if TYPE_CHECKING:
    from torch import Tensor

_ZOO = "https://download.openmmlab.com/mmdetection/v2.0"
_ZOO_PAGE = "https://github.com/open-mmlab/mmdetection/tree/2.x/configs"
_DRIVE = "https://drive.google.com/file/d/{}/view"
# Drive sends files below some tens of MB from here; before larger ones it asks a person.
_DRIVE_FILE = "https://drive.usercontent.google.com/download?id={}&export=download"
_TORCHVISION = "https://download.pytorch.org/models"
_TORCHVISION_PAGE = (
    "https://docs.pytorch.org/vision/stable/models/generated/torchvision.models.detection.{}.html"
)
_LARGEST = 1 << 30  # bytes of a file whose size is unknown


@dataclass(frozen=True)
class Pretrained:
    """One published file of weights.

    Attributes:
        name: what a user calls it.
        kind: what reads the file: the official zoo's key map, NanoDet's, or torchvision.
        url: where the file itself is; None where only a person can get it.
        page: where a person finds it.
        file_name: in the folder of downloads.
        size: bytes; None: unknown.
        sha256: of the content, in hex; all of it or its first digits. None: unknown.
        AP: box AP on COCO val2017 as its authors give it, from 0 to 1; None: unknown.
        note: what it is.
    """

    name: str
    kind: Literal["official", "nanodet", "torchvision"]
    url: str | None
    page: str
    file_name: str
    size: int | None
    sha256: str | None
    AP: float | None
    note: str


def _zoo(name: str, file_name: str, AP: float, note: str) -> Pretrained:
    family = name.partition("_")[0]
    url = f"{_ZOO}/{family}/{name}/{file_name}"
    digits = Path(file_name).stem[-8:]
    page = f"{_ZOO_PAGE}/{family}"
    return Pretrained(name, "official", url, page, file_name, None, digits, AP, note)


def _student(backbone: str, drive_id: str, AP: float, note: str) -> Pretrained:
    # Drive tells neither file name nor hash: the name is ours, after the official configuration's.
    name = f"bckd_{backbone}_gflv1_r101_fpn_coco_1x"
    page = _DRIVE.format(drive_id)
    return Pretrained(name, "official", None, page, f"{name}.pth", None, None, AP, note)


def _torchvision(name: str, file_name: str, AP: float, note: str) -> Pretrained:
    return _of_torchvision(name, name, f"{_TORCHVISION}/{file_name}", AP, note)


def _of_torchvision(model: str, name: str, url: str, AP: float | None, note: str) -> Pretrained:
    file_name = urlsplit(url).path.rpartition("/")[2]
    digits = Path(file_name).stem.rpartition("-")[2]
    page = _TORCHVISION_PAGE.format(model)
    return Pretrained(name, "torchvision", url, page, file_name, None, digits, AP, note)


_TABLE = (
    _zoo(
        "gfl_r50_fpn_1x_coco",
        "gfl_r50_fpn_1x_coco_20200629_121244-25944287.pth",
        0.402,
        "GFL, ResNet-50, 12 epochs",
    ),
    _zoo(
        "gfl_r50_fpn_mstrain_2x_coco",
        "gfl_r50_fpn_mstrain_2x_coco_20200629_213802-37bb1edc.pth",
        0.429,
        "GFL, ResNet-50, 24 epochs, multi-scale",
    ),
    _zoo(
        "gfl_r101_fpn_mstrain_2x_coco",
        "gfl_r101_fpn_mstrain_2x_coco_20200629_200126-dd12f847.pth",
        0.447,
        "GFL, ResNet-101, 24 epochs, multi-scale: BCKD's teacher",
    ),
    _student("r50", "1AeGpY4QbQ_PlanuauEogZWAbMRH59t-k", 0.432, "BCKD's student, ResNet-50"),
    _student("r34", "1hJo15YP71xgZdw262Urum89R6324u3dG", 0.420, "BCKD's student, ResNet-34"),
    _student("r18", "1Oy6cSBeFKJx5tooHGRRFOv7QwPdScO6S", 0.386, "BCKD's student, ResNet-18"),
    _zoo(
        "retinanet_r18_fpn_1x_coco",
        "retinanet_r18_fpn_1x_coco_20220407_171055-614fd399.pth",
        0.317,
        "RetinaNet, ResNet-18, 12 epochs",
    ),
    _zoo(
        "retinanet_r50_fpn_1x_coco",
        "retinanet_r50_fpn_1x_coco_20200130-c2398f9e.pth",
        0.365,
        "RetinaNet, ResNet-50, 12 epochs",
    ),
    _zoo(
        "retinanet_r101_fpn_1x_coco",
        "retinanet_r101_fpn_1x_coco_20200130-7a93545f.pth",
        0.385,
        "RetinaNet, ResNet-101, 12 epochs",
    ),
    _zoo(
        "retinanet_r101_fpn_2x_coco",
        "retinanet_r101_fpn_2x_coco_20200131-5560aee8.pth",
        0.389,
        "RetinaNet, ResNet-101, 24 epochs",
    ),
    _zoo(
        "fcos_r50_caffe_fpn_gn-head_1x_coco",
        "fcos_r50_caffe_fpn_gn-head_1x_coco-821213aa.pth",
        0.366,
        "FCOS, Caffe's ResNet-50, 12 epochs",
    ),
    _zoo(
        "fcos_r50_caffe_fpn_gn-head_4x4_1x_coco",
        "fcos_r50_caffe_fpn_gn_1x_4gpu_20200218-7831950c.pth",
        0.366,
        "FCOS, Caffe's ResNet-50, 12 epochs, file of February 2020",
    ),
    _zoo(
        "fcos_r101_caffe_fpn_gn-head_1x_coco",
        "fcos_r101_caffe_fpn_gn-head_1x_coco-0e37b982.pth",
        0.391,
        "FCOS, Caffe's ResNet-101, 12 epochs",
    ),
    _zoo(
        "fcos_r101_caffe_fpn_gn-head_mstrain_640-800_2x_coco",
        "fcos_r101_caffe_fpn_gn-head_mstrain_640-800_2x_coco-511424d6.pth",
        0.408,
        "FCOS, Caffe's ResNet-101, 24 epochs, multi-scale",
    ),
    _zoo(
        "atss_r50_fpn_1x_coco",
        "atss_r50_fpn_1x_coco_20200209-985f7bd0.pth",
        0.394,
        "ATSS, ResNet-50, 12 epochs",
    ),
    _zoo(
        "atss_r101_fpn_1x_coco",
        "atss_r101_fpn_1x_20200825-dfcadd6f.pth",
        0.415,
        "ATSS, ResNet-101, 12 epochs",
    ),
    # The first release's weights; NanoDet's README has since come to link another file,
    # nanodet_m.ckpt, whose hash is not this one.
    Pretrained(
        name="nanodet_m",
        kind="nanodet",
        url=_DRIVE_FILE.format("1EhMqGozKfqEfw8y9ftbi1jhYu86XoW62"),
        page=_DRIVE.format("1EhMqGozKfqEfw8y9ftbi1jhYu86XoW62"),
        file_name="nanodet_m.pth",
        size=4047959,
        sha256="33b130575c416e147a06508d470a52fda1882dae65d10944e8318f814b3abeb4",
        AP=0.206,
        note="NanoDet-m, ShuffleNetV2, 320 x 320 pixels",
    ),
    _torchvision(
        "fcos_resnet50_fpn",
        "fcos_resnet50_fpn_coco-99b0c9b7.pth",
        0.392,
        "torchvision's FCOS, ResNet-50",
    ),
    _torchvision(
        "retinanet_resnet50_fpn",
        "retinanet_resnet50_fpn_coco-eeacb38b.pth",
        0.364,
        "torchvision's RetinaNet, ResNet-50",
    ),
    _torchvision(
        "retinanet_resnet50_fpn_v2",
        "retinanet_resnet50_fpn_v2_coco-5905b1c5.pth",
        0.415,
        "torchvision's improved RetinaNet, ResNet-50",
    ),
)
PRETRAINED: dict[str, Pretrained] = {entry.name: entry for entry in _TABLE}
LISTING = "bckd detectors"  # the command that lists them


def no_detector(source: Path | str) -> str:
    """The sentence that refuses a detector which is neither on the disk nor published."""
    path = Path(source)
    near = [] if path.parent.name else nearest(str(source), PRETRAINED)
    found = nearest_path(path)
    question = question_of([*near, *([str(found)] if found else [])])
    known = f"expected a run's folder, a weights file, or a name that `{LISTING}` lists"
    return f"{source} does not exist; {question}{known}"


def fetch(name: str, folder: Path | None = None) -> Path:
    """The file of published weights: the one that is there, else downloaded.

    Size and SHA-256 are checked, as far as known, each time. Whoever looks finds the whole file
    or none.

    Args:
        name: of `PRETRAINED`.
        folder: to look in and to write to; None: checkpoints/ in torch.hub's folder, which
            TORCH_HOME moves.

    Raises:
        InputError: unknown name; what is there is another file; the download failed; or the
            file can only be fetched by hand, and is not there.
    """
    if name not in PRETRAINED:
        known = expected(name, PRETRAINED, LISTING)
        raise InputError(f"no published weights are called {name!r}; {known}")
    return _fetch(PRETRAINED[name], folder)


def torchvision_weights(model: str, weights: str) -> dict[str, Tensor]:
    """torchvision's published weights of a model, fetched as `fetch` does: checked, and no code.

    ImageNet's, which a backbone merely starts from, may be others under the same name: that is
    told.

    Args:
        model: as torchvision calls it.
        weights: which of its weights, such as "IMAGENET1K_V1".

    Raises:
        InputError: torchvision has no such weights, or as `fetch`.
    """
    from torchvision.models import get_model_weights  # late: see bckd.models.backbones.base

    from bckd.weights.tensor_files import read_saved

    known = [entry.name for entry in get_model_weights(model)]
    if weights not in known:
        listed = expected(weights, known)
        raise InputError(f"torchvision has no weights {weights!r} of {model}; {listed}")
    url = get_model_weights(model)[weights].url
    entry = _of_torchvision(model, f"{weights} of {model}", url, None, "")
    return read_saved(_fetch(entry, None, others=weights.startswith("IMAGENET")))


def _fetch(entry: Pretrained, folder: Path | None, others: bool = False) -> Path:
    import torch  # late: names need neither it nor requests, which the next one imports

    from bckd.system.downloads import download

    folder = Path(torch.hub.get_dir()) / "checkpoints" if folder is None else folder
    path = folder / entry.file_name
    if path.is_file():
        _check_present(entry, path, others)
    elif entry.url is None:
        raise InputError(
            f"{entry.name} has no address to download from: fetch it by hand at {entry.page} and "
            f"save it as {path}"
        )
    else:
        download(entry.url, path, entry.size or _LARGEST, partial(_fault, entry))
    return path


def _check_present(entry: Pretrained, path: Path, others: bool) -> None:
    fault = _fault(entry, path)
    if fault and others and what_it_is(path) is None:
        tell(f"{path} is not {entry.name} as published ({fault}); it is used as it is")
    elif fault:
        raise InputError(
            f"{path} is not {entry.name} as published ({fault}): remove it and fetch "
            f"{entry.url or entry.page} again, or give its path in place of the name to use it "
            "nonetheless"
        )


def _fault(entry: Pretrained, path: Path) -> str | None:
    """What tells the file from the published one; None where nothing does."""
    size = path.stat().st_size
    if entry.size is not None and size != entry.size:
        return f"{size} bytes, expected {entry.size}"
    if entry.sha256 is None:
        return None
    found = sha256_of(path)[: len(entry.sha256)]
    if found == entry.sha256:
        return None
    return what_it_is(path) or f"SHA-256 {found}, expected {entry.sha256}"


def listing(width: int = 80) -> str:
    """The table as plain text: AP and name on a line, below it what that is and where it lies.

    Args:
        width: columns that a line may take.
    """
    indent = " " * 6
    lines = ["  AP  name"]
    for entry in PRETRAINED.values():
        where = urlsplit(entry.url).netloc if entry.url else f"by hand: {entry.page}"
        text = f"{entry.note}; {where}"
        lines.append(f"{_percent(entry.AP):>4}  {entry.name}")
        lines += textwrap.wrap(
            text,
            width,
            initial_indent=indent,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return "\n".join(lines)


def readme_table() -> str:
    """The table in Markdown."""
    rows = ["| name | what | AP | where |", "|---|---|---|---|"]
    for entry in PRETRAINED.values():
        link = f"[{urlsplit(entry.url or entry.page).netloc}]({entry.page})"
        where = link if entry.url else f"by hand: {link}"
        rows.append(f"| `{entry.name}` | {entry.note} | {_percent(entry.AP)} | {where} |")
    return "\n".join(rows)


def _percent(AP: float | None) -> str:
    return "?" if AP is None else f"{100 * AP:.1f}"
