"""The table of published weights, and `fetch` against a real server on this machine."""

from __future__ import annotations

import _thread
import hashlib
import os
import random
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import get_args
from urllib.parse import urlsplit

import pytest
import requests
import torch
from torchvision.models import get_model_weights

from bckd.system import downloads
from bckd.system.errors import InputError
from bckd.weights import published
from bckd.weights.published import PRETRAINED, Pretrained, fetch, listing, readme_table
from bckd.zoo.torchvision_detectors import TorchvisionName

CONTENT = random.Random(0).randbytes(700_001)  # some chunks and a bit
DIGEST = hashlib.sha256(CONTENT).hexdigest()
FILE = f"tiny-{DIGEST[:8]}.pth"
HALF = len(CONTENT) // 2


_TO = {"round": "/round/again", "nowhere": "http://[bad", "other": "gopher://x/y", "text": "x y"}


@dataclass
class Server:
    """Where the server listens and what it was asked for."""

    address: str
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    """Serves CONTENT under any path, well or badly, as the first folder of the path says."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append(self.path)
            how = self.path.split("/")[1]
            if how == "absent":
                self.send_error(404)
                return
            if how == "moved":
                self.send_response(302)
                self.send_header("Location", "/whole/elsewhere")
                self.end_headers()
                return
            if how in _TO:
                self.send_response(302)
                self.send_header("Location", _TO[how])
                self.end_headers()
                return
            if how == "head":
                with suppress(OSError):  # a head that never ends
                    while not time.sleep(0.02):
                        self.wfile.write(b"X")
                return
            if how == "flooded":  # a redirection with a body
                self.send_response(302)
                self.send_header("Location", "/whole/elsewhere")
                self.end_headers()
                with suppress(OSError):
                    while True:
                        self.wfile.write(CONTENT)
                return
            if how in ("flood", "drip"):
                self.send_response(200)
                self.end_headers()
                with suppress(OSError):  # until the client has had enough
                    while how == "flood" or not time.sleep(0.02):
                        self.wfile.write(CONTENT if how == "flood" else b"...")
                return
            if how == "garbled":
                self.wfile.write(b"no HTTP\r\n\r\n")
                return
            if how == "silent":
                self.close_connection = True
                return
            self.send_response(200)
            if how != "unsized":
                length = "9" * 400 if how == "endless" else str(len(CONTENT))
                self.send_header("Content-Length", length)
            self.end_headers()
            self.wfile.write(CONTENT[:HALF])
            if how == "interrupted":
                _thread.interrupt_main()  # Ctrl-C, while the client waits for the second half
            if how != "cut":
                self.wfile.write(CONTENT[HALF:])

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        found = Server(f"http://127.0.0.1:{running.server_port}")
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield found
        running.shutdown()
        thread.join()


@pytest.fixture
def entry(server: Server, monkeypatch: pytest.MonkeyPatch) -> Pretrained:
    """The entry "tiny", served whole."""
    return publish(
        monkeypatch,
        Pretrained(
            name="tiny",
            kind="official",
            url=f"{server.address}/whole/{FILE}",
            page="https://example.org/zoo",
            file_name=FILE,
            size=len(CONTENT),
            sha256=DIGEST,
            AP=0.402,
            note="a test",
        ),
    )


def publish(monkeypatch: pytest.MonkeyPatch, entry: Pretrained) -> Pretrained:
    monkeypatch.setitem(PRETRAINED, entry.name, entry)
    return entry


def refused(folder: Path) -> str:
    """The sentence with which fetching "tiny" is refused; the folder holds what it held before."""
    before = {path: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}
    with pytest.raises(InputError) as raised:
        fetch("tiny", folder)
    after = {path: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}
    assert after == before
    sentence = str(raised.value)
    assert "\n" not in sentence
    return sentence


class TestTable:
    def test_every_entry_is_complete(self) -> None:
        for name, entry in PRETRAINED.items():
            assert entry.name == name
            assert urlsplit(entry.page).scheme == "https"
            assert entry.file_name.endswith(".pth")
            assert entry.AP is not None and 0.2 < entry.AP < 0.5
            if entry.url is not None:
                assert urlsplit(entry.url).scheme == "https"
                named = entry.url.endswith("/" + entry.file_name)
                assert named or entry.page.split("/")[-2] in entry.url  # Drive's have an id

    def test_what_is_downloaded_is_checked(self) -> None:
        """By all digits of its hash where they are known, else by those in its name."""
        for entry in PRETRAINED.values():
            if entry.url is not None:
                assert entry.sha256 is not None and len(bytes.fromhex(entry.sha256)) in (4, 32)
                known = len(entry.sha256) == 64 and entry.size is not None
                assert known or entry.file_name.endswith(f"-{entry.sha256}.pth")

    def test_files_do_not_collide(self) -> None:
        assert len({entry.file_name for entry in PRETRAINED.values()}) == len(PRETRAINED)

    def test_torchvision_entries_are_its_own(self) -> None:
        entries = {e.name: e for e in PRETRAINED.values() if e.kind == "torchvision"}
        assert set(entries) == set(get_args(TorchvisionName))
        for name, entry in entries.items():
            assert entry.url == get_model_weights(name).COCO_V1.url
        precisions = [entries[name].AP for name in get_args(TorchvisionName)]
        assert precisions == [0.392, 0.364, 0.415]

    def test_the_papers_teacher(self) -> None:
        teacher = PRETRAINED["gfl_r101_fpn_mstrain_2x_coco"]
        assert teacher.url == (
            "https://download.openmmlab.com/mmdetection/v2.0/gfl/gfl_r101_fpn_mstrain_2x_coco/"
            "gfl_r101_fpn_mstrain_2x_coco_20200629_200126-dd12f847.pth"
        )
        assert (teacher.sha256, teacher.AP) == ("dd12f847", 0.447)

    def test_listing_names_each_with_what_it_is_and_where(self) -> None:
        words = " ".join(listing().split())
        for entry in PRETRAINED.values():
            where = f"by hand: {entry.page}" if entry.url is None else urlsplit(entry.url).netloc
            assert f"{100 * (entry.AP or 0):.1f} {entry.name} {entry.note}; {where}" in words
        assert max(map(len, listing().splitlines())) <= 80

    def test_readme_table_has_a_row_an_entry(self) -> None:
        rows = readme_table().splitlines()
        assert all(row.count("|") == 5 for row in rows)
        assert [row.split("`")[1] for row in rows[2:]] == list(PRETRAINED)

    def test_unknown_precision_is_a_question_mark(
        self, entry: Pretrained, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publish(monkeypatch, replace(entry, AP=None))
        assert f"? {entry.name}" in " ".join(listing().split())
        assert "| ? |" in readme_table().splitlines()[-1]


class TestDownload:
    def test_the_file_arrives_and_is_not_asked_for_again(
        self, entry: Pretrained, server: Server, tmp_path: Path
    ) -> None:
        folder = tmp_path / "new" / "folder"
        path = fetch("tiny", folder)
        assert path == folder / FILE
        assert path.read_bytes() == CONTENT
        assert fetch("tiny", folder) == path
        assert server.asked == [f"/whole/{FILE}"]
        assert list(folder.iterdir()) == [path]

    def test_it_lands_where_torch_home_says(
        self, entry: Pretrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        monkeypatch.setattr(torch.hub, "_hub_dir", None)
        assert fetch("tiny") == tmp_path / "hub" / "checkpoints" / FILE

    @pytest.mark.parametrize("how", ["moved", "unsized"])
    def test_redirections_and_unknown_lengths_are_followed(
        self,
        how: str,
        entry: Pretrained,
        server: Server,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        publish(monkeypatch, replace(entry, url=f"{server.address}/{how}/{FILE}"))
        assert fetch("tiny", tmp_path).read_bytes() == CONTENT

    def test_the_first_digits_of_the_hash_are_enough(
        self, entry: Pretrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publish(monkeypatch, replace(entry, size=None, sha256=DIGEST[:8]))
        assert fetch("tiny", tmp_path).read_bytes() == CONTENT

    def test_downloads_at_once_do_not_meet(
        self, entry: Pretrained, server: Server, tmp_path: Path
    ) -> None:
        with ThreadPoolExecutor(8) as pool:
            paths = list(pool.map(lambda _: fetch("tiny", tmp_path), range(8)))
        assert set(paths) == {tmp_path / FILE}
        assert list(tmp_path.iterdir()) == [tmp_path / FILE]
        assert (tmp_path / FILE).read_bytes() == CONTENT

    @pytest.mark.skipif(os.name == "nt", reason="Windows has no permission bits")
    def test_others_may_read_it(self, entry: Pretrained, tmp_path: Path) -> None:
        plain = tmp_path / "plain"
        plain.touch()
        assert fetch("tiny", tmp_path).stat().st_mode == plain.stat().st_mode


class TestRefusal:
    @pytest.mark.parametrize(
        ("how", "reason"),
        [
            ("absent", "the server answered 404 Not Found"),
            ("cut", f"the connection ended after {HALF} of {len(CONTENT)} bytes"),
            ("garbled", "no HTTP"),
            ("silent", "Remote end closed connection without response"),
            ("flood", f"more than {len(CONTENT)} bytes"),
            ("endless", f"{'9' * 400} bytes, expected {len(CONTENT)} or less"),
            ("drip", "below 10000 bytes a second"),
            ("head", "no answer in 0.3 seconds"),
            ("round", "Exceeded 5 redirects."),
            ("flooded", f"more than {len(CONTENT)} bytes"),
            ("nowhere", "Invalid IPv6 URL"),
        ],
    )
    def test_a_failed_download_says_what_to_do(
        self,
        how: str,
        reason: str,
        entry: Pretrained,
        server: Server,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        if how in ("drip", "head"):
            monkeypatch.setattr(downloads, "SECONDS", 0.3)
        url = f"{server.address}/{how}/{FILE}"
        publish(monkeypatch, replace(entry, url=url))
        assert refused(tmp_path) == (
            f"{FILE} could not be downloaded ({reason}): fetch {url} by hand and save it as "
            f"{tmp_path / FILE}"
        )

    @pytest.mark.parametrize("how", ["other", "text"])
    def test_redirections_that_lead_nowhere(
        self,
        how: str,
        entry: Pretrained,
        server: Server,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        publish(monkeypatch, replace(entry, url=f"{server.address}/{how}/{FILE}"))
        assert refused(tmp_path).startswith(f"{FILE} could not be downloaded (")

    @pytest.mark.parametrize(
        ("url", "target", "stays"),
        [
            ("https://a.org/x", "http://a.org/y", False),
            ("https://a.org/x", "gopher://a.org/y", False),
            ("https://a.org/x", "https://b.org/y", True),
            ("https://a.org/x", "//b.org/y:z", True),
            ("https://a.org/x", "/y:z", True),
            ("http://a.org/x", "http://b.org/y", True),
        ],
    )
    def test_https_leads_to_https_alone(self, url: str, target: str, stays: bool) -> None:
        answer = requests.Response()
        answer.status_code, answer.url, answer.headers["Location"] = 302, url, target
        session = downloads.Limited(1)
        if stays:
            assert session.get_redirect_target(answer) == target
        else:
            with pytest.raises(ConnectionError, match="a.org/y, which is not https"):
                session.get_redirect_target(answer)

    def test_no_more_than_a_stated_size_where_none_is_known(
        self,
        entry: Pretrained,
        server: Server,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(published, "_LARGEST", 1000)
        for how, fault in (
            ("whole", f"{len(CONTENT)} bytes, expected 1000 or less"),
            ("flood", "more than 1000 bytes"),
        ):
            url = f"{server.address}/{how}/{FILE}"
            publish(monkeypatch, replace(entry, url=url, size=None))
            assert f"({fault})" in refused(tmp_path)

    def test_no_server(
        self, entry: Pretrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))  # bound but not listening: nobody else gets the port
            url = f"http://127.0.0.1:{closed.getsockname()[1]}/{FILE}"
            publish(monkeypatch, replace(entry, url=url))
            sentence = refused(tmp_path)
        assert "refused" in sentence
        assert url in sentence and str(tmp_path / FILE) in sentence

    def test_a_server_that_stops_sending(
        self, entry: Pretrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(downloads, "SECONDS", 0.1)
        with socket.create_server(("127.0.0.1", 0)) as deaf:  # connects, never answers
            url = f"http://127.0.0.1:{deaf.getsockname()[1]}/{FILE}"
            publish(monkeypatch, replace(entry, url=url))
            assert "(no answer in 0.1 seconds)" in refused(tmp_path)

    @pytest.mark.parametrize(
        ("changes", "fault"),
        [
            ({"sha256": "0" * 64}, f"SHA-256 {DIGEST}, expected {'0' * 64}"),
            ({"sha256": "01234567"}, f"SHA-256 {DIGEST[:8]}, expected 01234567"),
            ({"size": 5}, f"{len(CONTENT)} bytes, expected 5 or less"),
        ],
    )
    def test_another_file_is_not_kept(
        self,
        changes: dict,
        fault: str,
        entry: Pretrained,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        publish(monkeypatch, replace(entry, **changes))
        assert f"{FILE} could not be downloaded ({fault}): fetch {entry.url}" in refused(tmp_path)

    @pytest.mark.parametrize("content", [CONTENT[:HALF], b"?" * len(CONTENT)])
    def test_a_wrong_file_that_is_there_is_left_alone(
        self, content: bytes, entry: Pretrained, server: Server, tmp_path: Path
    ) -> None:
        (tmp_path / FILE).write_bytes(content)
        sentence = refused(tmp_path)
        assert sentence.startswith(f"{tmp_path / FILE} is not tiny as published (")
        assert f"remove it and fetch {entry.url} again" in sentence
        assert server.asked == []

    def test_by_hand_only(
        self, entry: Pretrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publish(monkeypatch, replace(entry, url=None))
        assert refused(tmp_path / "new") == (
            "tiny has no address to download from: fetch it by hand at https://example.org/zoo "
            f"and save it as {tmp_path / 'new' / FILE}"
        )
        (tmp_path / FILE).write_bytes(CONTENT)
        assert fetch("tiny", tmp_path) == tmp_path / FILE
        (tmp_path / FILE).write_bytes(b"a page that asks to sign in")
        assert "fetch https://example.org/zoo again" in refused(tmp_path)

    def test_a_file_of_unknown_hash_is_taken_as_it_is(
        self, entry: Pretrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publish(monkeypatch, replace(entry, url=None, size=None, sha256=None))
        (tmp_path / FILE).write_bytes(b"anything")
        assert fetch("tiny", tmp_path) == tmp_path / FILE

    def test_unknown_names_are_answered_with_the_nearest(self, tmp_path: Path) -> None:
        said = r"are called 'gfl'; did you mean gfl_r50_fpn_1x_coco, .*\? `bckd detectors` lists"
        with pytest.raises(InputError, match=said):
            fetch("gfl", tmp_path)

    def test_no_space(self, entry: Pretrained, tmp_path: Path) -> None:
        resource = pytest.importorskip("resource", reason="Windows has no limit of file size")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (HALF, hard))  # the disk's part: writing fails
        try:
            sentence = refused(tmp_path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert sentence.startswith(f"{FILE} could not be downloaded (File too large): fetch ")

    def test_a_file_where_the_folder_should_be(self, entry: Pretrained, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("not a folder")
        with pytest.raises(InputError, match=f"{FILE} can't be written: "):
            fetch("tiny", tmp_path / "file")
        assert (tmp_path / "file").read_text() == "not a folder"

    def test_ctrl_c_leaves_nothing(
        self, entry: Pretrained, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publish(monkeypatch, replace(entry, url=f"{server.address}/interrupted/{FILE}"))
        with pytest.raises(KeyboardInterrupt):
            fetch("tiny", tmp_path)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(
    "BCKD_SHARED" not in os.environ, reason="BCKD_SHARED is not set: the folder that holds real/"
)
def test_the_real_nanodet_is_the_published_one() -> None:
    folder = Path(os.environ["BCKD_SHARED"]) / "real" / "weights"
    assert fetch("nanodet_m", folder) == folder / "nanodet_m.pth"
