"""The trainer's command line, run in this process."""

from haan.__main__ import app


def haan(*arguments: object) -> object:
    """Runs the command line in this process; InputError comes out. Returns the exit code, if one was set."""
    return app([str(argument) for argument in arguments], standalone_mode=False)
