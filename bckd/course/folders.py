"""Where a notebook works, and the folders that it may empty."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import bckd
from bckd.system.errors import InputError

MARK = ".bckd-notebook"  # the file that makes a folder a notebook's own
_FIRST = "notebooks/00_quickstart.ipynb"


def work_in(folder: str) -> None:
    """Make a folder of the repository the working folder, wherever the notebook was opened.

    The repository is the one that the working folder lies in; else that of the package.

    Args:
        folder: as seen from the repository's root.

    Raises:
        InputError: there is no repository.
    """
    here, package = Path.cwd(), Path(bckd.__file__).resolve().parents[1]
    home = next((x for x in (here, *here.parents, package) if (x / _FIRST).is_file()), None)
    if home is None:
        raise InputError(
            f"no folder above {here} holds {_FIRST}; open the notebook in the repository, "
            f"which `make lab` does"
        )
    os.chdir(home / folder)


def fresh(folder: Path) -> Path:
    """An empty folder of the notebook's own; what an earlier run of it left there is deleted.

    Raises:
        InputError: the folder is there, and no notebook made it.
    """
    if folder.is_symlink() or (folder.exists() and not (folder / MARK).is_file()):
        raise InputError(
            f"{folder} is there and was not made by a notebook; move it away, or give the "
            f"notebook's folder another name"
        )
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / MARK).touch()
    return folder
