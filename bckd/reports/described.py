"""A detector in words: what it is, and how it was made."""

from __future__ import annotations

from pathlib import Path

from bckd.reports.page import duration
from bckd.system.files import read_json
from bckd.zoo.checkpoints import load_detector


def described(source: Path | str) -> str:
    """Lines on a detector, as `load_detector` takes it.

    Raises:
        InputError: as there.
    """
    found = load_detector(source)
    detector, size = found.detector, found.size
    count = sum(parameter.numel() for parameter in detector.parameters())
    lines = [
        f"{source}: {count / 1e6:.2f} million parameters, strides "
        f"{' '.join(map(str, detector.strides))}",
        f"images: short side {size.short_side}, long side at most {size.long_side}",
        f"classes ({len(detector.class_names)}): {', '.join(detector.class_names)}",
    ]
    if found.made is None:
        said = ", ".join(f"{name} {value}" for name, value in found.record.items())
        return "\n".join([*lines, f"its file does not say how it was made ({said or 'no record'})"])
    return "\n".join([*lines, "", str(found.made), *_took(Path(source))])


def _took(source: Path) -> list[str]:
    """How long the run of a student took, which its folder says, not its file."""
    results = (source if source.is_dir() else source.parent) / "results.json"
    if not results.is_file():
        return []
    said = read_json(results)
    seconds = said.get("seconds") if isinstance(said, dict) else None
    return [f"took {duration(seconds)}"] if isinstance(seconds, int | float) else []
