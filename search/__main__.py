"""The scripts of this folder as one command: `haan-search run spaces/demo.yaml`, or `python -m search run ...`."""

import sys
from pkgutil import resolve_name

from haan.cli import run_script, say

COMMANDS = {
    "run": "search, prune, confirm over seeds, and export the best configuration of a space",
    "table": "run a space that is a table of the paper, and print it",
    "replay": "recorded curves under another sampler, pruner and number of workers",
    "export": "export a search's best configuration again, or another trial's",
    "report": "write a run's report.html anew, or compare several runs",
    "runs": "list the runs in a folder: how each stands, and what it won",
}
_LISTING = "runs"  # no script of its own: a function of report.py


def main() -> None:
    """Hands the rest of the line to one of them; each says more with --help."""
    name, rest = (sys.argv[1] if len(sys.argv) > 1 else "--help"), sys.argv[2:]
    if name in COMMANDS:
        # It alone: a laptop that submits has no PyTorch, say.
        module = resolve_name(f"search.{'report' if name == _LISTING else name}")
        sys.argv[1:] = rest
        call, example = (module.runs, "haan-search runs") if name == _LISTING else (module.main, module.EXAMPLE)
        run_script(call, example, f"haan-search {name}")
        return
    say("Usage: haan-search COMMAND ...; haan-search COMMAND --help says more\n")
    for command, what in COMMANDS.items():
        say(f"  {command:8}{what}")
    if name not in ("--help", "-h"):
        say(f"COMMAND: must be one of {', '.join(COMMANDS)}, got {name!r}", sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
