"""The scripts of this folder as one command: `haan-search run spaces/demo.yaml`, or `python -m search run ...`."""

import sys
from pkgutil import resolve_name

from haan.cli import run_script, say

COMMANDS = {
    "run": "search, prune, confirm over seeds, and export the best configuration of a space",
    "table": "run a space that is a table of the paper, and print it",
    "replay": "recorded curves under another sampler, pruner and number of workers",
    "export": "export a search's best configuration again, or another trial's",
    "report": "write a run's report.html anew",
}


def main() -> None:
    """Hands the rest of the line to one of them; each says more with --help."""
    name, rest = (sys.argv[1] if len(sys.argv) > 1 else "--help"), sys.argv[2:]
    if name in COMMANDS:
        module = resolve_name(f"search.{name}")  # it alone: a laptop that submits has no PyTorch, say
        sys.argv[1:] = rest
        run_script(module.main, module.EXAMPLE, f"haan-search {name}")
        return
    say("Usage: haan-search COMMAND ...; haan-search COMMAND --help says more\n")
    for command, what in COMMANDS.items():
        say(f"  {command:8}{what}")
    if name not in ("--help", "-h"):
        say(f"COMMAND: must be one of {', '.join(COMMANDS)}, got {name!r}", sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
