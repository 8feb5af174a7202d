"""The one place where files are fetched from servers. No server is trusted to end.

Each answer has a limit of bytes and of time, redirections are few and leave no https, and a file
takes its name once it is whole and was checked.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from multiprocessing import TimeoutError as Overdue
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import IO, Any
from urllib.parse import urljoin

import requests
from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from tqdm.auto import tqdm
from urllib3 import HTTPResponse
from urllib3.exceptions import HTTPError

from bckd.system.errors import InputError, reason
from bckd.system.files import write_atomically, writing

SECONDS = 60.0  # without an answer, or without a byte, after which a server counts as gone
SLOWEST = 10_000  # bytes a second on average that it may send after them
REDIRECTIONS = 5
_CHUNK = 1 << 18  # bytes
_WORTH_ANOTHER = 1 << 20  # bytes that a broken connection brought, for which one more is made


def download(
    url: str,
    path: Path,
    most: int,
    check: Callable[[Path], str | None],
    progress: bool = True,
) -> None:
    """Fetch a file to `path`: whole and as it should be, or not at all.

    Args:
        most: bytes that it may have.
        check: what is wrong with the file that came, if anything.
        progress: show a bar.

    Raises:
        InputError: the server can't be reached, sends something else, too much or too slowly; or
            `path` can't be written to.
    """

    def fill(part: Path) -> None:
        """Fetch into a file beside the one that it will be, and check it."""
        try:
            _save(url, part, most, tqdm(desc=path.name, disable=not progress, **_BAR))
            fault = check(part)
        except FAILURES as error:
            fault = why(error)
        if fault:
            raise InputError(
                f"{path.name} could not be downloaded ({fault}): fetch {url} by hand and save it "
                f"as {path}"
            )

    write_atomically(path, fill)


def download_on(
    url: str,
    path: Path,
    size: int,
    check: Callable[[Path], str | None],
    progress: bool = True,
) -> None:
    """Fetch a large file to `path`, going on where an earlier call was broken off.

    What has come lies beside `path` under its name and `.part`. A connection that breaks is made
    anew while each brings something. A server that knows no ranges sends all of it again, which is
    held against what is there.

    Args:
        size: bytes that it has.
        check: what is wrong with the file that came, if anything; it is removed then.
        progress: show a bar.

    Raises:
        InputError: as of `download`; or the file has another size.
    """
    part = path.with_name(f"{path.name}.part")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        part.touch()
    try:
        with tqdm(desc=path.name, total=size, disable=not progress, **_BAR) as bar:
            _rest(url, part, size, bar)
    except FAILURES as error:
        raise InputError(
            f"{path.name} could not be downloaded ({why(error)}): what came is kept as {part}; "
            f"run this again to go on, after deleting it to begin anew, or fetch {url} by hand "
            f"and save it as {path}"
        ) from error
    if fault := check(part):
        part.unlink()
        raise InputError(f"what {url} sent is not {path.name} ({fault}), and was removed")
    with writing(path):
        os.replace(part, path)


# What goes wrong on the way: no server, no space, no address, no HTTP, no file of this kind.
FAILURES = (OSError, HTTPError, ValueError)
_BAR: dict[str, Any] = {"unit": "B", "unit_scale": True, "leave": False}


def _save(url: str, part: Path, most: int, bar: tqdm[Any]) -> None:
    with bar, Limited(most) as session, session.get(url, stream=True) as answer:
        answer.raise_for_status()
        bar.reset(answer.raw.total)
        with part.open("wb") as file:
            while chunk := answer.raw.read(_CHUNK, whole=False):
                file.write(chunk)
                bar.update(len(chunk))


def _rest(url: str, part: Path, size: int, bar: tqdm[Any]) -> None:
    """Fill a file up to its size, with as many connections as it takes."""
    while (have := part.stat().st_size) != size:
        have = have if have < size else 0
        try:
            _more(url, part, have, size, bar)
        except FAILURES:
            if part.stat().st_size < have + _WORTH_ANOTHER:
                raise


def _more(url: str, part: Path, have: int, size: int, bar: tqdm[Any]) -> None:
    """What one connection brings of a file, behind the bytes that are there."""
    asked = {"Range": f"bytes={have}-"} if have else {}
    with Limited(size) as session, session.get(url, stream=True, headers=asked) as answer:
        answer.raise_for_status()
        start = _start(answer, have)
        if answer.raw.total not in (None, size - start):
            raise ConnectionError(f"{start + answer.raw.total} bytes, expected {size}")
        if "text/html" in answer.headers.get("Content-Type", ""):
            raise ConnectionError("the server sends a page (text/html) in place of a file")
        bar.reset(size)
        bar.update(start)
        with part.open("r+b") as file:
            file.truncate(have)
            file.seek(start)
            _hold_against(file, answer, have, bar)
            while chunk := answer.raw.read(min(_CHUNK, size + 1 - file.tell()), whole=False):
                file.write(chunk)
                bar.update(len(chunk))
            if (found := file.tell()) > size:
                file.truncate(0)
                raise ConnectionError(f"more than {size} bytes")
    if found < size:
        raise ConnectionError(f"the connection ended after {found} of {size} bytes")


def _hold_against(file: IO[bytes], answer: Response, have: int, bar: tqdm[Any]) -> None:
    """Go on in both up to the end of what is there, which stays as it is.

    Raises:
        ConnectionError: another content comes, or less.
    """
    while (place := file.tell()) < have:
        chunk = answer.raw.read(min(_CHUNK, have - place), whole=False)
        if not chunk:
            raise ConnectionError(f"the connection ended after {place} of {have} bytes again")
        if file.read(len(chunk)) != chunk:
            raise ConnectionError("the server sends another content than what is there")
        bar.update(len(chunk))


def _start(answer: Response, have: int) -> int:
    """The place in the file where an answer begins: the one asked for, or 0.

    Raises:
        ConnectionError: it begins elsewhere, or does not say where.
    """
    if answer.status_code != requests.codes.partial_content:
        return 0
    told = answer.headers.get("Content-Range", "")
    begun = re.match(r"bytes (\d+)-", told)
    if begun is None or int(begun[1]) != have:
        raise ConnectionError(f"asked from byte {have} on, the server sends {told or 'a part'!r}")
    return have


class Limited(requests.Session):
    """A session whose answers end: each has an `Arriving` in place of its raw stream.

    Args:
        most: bytes that an answer may have.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self.max_redirects = REDIRECTIONS
        self.headers.update({"User-Agent": "bckd", "Accept-Encoding": "identity"})
        for scheme in ("http://", "https://"):
            self.mount(scheme, _LimitedAdapter(most))

    def get_redirect_target(self, resp: Response) -> str | None:
        """Where an answer sends on to, if it does.

        Raises:
            ConnectionError: from https to something else.
        """
        target = super().get_redirect_target(resp)
        if target is not None and resp.url.startswith("https:"):
            place = urljoin(resp.url, target)
            if not place.startswith("https:"):
                raise ConnectionError(f"the server sends on to {place}, which is not https")
        return target


