"""Answers to the exercises, checked: right, or a hint.

An exercise is named by its notebook and its number, "02-4". What is asked, the answer and the hint
stand in `answers/02.json`, by the number.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from math import isfinite
from types import EllipsisType
from typing import Any

from bckd.system.errors import InputError
from bckd.system.telling import first_of

Value = bool | int | float | str | list[float] | list[str]


@dataclass(frozen=True)
class Verdict:
    """What is said of an answer; true of a right one. A notebook shows the text."""

    right: bool
    text: str

    def __bool__(self) -> bool:
        return self.right

    def __repr__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Exercise:
    """What an exercise asks and wants to hear.

    Attributes:
        question: with the form of the answer, such as "yes or no".
        answer: truth, number or word; or a list of these, in order.
        within: how far a number may be off.
        hint: for who is wrong; it does not give the answer away.
        because: for who is right, the reason in a sentence.
    """

    question: str
    answer: Value
    hint: str
    because: str
    within: float = 0.0


def check(name: str, answer: Any = ...) -> Verdict:
    """What the course says of an answer to one of its exercises.

    Args:
        name: notebook and number, such as "02-4".
        answer: truth, number (of torch or numpy, too) or word, or several in a list; "..." asks
            for the question.

    Raises:
        InputError: there is no such exercise, or the answer is of another kind than asked for.
    """
    notebook, _, number = name.partition("-")
    found = exercises(notebook)
    if number not in found:
        names = [f"{notebook}-{one}" for one in found]
        raise InputError(f"no exercise {name!r} with a check; notebook {notebook} has {names}")
    exercise = found[number]
    if isinstance(answer, EllipsisType):
        return Verdict(False, f"{name}: {exercise.question}")
    if _agrees(name, exercise, answer):
        return Verdict(True, f"{name}: right. {exercise.because}")
    return Verdict(False, f"{name}: not yet. {exercise.hint}")


@cache
def exercises(notebook: str) -> dict[str, Exercise]:
    """The exercises with a check, by number, of a notebook such as "02".

    Raises:
        InputError: none of that notebook has one.
    """
    folder = files("bckd.course") / "answers"
    path = folder / f"{notebook}.json"
    if not path.is_file():
        names = sorted(each.name.removesuffix(".json") for each in folder.iterdir())
        raise InputError(f"no notebook {notebook!r} with checks; there are {first_of(names)}")
    rows = json.loads(path.read_text(encoding="utf-8"))
    return {number: Exercise(**row) for number, row in rows.items()}


def _agrees(name: str, exercise: Exercise, answer: Any) -> bool:
    ours = exercise.answer if isinstance(exercise.answer, list) else [exercise.answer]
    theirs = _plain(answer)
    if isinstance(theirs, list) != isinstance(exercise.answer, list):
        expected = f"{len(ours)} in a list" if isinstance(exercise.answer, list) else "one alone"
        raise InputError(f"{name} has the answer {answer!r}; expected {expected}")
    theirs = theirs if isinstance(theirs, list) else [theirs]
    if len(theirs) != len(ours):
        raise InputError(f"{name} has {len(theirs)} answers; expected {len(ours)}")
    return all(
        _same(name, one, other, exercise.within) for one, other in zip(ours, theirs, strict=True)
    )


def _plain(value: Any) -> Any:
    """Numbers and lists of Python's own, of an array or a tensor."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return list(value) if isinstance(value, tuple) else value


def _same(name: str, ours: bool | float | str, theirs: Any, within: float) -> bool:
    if isinstance(ours, bool):
        if not isinstance(theirs, bool):
            raise InputError(f"{name} has the answer {theirs!r}; expected True or False")
        return ours == theirs
    if isinstance(ours, str):
        if not isinstance(theirs, str):
            raise InputError(f"{name} has the answer {theirs!r}; expected a word")
        return ours.casefold() == theirs.strip().casefold()
    if isinstance(theirs, bool) or not isinstance(theirs, int | float) or not isfinite(theirs):
        raise InputError(f"{name} has the answer {theirs!r}; expected a number")
    return abs(ours - theirs) <= within
