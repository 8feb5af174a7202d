"""COCO from a real server on this machine, which sends it well or badly; and a look at a copy."""

from __future__ import annotations

import hashlib
import io
import json
import random
import re
import stat
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from bckd.commands import data as command
from bckd.datasets import unpacking
from bckd.datasets.coco_copy import ARCHIVES, PARTS, Archive, faults_of_copy, fetch_coco
from bckd.datasets.unpacking import unpack
from bckd.recipes import DataConfig
from bckd.system import downloads
from bckd.system.downloads import download_on
from bckd.system.errors import InputError
from bckd.system.exit_codes import DONE, PARTLY

CONTENT = random.Random(0).randbytes(3_000_001)


@dataclass
class Server:
    """What a server sends by path, in what way, and from which byte on it was asked for it.

    The way: "whole"; "breaks" after half of what is left; "no ranges", which breaks the first time
    and sends all of it again; "elsewhere", another range than asked for; "short", "long": a length
    that is none of the file's; "more": bytes without end, and no length; "moved": from another
    address.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    way: str = "whole"
    asked: list[int] = field(default_factory=list)
    address: str = ""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        if self.way == "moved" and not request.path.startswith("/other/"):
            request.send_response(302)
            request.send_header("Location", f"/other{request.path}")
            request.end_headers()
            return
        content = self.files.get(request.path.removeprefix("/other"))
        if content is None:
            request.send_error(404)
            return
        given = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        start = int(given[1]) if given else 0
        self.asked.append(start)
        if self.way in ("no ranges", "page", "other", "cut"):
            start = 0
        if self.way == "page":
            content = b"<html>please log in</html>"
        if self.way == "other":
            content = content[:2_000_000] + bytes(len(content) - 2_000_000)
        shift = 5 if self.way == "elsewhere" and start else 0
        request.send_response(206 if start else 200)
        if start:
            told = f"bytes {start - shift}-{len(content) - 1}/{len(content)}"
            request.send_header("Content-Range", told)
        rest = content[start - shift :]
        wrong = {"short": -7, "long": 7}.get(self.way, 0)
        if self.way == "page":
            request.send_header("Content-Type", "text/html; charset=utf-8")
        elif self.way not in ("more", "cut"):
            request.send_header("Content-Length", str(len(rest) + wrong))
        request.end_headers()
        if self.way in ("breaks", "cut") or (self.way == "no ranges" and len(self.asked) == 1):
            rest = rest[: max(len(rest) // 2, 1_100_000)]
        with suppress(OSError):  # the client has had enough
            request.wfile.write(rest)
            while self.way == "more":
                request.wfile.write(rest)


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        found.address = f"http://127.0.0.1:{running.server_port}"
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield found
        running.shutdown()
        thread.join()


class TestDownload:
    @pytest.fixture
    def fetch(self, server: Server, tmp_path: Path) -> Callable[[], bytes]:
        server.files["/file.zip"] = CONTENT
        path = tmp_path / "file.zip"

        def check(part: Path) -> str | None:
            return None if part.read_bytes() == CONTENT else "it is another"

        def fetched() -> bytes:
            download_on(f"{server.address}/file.zip", path, len(CONTENT), check, progress=False)
            assert not part_of(path).exists()
            return path.read_bytes()

        return fetched

    @pytest.mark.parametrize(
        ("way", "asked"),
        [
            ("whole", [0]),
            ("moved", [0]),
            ("breaks", [0, 1_500_000, 2_600_000]),
            ("no ranges", [0, 1_500_000]),
        ],
    )
    def test_arrives_whole(
        self, server: Server, fetch: Callable[[], bytes], way: str, asked: list[int]
    ) -> None:
        server.way = way
        assert fetch() == CONTENT
        assert server.asked == asked

    @pytest.mark.parametrize("way", ["whole", "moved", "no ranges"])
    def test_a_later_call_goes_on(
        self, server: Server, fetch: Callable[[], bytes], tmp_path: Path, way: str
    ) -> None:
        part_of(tmp_path / "file.zip").write_bytes(CONTENT[:12345])
        server.way, server.asked = way, [] if way != "no ranges" else [0]
        assert fetch() == CONTENT
        assert server.asked[-1] == 12345

    def test_what_is_all_there_is_not_asked_for(
        self, server: Server, fetch: Callable[[], bytes], tmp_path: Path
    ) -> None:
        part_of(tmp_path / "file.zip").write_bytes(CONTENT)
        assert fetch() == CONTENT
        assert server.asked == []

    def test_more_than_there_should_be_is_begun_anew(
        self, server: Server, fetch: Callable[[], bytes], tmp_path: Path
    ) -> None:
        part_of(tmp_path / "file.zip").write_bytes(CONTENT + b"x")
        assert fetch() == CONTENT
        assert server.asked == [0]

    @pytest.mark.parametrize(
        ("way", "words"),
        [
            ("short", "(2999994 bytes, expected 3000001)"),
            ("long", "3000008 bytes"),
            ("more", "more than 3000001 bytes"),
            ("elsewhere", "asked from byte 9000 on, the server sends 'bytes 8995-"),
        ],
    )
    def test_a_server_that_lies(
        self,
        server: Server,
        fetch: Callable[[], bytes],
        tmp_path: Path,
        way: str,
        words: str,
    ) -> None:
        if way == "elsewhere":
            part_of(tmp_path / "file.zip").write_bytes(CONTENT[:9000])
        server.way = way
        with pytest.raises(InputError) as caught:
            fetch()
        assert words in str(caught.value)
        assert f"what came is kept as {part_of(tmp_path / 'file.zip')}" in str(caught.value)
        assert not (tmp_path / "file.zip").exists()

    def test_breaks_that_bring_little_end_it(
        self, server: Server, fetch: Callable[[], bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(downloads, "_WORTH_ANOTHER", 2_000_000)
        server.way = "breaks"
        with pytest.raises(InputError, match="ended after 1500000 of 3000001 bytes"):
            fetch()
        server.way = "whole"
        assert fetch() == CONTENT
        assert server.asked == [0, 1_500_000]

    @pytest.mark.parametrize(
        ("way", "told"),
        [
            ("page", r"sends a page \(text/html\) in place of a file"),
            ("other", "sends another content than what is there"),
            ("no ranges", "ended after 1500000 of 3000001 bytes"),
            ("cut", "ended after 1500000 of 2500000 bytes again"),
        ],
    )
    def test_what_came_outlives_a_bad_answer(
        self, server: Server, fetch: Callable[[], bytes], tmp_path: Path, way: str, told: str
    ) -> None:
        """A page to log in, another file, a server that knows no ranges and breaks earlier."""
        part = part_of(tmp_path / "file.zip")
        part.write_bytes(CONTENT[:2_500_000])
        server.way = way
        with pytest.raises(InputError, match=told):
            fetch()
        assert part.read_bytes() == CONTENT[:2_500_000]
        server.way = "whole"
        assert fetch() == CONTENT

    def test_a_page_is_not_the_begin_of_a_file(
        self, server: Server, fetch: Callable[[], bytes], tmp_path: Path
    ) -> None:
        server.way = "page"
        with pytest.raises(InputError, match=r"a page \(text/html\)"):
            fetch()
        assert part_of(tmp_path / "file.zip").read_bytes() == b""

    def test_another_content_is_removed(
        self, server: Server, fetch: Callable[[], bytes], tmp_path: Path
    ) -> None:
        server.files["/file.zip"] = CONTENT[::-1]
        with pytest.raises(InputError, match=r"is not file.zip \(it is another\), and was removed"):
            fetch()
        assert not list(tmp_path.iterdir())


def part_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def zipped(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def jpeg(seed: int) -> bytes:
    stream = io.BytesIO()
    pixels = random.Random(seed).randbytes(40 * 30 * 3)
    Image.frombytes("RGB", (40, 30), pixels).save(stream, "jpeg")
    return stream.getvalue()


NAMES = [f"{n:012d}.jpg" for n in range(4)]


@pytest.fixture
def archives(server: Server) -> list[Archive]:
    """A COCO of four images a part, on the server."""
    listing = {
        "images": [
            {"id": n, "file_name": name, "width": 40, "height": 30} for n, name in enumerate(NAMES)
        ],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 9, 9]}],
        "categories": [{"id": 1, "name": "thing"}],
    }
    images = {name: jpeg(n) for n, name in enumerate(NAMES)}
    files = {name: json.dumps(listing).encode() for name in PARTS.values()}
    files |= {f"{folder}/{name}": content for folder in PARTS for name, content in images.items()}
    found = []
    for archive in ARCHIVES:
        mine = {name: x for name, x in files.items() if name.startswith(f"{archive.folder}/")}
        content = zipped({f"{archive.folder}/": b"", **mine})
        server.files[f"/{archive.name}"] = content
        url, md5 = f"{server.address}/{archive.name}", hashlib.md5(content).hexdigest()
        found.append(replace(archive, url=url, size=len(content), md5=md5, unpacked=len(content)))
    return found


class TestFetch:
    def test_it_is_the_layout_of_a_recipe(self, archives: list[Archive], tmp_path: Path) -> None:
        root = tmp_path / "coco"
        fetch_coco(root, archives, progress=False)
        assert not list(faults_of_copy(root, progress=False))
        assert {path.name for path in root.iterdir()} == {"annotations", "train2017", "val2017"}
        own = DataConfig()
        assert PARTS == {
            own.train_images: own.train_annotations,
            own.val_images: own.val_annotations,
        }
        assert own.root == command.CocoOptions().root

    def test_what_is_there_is_left_alone(
        self,
        server: Server,
        archives: list[Archive],
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        fetch_coco(tmp_path, archives, progress=False)
        server.files.clear()
        (tmp_path / "val2017" / NAMES[0]).unlink()
        fetch_coco(tmp_path, archives, progress=False)
        assert (
            f"{tmp_path / 'val2017'} is there; `bckd data coco --verify`" in capsys.readouterr().out
        )
        assert not (tmp_path / "val2017" / NAMES[0]).exists()

    def test_a_folder_without_what_it_should_hold(
        self, archives: list[Archive], tmp_path: Path
    ) -> None:
        (tmp_path / "annotations").mkdir()
        with pytest.raises(InputError, match="annotations is there without .*train2017.json; move"):
            fetch_coco(tmp_path, archives, progress=False)

    def test_an_archive_that_was_fetched_by_hand(
        self, server: Server, archives: list[Archive], tmp_path: Path
    ) -> None:
        content = server.files.pop(f"/{archives[1].name}")
        path = tmp_path / archives[1].name
        path.write_bytes(content[:-1] + b"x")
        with pytest.raises(InputError, match=r"val2017.zip is not the published one \(its MD5 is"):
            fetch_coco(tmp_path, archives, progress=False)
        path.write_bytes(content)
        fetch_coco(tmp_path, archives, progress=False)
        assert not path.exists() and (tmp_path / "val2017" / NAMES[3]).exists()

    def test_too_little_space(
        self, server: Server, archives: list[Archive], tmp_path: Path
    ) -> None:
        large = [replace(archives[0], unpacked=10**18), *archives[1:]]
        with pytest.raises(InputError, match=r"takes 1000000000\.0 GB of free space, .* has "):
            fetch_coco(tmp_path / "new" / "coco", large, progress=False)
        assert not server.asked and not (tmp_path / "new").exists()

    def test_the_published_ones_need_41_gigabytes(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As the page says; no server is asked."""
        usage = partial(replace_free, 40_000_000_000)
        monkeypatch.setattr(unpacking.shutil, "disk_usage", usage)
        with pytest.raises(InputError, match=r"40\.\d GB of free space"):
            fetch_coco(tmp_path, progress=False)


