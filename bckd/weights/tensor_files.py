"""The one place where files of tensors are read and written. Nothing in them can run code.

safetensors hold no code; what `torch.save` wrote is unpickled by PyTorch's restricted reader,
which makes tensors, containers, numbers and text, and refuses everything else.
"""

from __future__ import annotations

import json
import pickle
import re
import struct
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from bckd.system.errors import InputError, reason
from bckd.system.files import reading, what_it_is, write_atomically
from bckd.system.nearest import absent
from bckd.system.telling import first_of

_BEGINNING = 512  # bytes by which a file that holds no tensors is told
# What a garbled pickle makes the reader stumble over is of any of these kinds.
_GARBLED = (
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    AssertionError,
    ArithmeticError,
    MemoryError,
    struct.error,
    pickle.UnpicklingError,
)
_LENGTH = 8  # bytes at the start of a safetensors file: the length of its header


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and header of a safetensors file.

    Raises:
        InputError: the file is absent or of another kind.
    """
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}


def read_header(path: Path) -> dict[str, str]:
    """The header of a safetensors file, whose tensors are not read; raises as `read_tensors`."""
    with _opened(path) as file:
        return file.metadata() or {}


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A safetensors file; what reading it raises becomes one sentence."""
    _check_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        fault = _kind_of(path) or _cut(path, str(error)) or reason(error)
        raise InputError(f"{path} is no safetensors file: {fault}") from error


def save_tensors(
    path: Path,
    tensors: dict[str, Tensor],
    header: dict[str, str],
    previous: Path | None = None,
) -> None:
    """Write a safetensors file with a header; atomically. Equal contents are equal bytes.

    Args:
        previous: a name beside it that the file of before takes.
    """
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    content = memoryview(save(plain, metadata=header))
    start = _LENGTH + int.from_bytes(content[:_LENGTH], "little")
    listing = json.loads(bytes(content[_LENGTH:start]))
    listing["__metadata__"] = header  # safetensors has its entries in no fixed order
    text = json.dumps(listing, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _LENGTH)  # tensors are aligned so

    def write(part: Path) -> None:
        with part.open("wb") as file:
            file.writelines((len(text).to_bytes(_LENGTH, "little"), text, content[start:]))

    write_atomically(path, write, previous)


def read_saved(path: Path) -> Any:
    """What `torch.save` wrote, as long as it is made of tensors, containers, numbers and text.

    Raises:
        InputError: the file is absent or of another kind, or it holds other objects.
    """
    _check_file(path)
    try:
        with warnings.catch_warnings():  # of what is refused just below
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except _GARBLED as error:
        fault = (
            _kind_of(path)
            or _unsafe(str(error))
            or "no torch.save wrote it, or it is garbled or cut short"
        )
        raise InputError(f"{path} is not a file of tensors that loads safely: {fault}") from error


class Unread:
    """Stands for an object of a file whose class, or function, was neither found nor run."""

    def __new__(cls, *arguments: Any, **named: Any) -> Unread:
        return super().__new__(cls)

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """Take what would have made the object, and leave it."""

    def __setstate__(self, state: Any) -> None:
        """Leave what the object held."""


def read_around_objects(path: Path) -> tuple[Any, tuple[str, ...]]:
    """What `torch.save` wrote, with an `Unread` in place of each object that may run code.

    A training state holds such objects beside its weights: an engine's log, numbers of numpy.

    Returns:
        The content, and the names of classes and functions that were not read.

    Raises:
        InputError: as `read_saved`, but for objects that can be passed over.
    """
    try:
        return read_saved(path), ()
    except InputError as refused:
        try:
            names = sorted(get_unsafe_globals_in_checkpoint(str(path)))
        except _GARBLED:
            names = []  # of an early format, or no file of torch.save's
        if not names:
            raise
        with safe_globals([(Unread, name) for name in names]):
            try:
                return read_saved(path), tuple(names)
            except InputError:
                raise refused from None


def is_safetensors(path: Path) -> bool:
    """Whether a file is to be read as safetensors: by its name, or by how it begins."""
    if path.suffix == ".safetensors" or not path.is_file():
        return path.suffix == ".safetensors"
    with reading(path), path.open("rb") as file:
        return file.read(_LENGTH + 1)[_LENGTH:] == b"{"


