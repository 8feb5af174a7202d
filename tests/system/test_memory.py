"""What is freed is used again: pages that a process of its own asks the system for."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bckd.system import memory
from bckd.system.memory import keep_freed_memory

_MIB = 2**20
# Page faults of blocks of 64 MiB, allocated, written and freed twenty times, after twenty others.
_COUNT = """
import resource, sys, torch
from bckd.system.memory import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
torch.set_num_threads(1)
faults = []
for _ in range(40):
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
    torch.ones(64 * 2**20, dtype=torch.uint8)
print(faults[-1] - faults[20])
"""


def faults(how: str) -> int:
    command = [sys.executable, "-c", _COUNT, how]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_blocks_that_were_freed_are_used_again() -> None:
    block = 64 * _MIB // os.sysconf("SC_PAGE_SIZE")  # pages of one
    assert faults("plain") > 10 * block, "what glibc does by itself: all of them anew"
    assert faults("kept") < block / 10


def test_another_system_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_freed_memory()


_MOST = """
import torch
from bckd.system.memory import most_memory
before = most_memory(torch.device("cpu"))
torch.ones(100 * 2**20, dtype=torch.uint8)
print(before, most_memory(torch.device("cpu")) - before)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell")
def test_the_most_memory_is_this_processs_own() -> None:
    """It stays the most once all is freed; what the process before had is not counted."""
    held = torch.ones(800 * _MIB, dtype=torch.uint8)
    command = [sys.executable, "-c", _MOST]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    before, grown = map(int, told)
    assert held.all() and 95 * _MIB <= grown < 130 * _MIB
    if b"VmHWM" in _status():
        assert before < 800 * _MIB


def _status() -> bytes:
    return memory._STATUS.read_bytes() if memory._STATUS.is_file() else b""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell")
@pytest.mark.parametrize("content", [b"Name:\t\xc3\nVmHWM:\t  7 kB\n", b"Name:\tpython\n", None])
def test_whatever_the_system_tells_of_a_process(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is cut within a letter; nothing of memory; no such file."""
    status = tmp_path / "status"
    if content is not None:
        status.write_bytes(content)
    monkeypatch.setattr(memory, "_STATUS", status)
    found = memory.most_memory(torch.device("cpu"))
    assert found == 7 * 1024 if content and b"VmHWM" in content else found > 50 * _MIB
