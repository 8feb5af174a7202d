from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing

from bckd.distributed import mean_over_processes


def _process(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    value = torch.tensor(1.0 + 2 * rank)  # 1 and 3
    mean = mean_over_processes(value)
    torch.save((value, mean), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_a_single_process_keeps_its_value() -> None:
    value = torch.tensor(3.0)
    assert mean_over_processes(value) is value


def test_every_process_gets_the_mean(tmp_path: Path) -> None:
    multiprocessing.spawn(_process, args=(str(tmp_path),), nprocs=2)
    for rank in range(2):
        value, mean = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert mean == 2
        assert value == 1 + 2 * rank  # the input is left as it was
