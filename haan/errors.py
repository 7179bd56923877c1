"""The one error that means: what the user gave is wrong."""

from collections.abc import Iterable


class InputError(Exception):
    """Wrong input: every message names the file, the key or array, the rule and the value received.

    Command lines print `messages`, one a line, and end with exit code 2.
    """

    def __init__(self, messages: str | Iterable[str]):
        self.messages = [messages] if isinstance(messages, str) else list(messages)
        super().__init__("\n".join(self.messages))


class MissingDataError(InputError):
    """The data set is not where the configuration says."""


class TrainingError(RuntimeError):
    """Training can't go on: a loss became NaN or infinite, or clips could not be clustered."""
