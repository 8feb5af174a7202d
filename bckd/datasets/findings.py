"""What is wrong or odd in an input, gathered by kind, then refused or told in a sentence each."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from bckd.system.errors import InputError
from bckd.system.telling import SHOWN, some, tell, tell_some

_LONGEST = 60  # characters of a value that are shown


@dataclass(frozen=True)
class Fault:
    """A kind of thing that nothing can be made of.

    Attributes:
        what: the kind, in words.
        expected: what would be right, or what to do.
    """

    what: str
    expected: str


@dataclass(frozen=True)
class Oddity:
    """A kind of thing that is made something of; `what` says what."""

    what: str


Kind = Fault | Oddity


@dataclass
class Findings:
    """Places where something was found, by its kind.

    Attributes:
        source: the file, for the sentences.
        entries: numbers of the entries of a list, from 1 on, of the kinds that are told with them.
    """

    source: object
    faults: dict[Fault, list[str]] = field(default_factory=dict)
    oddities: dict[Oddity, list[str]] = field(default_factory=dict)
    entries: dict[Kind, list[int]] = field(default_factory=dict)

    def add(self, kind: Kind, *places: str, entry: int | None = None) -> None:
        """Note one more of a kind, and where; no place: it is a matter of the whole file."""
        if isinstance(kind, Fault):
            self.faults.setdefault(kind, []).extend(places)
        else:
            self.oddities.setdefault(kind, []).extend(places)
        if entry is not None:
            self.entries.setdefault(kind, []).append(entry)

    def check(self) -> None:
        """Refuse the input for the kind of fault that there is most of.

        Raises:
            InputError: with its number and first three places, and how many other faults there are.
        """
        if not self.faults:
            return
        kind = max(self.faults, key=lambda kind: len(self.faults[kind]))
        places = self.faults[kind]
        others = sum(map(len, self.faults.values())) - len(places)
        also = f"and {others} other fault{'s' if others > 1 else ''}; " if others else ""
        hidden = others or len(places) > SHOWN
        more = f" ({also}`bckd data check` lists them all)" if hidden else ""
        what = some(f"{kind.what} ({{}})", places) if places else kind.what
        raise InputError(f"{self.source}: {what}; {kind.expected}{more}")

    def tell(self) -> None:
        """Tell every oddity."""
        for kind, places in self.oddities.items():
            if places:
                tell_some(f"{self.source}: {kind.what} ({{}})", places)
            else:
                tell(f"{self.source}: {kind.what}")


def place(identity: Any, number: int) -> str:
    """Where an entry of a list stands, by its id (None: it has none) and its place, from 1 on."""
    return f"entry {number}" if identity is None else f"id {shown(identity)} (entry {number})"


def shown(value: Any) -> str:
    """A value as JSON writes it (text has quotation marks), cut where it is long."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
