"""Which class of a detector is meant by a name: as it stands, as others spell it, as a synonym.

A name is taken for another one only where exactly one of each side is left that could be meant.
Whatever is not settled so is for the user to say (`--teacher-classes`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence

from bckd.system.telling import first_of, tell

# Names of one thing, as published label sets have them: COCO's first (Lin et al., 2014), then
# those of VOC (Everingham et al., 2010), Objects365 (Shao et al., 2019), Open Images
# (Kuznetsova et al., 2020) and LVIS (Gupta et al., 2019). Case, spaces, hyphens and underscores
# do not matter. Broader or narrower classes ("Orange/Tangerine", "Houseplant") are not here.
SYNONYMS: tuple[tuple[str, ...], ...] = (
    ("airplane", "aeroplane"),  # VOC
    ("motorcycle", "motorbike"),  # VOC
    ("couch", "sofa"),  # VOC, LVIS
    ("tv", "tvmonitor", "Monitor/TV", "Television", "television_set"),  # all four
    ("dining table", "Dinning Table"),  # Objects365's spelling
    ("cell phone", "Mobile phone", "cellular_telephone"),  # Open Images, LVIS
    ("remote", "Remote control"),  # Open Images, LVIS
    ("mouse", "Computer mouse", "mouse_(computer_equipment)"),  # Open Images, LVIS
    ("keyboard", "Computer keyboard"),  # Open Images, LVIS
    ("microwave", "Microwave oven"),  # Open Images, LVIS
    ("hair drier", "Hair Dryer"),  # Objects365, Open Images, LVIS
    ("donut", "Doughnut"),  # Open Images, LVIS
    ("fire hydrant", "fireplug"),  # LVIS
    ("wine glass", "wineglass"),  # LVIS
    ("car", "car_(automobile)"),  # LVIS
    ("bus", "bus_(vehicle)"),  # LVIS
    ("train", "train_(railroad_vehicle)"),  # LVIS
    ("orange", "orange_(fruit)"),  # LVIS
)

# Between letters, or a letter and a digit: "1-1" is not "11", and "grade-" not "grade".
_SEPARATOR = re.compile(
    r"(?<=[^\W_])(?:[\s_]+|-)(?=[^\W\d_])|(?<=[^\W\d_])(?:[\s_]+|-)(?=[^\W_])|[\s_]+(?=\()"
)
_SHORTEST = 4  # letters of a plural


def _spelling(name: str) -> str:
    """A name without what spellings differ in: case, and what stands between words."""
    return _SEPARATOR.sub("", unicodedata.normalize("NFKC", name).casefold().strip())


_MEANING = {_spelling(name): _spelling(names[0]) for names in SYNONYMS for name in names}


def _meaning(name: str) -> str:
    """What it is called here, without the s of a regular plural; "glasses" are not "glass"."""
    spelt = _spelling(name)
    if spelt in _MEANING or len(spelt) < _SHORTEST or spelt.endswith("ss"):
        return _MEANING.get(spelt, spelt)
    singular = spelt.removesuffix("s")
    return _MEANING.get(singular, singular)


def counterparts(theirs: Sequence[str], sought: Sequence[str]) -> dict[str, str]:
    """Their name of each class that is sought, but for those that have none, or not just one."""
    found = {name: name for name in sought if name in theirs}
    for key in (_spelling, _meaning):
        ours = _alone(key, [name for name in sought if name not in found])
        left = _alone(key, [name for name in theirs if name not in found.values()])
        found |= {name: left[meant] for meant, name in ours.items() if meant in left}
    return found


def _alone(key: Callable[[str], str], names: list[str]) -> dict[str, str]:
    """The names that no other one shares its key with, by that."""
    keys = [key(name) for name in names]
    return {x: name for x, name in zip(keys, names, strict=True) if keys.count(x) == 1}


def tell_counterparts(found: Mapping[str, str], who: str) -> None:
    """Tell which names were taken for others: all synonyms and plurals, some mere spellings."""
    others = {name: theirs for name, theirs in found.items() if name != theirs}
    spelt = [x for x in others if _spelling(x) == _spelling(others[x])]
    meant = [f"{name} = {others[name]}" for name in others if name not in spelt]
    listed = [", ".join(meant)] if meant else []
    if spelt:
        listed.append(first_of([f"{name} = {others[name]}" for name in spelt]))
    if listed:
        tell(f"{who} has {len(others)} classes under another name: {'; '.join(listed)}")
