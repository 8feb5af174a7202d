"""Answers to exercises: right, wrong, not given, of another kind."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bckd import course
from bckd.course import checks
from bckd.course.checks import Exercise, check, exercises
from bckd.system.errors import InputError

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
ANSWERS = Path(checks.__file__).parent / "answers"
LESSONS = sorted(path.stem for path in ANSWERS.glob("*.json"))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A notebook "99" of exercises of every kind."""
    kinds = {"1": True, "2": 0.5, "3": "fall", "4": [1.0, 2.0], "5": ["a", "b"]}
    found = {n: Exercise(f"What of {n}?", x, "Think.", "So it is.", 0.1) for n, x in kinds.items()}
    monkeypatch.setattr(checks, "exercises", lambda notebook: {"99": found}[notebook])


@pytest.mark.parametrize(
    ("name", "answer", "right"),
    [
        ("99-1", True, True),
        ("99-1", np.bool_(True), True),
        ("99-1", torch.tensor(False), False),
        ("99-2", 0.55, True),
        ("99-2", torch.tensor(0.61), False),
        ("99-2", 1, False),
        ("99-3", " Fall ", True),
        ("99-3", "rise", False),
        ("99-4", (1.05, 2.0), True),
        ("99-4", np.array([1.0, 2.2]), False),
        ("99-5", ["A", "b"], True),
        ("99-5", ["b", "a"], False),
    ],
)
def test_right_or_not_yet(asked: Any, name: str, answer: Any, right: bool) -> None:
    verdict = check(name, answer)
    assert bool(verdict) is right
    expected = f"{name}: right. So it is." if right else f"{name}: not yet. Think."
    assert repr(verdict) == expected


def test_no_answer_yet(asked: Any) -> None:
    assert repr(check("99-2")) == repr(check("99-2", ...)) == "99-2: What of 2?"
    assert not check("99-2")


@pytest.mark.parametrize(
    ("name", "answer", "said"),
    [
        ("99-1", 1, "99-1 has the answer 1; expected True or False"),
        ("99-2", True, "99-2 has the answer True; expected a number"),
        ("99-2", float("nan"), "99-2 has the answer nan; expected a number"),
        ("99-2", [0.5], r"99-2 has the answer \[0.5\]; expected one alone"),
        ("99-3", 3, "99-3 has the answer 3; expected a word"),
        ("99-4", 1.0, "99-4 has the answer 1.0; expected 2 in a list"),
        ("99-4", [1.0], "99-4 has 1 answers; expected 2"),
        ("99-7", 1.0, "no exercise '99-7' with a check"),
    ],
)
def test_an_answer_of_another_kind(asked: Any, name: str, answer: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        check(name, answer)


def test_a_notebook_without_checks() -> None:
    with pytest.raises(InputError, match="no notebook '77' with checks; there are"):
        course.check("77-1", 0)


@pytest.mark.parametrize("lesson", LESSONS)
def test_every_check_is_told_in_its_notebook_and_asserted_in_its_solutions(lesson: str) -> None:
    (notebook,) = NOTEBOOKS.glob(f"{lesson}_*.ipynb")
    (solution,) = (NOTEBOOKS / "solutions").glob(f"{lesson}_*.ipynb")
    asked, asserted = (
        {
            number
            for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
            if cell["cell_type"] == "code"
            for number in re.findall(
                rf'{before}check\(\s*"{lesson}-(\w+)"', "".join(cell["source"])
            )
        }
        for path, before in ((notebook, r"course\."), (solution, r"assert course\."))
    )
    assert asked == asserted == set(exercises(lesson))


@pytest.mark.parametrize("lesson", LESSONS)
def test_hints_do_not_give_the_answer_away(lesson: str) -> None:
    for number, exercise in exercises(lesson).items():
        assert exercise.question.rstrip().endswith((".", "?")), number
        assert exercise.hint != exercise.because
        if isinstance(exercise.answer, str):
            assert exercise.answer.casefold() in exercise.question.casefold(), "a choice is offered"