def replace_free(free: int, place: Path) -> object:
    return type("Usage", (), {"free": free})()


class TestUnpacking:
    @pytest.mark.parametrize(
        "name",
        ["../x", "val2017/../../x", "/x", "val2017//x", "val2017", "other/x", "val2017/..\\x"]
        + ["val2017/C:x", "val2017/.hidden", "val2017/x\n"],
    )
    def test_no_file_leaves_the_folder(self, tmp_path: Path, name: str) -> None:
        archive = tmp_path / "in" / "val2017.zip"
        archive.parent.mkdir()
        archive.write_bytes(zipped({"val2017/good.jpg": b"1", name: b"2"}))
        with pytest.raises(InputError, match=r"expected files below val2017/"):
            unpack(archive, tmp_path / "out" / "val2017", progress=False)
        assert list(tmp_path.rglob("*")) == [archive.parent, archive]

    def test_no_link_is_made(self, tmp_path: Path) -> None:
        archive = tmp_path / "val2017.zip"
        link = zipfile.ZipInfo("val2017/x")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        with zipfile.ZipFile(archive, "w") as opened:
            opened.writestr(link, "/etc")
        with pytest.raises(InputError, match="a link"):
            unpack(archive, tmp_path / "val2017", progress=False)

    @pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
    def test_a_damaged_archive_leaves_nothing(self, tmp_path: Path, damage: str) -> None:
        content = bytearray(zipped({"val2017/a.jpg": b"a" * 1000, "val2017/b.jpg": b"b" * 1000}))
        archive = tmp_path / "val2017.zip"
        content[1500] ^= 1
        archive.write_bytes({"cut": content[:900], "flipped": content, "empty": b""}[damage])
        with pytest.raises(InputError, match="can't be unpacked"):
            unpack(archive, tmp_path / "val2017", progress=False)
        assert list(tmp_path.iterdir()) == [archive]


