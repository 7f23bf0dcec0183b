"""The two ways a request can end without an answer. The front door turns them into exit codes."""


class BadInput(ValueError):
    """The user's input cannot be used: one line naming the field, the value and what is accepted.

    Exit code 2.
    """


class NoAnswer(Exception):
    """The input is good and the answer is that nothing fits, or a run failed. Exit code 1."""
