"""The one error that a user's input causes: a sentence, without a traceback on the command line."""

from __future__ import annotations


class InputError(ValueError):
    """Bad input: the message names the file, field or value and what was expected."""

    def __init__(self, sentence: str) -> None:
        # A data loader's worker wraps the error in its traceback; the sentence comes last.
        if "Original Traceback" in sentence:
            sentence = sentence.strip().rpartition("InputError: ")[2]
        super().__init__(sentence)


def reason(error: BaseException) -> str:
    """Why something failed, on one line: the system's words where it is the system's error."""
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(words.split()) or type(error).__name__
