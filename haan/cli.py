"""What every command line here shares: how it speaks, and how it ends."""

import sys
from collections.abc import Callable
from typing import TextIO

import typer

from haan.config import Data
from haan.data.cache import OnDisk
from haan.data.readers import Opened, open_data
from haan.data.table import Annotations
from haan.errors import InputError, TrainingError


def say(text: str, to: TextIO | None = None) -> None:
    """One line on the terminal (or another stream), at once."""
    typer.echo(text, file=to)
    (to or sys.stdout).flush()


def opened(data: Data, read: Callable[[Data], Opened] = open_data) -> tuple[OnDisk, Annotations]:
    """A data set, features still on disk; its reader's warnings are shown. Raises InputError."""
    source, annotations, warnings = read(data)
    for warning in warnings:
        typer.echo(f"warning: {warning}", err=True)
    return source, annotations


def run(command: Callable[[], object]) -> None:
    """Runs a command line; wrong input ends it with one message a line and exit code 2.

    An interrupt that no command catches ends with 130: Typer sees to it.
    """
    try:
        command()
    except InputError as error:
        for message in error.messages:
            typer.echo(message, err=True)
        sys.exit(2)
    except TrainingError as error:
        typer.echo(str(error), err=True)
        sys.exit(1)