class _LimitedAdapter(HTTPAdapter):
    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def send(self, request: PreparedRequest, *given: Any, **options: Any) -> Response:
        """One answer, once its head is there, which can come in any number of bytes."""
        options["timeout"] = SECONDS  # of each byte
        with ThreadPool(1) as pool:
            try:
                answer = pool.apply_async(super().send, (request, *given), options).get(SECONDS)
            except Overdue:
                raise TimeoutError from None
        answer.raw = Arriving(answer.raw, self.most)
        return answer


class Arriving:
    """The bytes of an answer as they arrive, as long as they are neither too many nor too slow.

    Attributes:
        total: how many the server says they are; None: it does not.

    Raises:
        ConnectionError: it says too many; so does `read` of what is too many, too slow or cut.
    """

    def __init__(self, raw: HTTPResponse, most: int) -> None:
        self._raw, self._most, self.total = raw, most, raw.length_remaining
        self._received, self._start = 0, time.monotonic()
        if (self.total or 0) > most:
            raise ConnectionError(f"{self.total} bytes, expected {most} or less")

    def read(self, size: int, whole: bool = True) -> bytes:
        """The next `size` bytes, fewer at the end; or what of them has come, where not `whole`."""
        content = bytearray()
        while len(content) < size and (chunk := self._next(size - len(content))):
            content += chunk
            if not whole:
                break
        return bytes(content)

    def _next(self, size: int) -> bytes:
        try:
            chunk = self._raw.read1(min(size, _CHUNK))
        except HTTPError as error:
            if self.total is None or isinstance(_root(error), TimeoutError):
                raise
            told = f"the connection ended after {self._received} of {self.total} bytes"
            raise ConnectionError(told) from None
        self._received += len(chunk)
        if self._received > self._most:
            raise ConnectionError(f"more than {self._most} bytes")
        if self._received < SLOWEST * (time.monotonic() - self._start - SECONDS):
            raise ConnectionError(f"below {SLOWEST} bytes a second")
        return chunk

    def tell(self) -> int:
        """How many bytes have arrived."""
        return self._received

    @property
    def closed(self) -> bool:
        """Whether nothing more will come."""
        return self._raw.closed

    def close(self) -> None:
        """Leave the rest."""
        self._raw.close()

    def release_conn(self) -> None:
        """Give the connection back."""
        self._raw.release_conn()


def why(error: BaseException) -> str:
    """Why a download failed, in words: by the first cause, which libraries wrap in their own."""
    match root := _root(error):
        case requests.HTTPError(response=requests.Response() as answer):
            return f"the server answered {answer.status_code} {answer.reason}"
        case TimeoutError():
            return f"no answer in {SECONDS:g} seconds"
        case _:
            return reason(root)


def _root(error: BaseException) -> BaseException:
    while cause := error.__cause__ or (None if error.__suppress_context__ else error.__context__):
        error = cause
    return error
