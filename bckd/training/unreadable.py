"""Images that turn out to be unreadable while a run trains: named, counted, and not too many."""

from __future__ import annotations

from tqdm.auto import tqdm

from bckd.structures import Batch
from bckd.system.distributed import joined_lists
from bckd.system.errors import InputError
from bckd.system.launcher import is_first, process_name
from bckd.system.telling import some


class Unreadable:
    """The images that this process could not read since the run was started or gone on with.

    Args:
        most: how many there may be.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.found: list[str] = []  # why, a sentence each
        self._logged = 0  # of these, by the first process, which has the log

    def add(self, batch: Batch) -> list[str]:
        """Take note of what a batch lacks, and print it; the sentences that are new.

        Raises:
            InputError: there are too many now.
        """
        new = [why for why in dict.fromkeys(batch.unreadable) if why not in self.found]
        self.found += new
        for why in new:
            count = f"{len(self.found)} of at most {self.most} (--data.unreadable)"
            tqdm.write(f"bckd{process_name()}: {why}; another image stands in for it ({count})")
        if len(self.found) > self.most:
            what = "{} images turned out to be unreadable"
            raise InputError(
                f"{some(what, self.found)}; expected {self.most} at most (--data.unreadable): "
                f"mend them, and --resume goes on with the run"
            )
        return new

    def of_other_processes(self) -> list[str]:
        """The sentences of all processes but the first since the last call; all of them call."""
        new = [] if is_first() else self.found[self._logged :]
        self._logged = len(self.found)
        return joined_lists(new)
