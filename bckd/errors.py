"""The one error that a user's input causes: a sentence, without a traceback on the command line."""


class InputError(ValueError):
    """Bad input: the message names the file, field or value and what was expected."""