def _kind_of(path: Path) -> str | None:
    """What a file is that holds no tensors, in words; None where nothing tells."""
    with path.open("rb") as file:
        start = file.read(_BEGINNING)
    if (kind := what_it_is(path)) is None and all(x in b"\t\n\r" or 32 <= x < 127 for x in start):
        return f"it is text, {path.stat().st_size} bytes that begin with {start[:20].decode()!r}"
    return kind


def _cut(path: Path, message: str) -> str | None:
    """Whether a safetensors file ends before its header does, or before its tensors."""
    size = path.stat().st_size
    with path.open("rb") as file:
        header, start = int.from_bytes(file.read(_LENGTH), "little"), file.read(1)
    if size < _LENGTH or (start in (b"", b"{") and size < _LENGTH + header):
        return f"it is cut short, at {size} bytes"
    if "not fully covered" in message:
        return f"it is cut short, or longer than its header says, at {size} bytes"
    return None


def _unsafe(message: str) -> str | None:
    """What PyTorch's restricted reader refused, without its advice to read without restrictions."""
    found = re.search(r"(?:GLOBAL|function) ([\w.]*\w)", message)
    if "weights_only" in message and "TorchScript" in message:
        return "it is a TorchScript program, not weights"
    if found is None:
        return None
    return (
        f"it holds an object ({found[1]}) that may run code; save the weights alone where that "
        "object's package is at home (torch.save({'state_dict': model.state_dict()}, FILE))"
    )


def _check_file(path: Path) -> None:
    if not path.exists():
        raise InputError(absent(f"weights file {path}", path))
    if not path.is_file():
        raise InputError(f"{path} is no file; expected weights")
    with reading(path):
        path.open("rb").close()


def check_fit(own: Mapping[str, Tensor], tensors: Mapping[str, Any], who: str, misfit: str) -> None:
    """Refuse weights whose names, shapes and kinds are not those of a module, or not finite.

    Args:
        own: the module's state dict; it may be on the meta device.
        who, misfit: the beginning of the sentence, such as "FILE" and "holds other weights".

    Raises:
        InputError: with the number of faults of each kind and the first three.
    """
    both = [name for name in own if name in tensors]
    shapes = [
        f"{name} is {_shape(tensors[name])}, expected {_shape(own[name])}"
        for name in both
        if _shape(tensors[name]) != _shape(own[name])
    ]
    faults = {
        "missing": [name for name in own if name not in tensors],
        "unexpected": [name for name in tensors if name not in own],
        "of another shape": shapes,
        "of another type": [
            f"{n} is {_type(tensors[n])}" for n in both if not _fits(own[n], tensors[n])
        ],
    }
    listed = [f"{kind} ({len(of)}): {first_of(of)}" for kind, of in faults.items() if of]
    if listed:
        raise InputError(f"{who} {misfit}: {'; '.join(listed)}")
    broken = [name for name in both if not _finite(tensors[name], own[name].dtype)]
    if broken:
        raise InputError(f"{who}: not finite numbers ({len(broken)}): {first_of(broken)}")


def fill(module: nn.Module, tensors: Mapping[str, Tensor], who: str, misfit: str) -> None:
    """Copy weights into a module whose names, shapes and kinds they all have; all or nothing.

    Raises:
        InputError: as `check_fit`.
    """
    check_fit(module.state_dict(), tensors, who, misfit)
    module.load_state_dict(dict(tensors))


def _shape(value: Any) -> tuple[int, ...] | None:
    return tuple(value.shape) if isinstance(value, Tensor) else None


def _type(value: Any) -> str:
    return (
        str(value.dtype).removeprefix("torch.")
        if isinstance(value, Tensor)
        else type(value).__name__
    )


def _fits(own: Tensor, value: Any) -> bool:
    """Whether a value is plain numbers of the same kind: of any precision, but no integers
    where fractions belong, nor the other way round."""
    if not isinstance(value, Tensor) or value.layout != torch.strided:
        return False
    if value.is_quantized or value.is_meta:
        return False
    kinds = [(x.dtype.is_floating_point, x.dtype.is_complex) for x in (own, value)]
    return kinds[0] == kinds[1]


def _finite(value: Tensor, dtype: torch.dtype) -> bool:
    return bool(torch.isfinite(value.to(dtype)).all())
