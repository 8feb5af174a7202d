"""What a command tells of its input."""

from __future__ import annotations

import pytest

from bckd.system.telling import each_once, tell


def test_a_sentence_is_told_once_within_a_block(capsys: pytest.CaptureFixture[str]) -> None:
    with each_once():
        tell("a")
        with each_once():
            tell("a")
            tell("b")
        tell("b")
    tell("a")
    tell("a")
    assert capsys.readouterr().out.split() == ["a", "b", "a", "a"]
