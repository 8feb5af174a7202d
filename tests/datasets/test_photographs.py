"""A few photographs of COCO, from a server on this machine that answers as COCO's does."""

from __future__ import annotations

import io
import json
import os
import re
import socket
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bckd.datasets import photographs
from bckd.datasets.annotations import read_annotations
from bckd.datasets.photographs import ANNOTATIONS, ARCHIVE, IMAGES, fetch_photographs
from bckd.system.errors import InputError

SIZES = {9: (40, 30), 3: (32, 48), 5: (50, 20)}  # (width, height) by id, in the file's order
OTHER_PART = os.urandom(1_000_000)  # what else is in the archive; does not compress


@dataclass
class Server:
    """What it has by path, what it was asked for, and how many bytes it sent."""

    files: dict[str, bytes]
    address: str = ""
    ranges: bool = True
    asked: list[str] = field(default_factory=list)
    sent: int = 0


def jpeg(size: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def annotations() -> dict[str, Any]:
    return {
        "info": {},
        "licenses": [{"id": 1, "name": "a licence"}],
        "images": [
            {"id": i, "file_name": f"{i}.jpg", "width": w, "height": h, "license": 1}
            for i, (w, h) in SIZES.items()
        ],
        "annotations": [
            {
                "id": 10 * i,
                "image_id": i,
                "category_id": 18,
                "bbox": [1, 2, 10.5, 8],
                "area": 60.5,
                "iscrowd": 0,
                "segmentation": [[1, 2, 3, 4, 5, 6]],
            }
            for i in SIZES
        ],
        "categories": [{"id": 18, "name": "dog"}],
    }


def archive(member: str = ANNOTATIONS, **changes: Any) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("annotations/captions_val2017.json", OTHER_PART)
        file.writestr(member, json.dumps({**annotations(), **changes}))
        file.writestr("annotations/instances_train2017.json", OTHER_PART)
    return buffer.getvalue()


@pytest.fixture
def server() -> Iterator[Server]:
    images = {f"/{IMAGES}/{i}.jpg": jpeg(size) for i, size in SIZES.items()}
    found = Server({f"/{ARCHIVE}": archive(), **images})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append(self.path)
            if self.path not in found.files:
                self.send_error(404)
                return
            content, asked = found.files[self.path], self.headers.get("Range")
            if asked and found.ranges:
                first, last = re.fullmatch(r"bytes=(\d*)-(\d*)", asked).groups()
                start = int(first) if first else max(0, len(content) - int(last))
                end = min(int(last), len(content) - 1) if first and last else len(content) - 1
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{end}/{len(content)}")
                content = content[start : end + 1]
            else:
                self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            found.sent += len(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        found.address = f"http://127.0.0.1:{running.server_port}"
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield found
        running.shutdown()
        thread.join()


def fetch(root: Path, server: Server, count: int = 2) -> None:
    fetch_photographs(root, count, server.address, progress=False)


def files(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def test_the_first_by_id_in_the_layout_of_coco(server: Server, tmp_path: Path) -> None:
    fetch(tmp_path, server)
    assert files(tmp_path) == {ANNOTATIONS, f"{IMAGES}/3.jpg", f"{IMAGES}/5.jpg"}
    for i in (3, 5):
        path = tmp_path / IMAGES / f"{i}.jpg"
        assert path.read_bytes() == server.files[f"/{IMAGES}/{i}.jpg"]
    found = read_annotations(tmp_path / ANNOTATIONS)
    assert [image.id for image in found.images] == [3, 5]
    assert found.class_names == ("dog",) and found.category_ids == (18,)
    content = json.loads((tmp_path / ANNOTATIONS).read_text())
    assert content["licenses"] == annotations()["licenses"]
    whole = {entry["image_id"]: entry for entry in annotations()["annotations"]}
    for entry in content["annotations"]:
        expected = whole[entry["image_id"]]
        del expected["segmentation"]
        assert entry == expected


def test_a_part_of_the_archive_is_enough(server: Server, tmp_path: Path) -> None:
    fetch(tmp_path, server)
    assert server.sent < 0.1 * len(server.files[f"/{ARCHIVE}"])


def test_what_is_there_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / IMAGES).mkdir(parents=True)
    (tmp_path / IMAGES / "3.jpg").write_bytes(server.files[f"/{IMAGES}/3.jpg"])
    fetch(tmp_path, server)
    assert f"/{IMAGES}/3.jpg" not in server.asked and f"/{IMAGES}/5.jpg" in server.asked
    server.asked.clear()
    fetch(tmp_path, server)
    assert server.asked == []


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "the server answered 404 Not Found"),
        (b"<html>come back later</html>", "it is a web page"),
        (jpeg(SIZES[5])[:-200], "truncated"),
        (jpeg((20, 50)), "it is 20x50 pixels, listed as 50x20"),
    ],
    ids=["absent", "no image", "cut", "another image"],
)
def test_an_image_that_does_not_arrive(
    content: bytes | None, what: str, server: Server, tmp_path: Path
) -> None:
    if content is None:
        del server.files[f"/{IMAGES}/5.jpg"]
    else:
        server.files[f"/{IMAGES}/5.jpg"] = content
    with pytest.raises(InputError, match=what) as caught:
        fetch(tmp_path, server)
    assert f"fetch {server.address}/{IMAGES}/5.jpg by hand" in str(caught.value)
    assert ".part" not in str(caught.value)
    assert files(tmp_path) <= {f"{IMAGES}/3.jpg"}  # no annotations, no half of an image
    server.files[f"/{IMAGES}/5.jpg"] = jpeg(SIZES[5])
    fetch(tmp_path, server)
    assert ANNOTATIONS in files(tmp_path)