class TestVerify:
    def test_all_faults_are_named(
        self,
        archives: list[Archive],
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        fetch_coco(tmp_path, archives, progress=False)
        assert command.run(["coco", "--root", str(tmp_path), "--verify"]) == DONE
        assert capsys.readouterr().out.endswith("is a whole copy of COCO 2017\n")
        folder = tmp_path / "train2017"
        (folder / NAMES[0]).unlink()
        (folder / NAMES[1]).write_bytes(jpeg(1)[:-200])
        (folder / NAMES[2]).write_bytes(b"")
        Image.new("RGB", (30, 40)).save(folder / NAMES[3])
        (tmp_path / "annotations" / "instances_val2017.json").unlink()
        assert command.run(["coco", "--root", str(tmp_path), "--verify"]) == PARTLY
        *lines, last = capsys.readouterr().out.splitlines()
        assert last.endswith("is no whole copy of COCO 2017: 5 faults")
        words = ("is missing", "cannot be decoded", "is empty", "is 30x40 pixels", "not exist")
        assert len(lines) == 5
        for line, word, name in zip(lines, words, [*NAMES, "instances_val2017.json"], strict=True):
            assert word in line and name in line

    def test_pixels_that_cannot_be_decoded(self, archives: list[Archive], tmp_path: Path) -> None:
        """Only decoding shows it: header and end are as they should be."""
        fetch_coco(tmp_path, archives, progress=False)
        path = tmp_path / "val2017" / NAMES[2]
        noise = random.Random(0).randbytes(40 * 30 * 3)
        Image.frombytes("RGB", (40, 30), noise).save(path, "png")
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(content)
        (line,) = faults_of_copy(tmp_path, progress=False)
        assert f"{path} cannot be decoded" in line

    def test_an_unknown_word(self) -> None:
        with pytest.raises(InputError, match="'data verify' is unknown; expected one of check, co"):
            command.run(["verify"])

    def test_without_a_word_they_are_listed(self, capsys: pytest.CaptureFixture[str]) -> None:
        command.run([])
        assert "bckd data coco" in capsys.readouterr().out
