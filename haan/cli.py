"""What every command line here shares: how it speaks, and how it ends. Python alone, so that it imports at once."""

import sys
from collections.abc import Callable, Iterable
from typing import TextIO

from haan.errors import InputError, TrainingError


def say(text: str, to: TextIO | None = None) -> None:
    """One line on the terminal (or another stream), at once."""
    stream = to or sys.stdout
    stream.write(f"{text}\n")
    stream.flush()


def warn(messages: Iterable[str]) -> None:
    """What the user should know of the input, on standard error."""
    for message in messages:
        say(f"warning: {message}", sys.stderr)


def run(command: Callable[[], object]) -> None:
    """Runs a command line; wrong input ends it with one message a line and exit code 2.

    An interrupt that no command catches ends with 130: Typer sees to it.
    """
    try:
        command()
    except InputError as error:
        for message in error.messages:
            say(message, sys.stderr)
        sys.exit(2)
    except TrainingError as error:
        say(str(error), sys.stderr)
        sys.exit(1)