def test_an_archive_that_is_not_what_it_should_be(server: Server, tmp_path: Path) -> None:
    for content, what in (
        (archive("annotations/panoptic_val2017.json"), "no item named"),
        (b"no archive" * 20, "not a zip file"),
        (archive(images=[{"file_name": "3.jpg"}]), "id"),
    ):
        server.files[f"/{ARCHIVE}"] = content
        with pytest.raises(InputError, match=rf"{ANNOTATIONS} could not be read from .*{what}"):
            fetch(tmp_path, server)
    server.ranges = False
    with pytest.raises(InputError, match="doesn't support range requests"):
        fetch(tmp_path, server)
    assert files(tmp_path) == set()


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("../../x.jpg", 32),
        ("/x.jpg", 32),
        ("sub/x.jpg", 32),
        ("..\\x.jpg", 32),
        ("x:y.jpg", 32),
        (".hidden", 32),
        ("x.jpg?y", 32),
        ("x" * 400 + ".jpg", 32),
        (7, 32),
        (None, 32),
        ("3.jpg", "wide"),
        ("3.jpg", None),
    ],
)
def test_entries_that_are_not_as_those_of_coco(
    server: Server, tmp_path: Path, name: object, size: object
) -> None:
    """No name leaves the folder, or the address."""
    entry = {"id": 1, "file_name": name, "width": size, "height": 48}
    server.files[f"/{ARCHIVE}"] = archive(images=[entry])
    with pytest.raises(InputError, match="image 1 has .*; expected ") as caught:
        fetch(tmp_path / "root", server)
    assert "\n" not in str(caught.value)
    assert [path for path in server.asked if path != f"/{ARCHIVE}"] == []
    assert files(tmp_path) == set()


def test_what_is_too_large_is_given_up(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(photographs, "LARGEST_IMAGE", 300)
    with pytest.raises(InputError, match="bytes, expected 300 or less"):
        fetch(tmp_path, server)
    monkeypatch.setattr(photographs, "LARGEST_ANNOTATIONS", 600)
    server.files[f"/{ARCHIVE}"] = archive(licenses=[" " * 1_000_000])  # packs to a thousandth
    with pytest.raises(InputError, match="bytes, expected 600 or less"):  # the archive's index
        fetch(tmp_path, server)
    monkeypatch.setattr(photographs, "LARGEST_ANNOTATIONS", 100_000)
    with pytest.raises(
        InputError, match="100[0-9]{4} bytes once unpacked, expected 100000 or less"
    ):
        fetch(tmp_path, server)
    assert files(tmp_path) <= {f"{IMAGES}/3.jpg", f"{IMAGES}/5.jpg"}


def test_photographs_come_by_https() -> None:
    assert photographs.SERVER.startswith("https://")


def test_the_folder_is_a_file(server: Server, tmp_path: Path) -> None:
    (tmp_path / "root").write_text("keep me")
    with pytest.raises(InputError, match="can't be written"):
        fetch(tmp_path / "root", server)
    assert server.asked == [] and (tmp_path / "root").read_text() == "keep me"


def test_no_server(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(InputError, match=r"annotations_trainval2017\.zip: Connection refused"):
        fetch_photographs(tmp_path, 2, address, progress=False)
    assert files(tmp_path) == set()
