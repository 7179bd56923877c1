"""What every command line here shares: how it speaks, and how it ends. Python alone, so that it imports at once."""

import codecs
import errno
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO

from haan.errors import InputError, TrainingError
from haan.files import at_home
from haan.words import aligned, wrapped


def say(text: str, to: TextIO | None = None) -> None:
    """One line on the terminal (or another stream), at once."""
    stream = to or sys.stdout
    stream.write(f"{text}\n")
    stream.flush()


def on_terminal() -> bool:
    """Whether standard output is a terminal, whose user reads rather than a script."""
    return sys.stdout.isatty()


def show_table(rows: Sequence[Sequence[str]], texts: int = 1) -> None:
    """Rows, the first a head; so many columns of text, the rest figures. On a terminal a cell breaks where need be."""
    if not on_terminal():
        say("\n".join(aligned(rows, texts)))
        return
    from rich import box  # not everything that imports this module has rich
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, title in enumerate(rows[0]):
        table.add_column(Text(title), justify="left" if number < texts else "right")
    for row in rows[1:]:
        table.add_row(*map(Text, row))
    Console(file=sys.stdout).print(table)


def tell(text: str) -> None:
    """A sentence; on a terminal in lines of its width. A command to copy is for `say`, which breaks none."""
    lines = wrapped(text, shutil.get_terminal_size().columns) if on_terminal() else [text]
    say("\n".join(lines))


def warn(messages: Iterable[str]) -> None:
    """What the user should know of the input, on standard error."""
    for message in messages:
        say(f"warning: {message}", sys.stderr)


CHECKOUT = Path(__file__).resolve().parents[1]


def python(*words: object) -> str:
    """A command for the user to run: Python with these words, quoted for a shell; a path looks like no option."""
    found = shutil.which("python")
    same = found is not None and Path(found).parent == Path(sys.executable).parent
    texts = [f"./{word}" if isinstance(word, Path) and str(word)[:1] in ("-", "~") else str(word) for word in words]
    return shlex.join(["python" if same else sys.executable, *texts])


def in_checkout(path: str) -> Path:
    """A file of this checkout as the user reaches it from the current folder."""
    return Path(path) if Path.cwd() == CHECKOUT else CHECKOUT / path


def _at_home(word: str) -> str:
    option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    return f"{option}{equals}{at_home(value)}"


_SPELLED = "haan.spelled"
_PLAIN = {"±": "+-"}


def _spelled(error: UnicodeError) -> tuple[str, int]:
    """What stands for letters that a stream's encoding lacks, as under LC_ALL=C: the search must not end for one."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return "".join(_PLAIN.get(one, ascii(one)[1:-1]) for one in letters), error.end


codecs.register_error(_SPELLED, _spelled)


def run_script(command: Callable[..., object], example: str, name: str | None = None) -> None:
    """`run` for a script that is one command. name: what it was called by, where that isn't its file."""
    import typer  # half a second, which importing this module is not to take

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command(epilog=f"Example: {example}")(command)
    run(lambda: app(prog_name=name))


def run(command: Callable[[], object]) -> None:
    """Runs a command line; wrong input ends it with one message a line and exit code 2.

    `~` in front of a word or of an option's value is read as a shell reads the former, which may not have seen either.
    An interrupt that no command catches ends with 130: Typer sees to it.
    """
    sys.argv[1:] = [_at_home(word) for word in sys.argv[1:]]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=_SPELLED)
    try:
        command()
    except InputError as error:
        for message in error.messages:
            say(message, sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        say(f"{error.filename}: must be a path that a file can have, got: {error.strerror}", sys.stderr)
        sys.exit(2)
    except TrainingError as error:
        say(str(error), sys.stderr)
        sys.exit(1)
