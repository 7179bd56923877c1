"""The table of a comparison: what each method's base and its searched winner are worth on videos that chose nothing.

Every search chose by holdouts of the training videos. Its winner and its base then train on all of them, with the same
seeds in every search, and are scored on the official videos. Differences are paired by seed, their intervals Student's.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from haan.errors import InputError
from haan.files import read_text, whole
from haan.yamlconfig import read_config, read_tree
from search.results import provenance
from search.results.confirm import Confirmed
from search.results.folder import RunFolder
from search.results.loaded import Run, load_run
from search.results.papertable import grid
from search.results.ranking import paired
from search.results.unseen import Unseen, unseen
from search.results.winner import leaving
from search.space.comparisons import TAUGHT
from search.space.confirmkeys import official_seeds
from search.space.model import LABELS
from search.study import journal, record
from search.study.record import TrialRecord

HEAD = ("Method", "labels", "base", "winner", "gain", "against the first", "trials", "epochs", "settings", "hours")
NUM_NAMES = 2


@dataclass(frozen=True)
class KeptRun:
    """A line. run: its run folder. space: a digest of its whole space. teacher: the run of a student's."""

    run: str
    space: str
    teacher: str | None = None


@dataclass(frozen=True)
class Kept:
    """What a comparison's folder keeps of what was asked. runs: by the line's name, in their order."""

    title: str
    epochs: int
    runs: Mapping[str, KeptRun]

    @property
    def text(self) -> str:
        """As YAML."""
        return yaml.safe_dump(asdict(self), sort_keys=False, allow_unicode=True)

    def differences(self, other: "Kept") -> list[str]:
        """What another has otherwise, in words."""
        found = [key for key in ("title", "epochs") if getattr(self, key) != getattr(other, key)]
        lines = dict.fromkeys([*self.runs, *other.runs])
        return found + [name for name in lines if self.runs.get(name) != other.runs.get(name)]


@dataclass(frozen=True)
class Line:
    """A method. found: None where no winner was trained on all training videos. hours: of training, on one unit each.

    settings: of detection, which each epoch of a trial was scored at.
    """

    name: str
    run: Run
    found: Unseen | None
    trials: int
    epochs: int
    settings: int
    hours: float

    @property
    def winner(self) -> Confirmed | None:
        """On the official videos."""
        return None if self.found is None else self.found.winner

    @property
    def base(self) -> Confirmed | None:
        """On the official videos; the winner itself, where nothing was better; None where it was not trained there."""
        return None if self.found is None else self.found.start


@dataclass(frozen=True)
class Compared:
    """All that is printed."""

    root: Path
    kept: Kept
    lines: tuple[Line, ...]

    @property
    def missing(self) -> list[str]:
        """Lines without a winner or a base, those too that have not begun."""
        whole = {line.name for line in self.lines if line.base is not None}
        return [name for name in self.kept.runs if name not in whole]


def kept_file(root: Path) -> Path:
    """What marks a comparison's folder."""
    return root / "compare.yaml"


def read_kept(root: Path) -> Kept:
    """Raises InputError where a file of that name is none of ours."""
    read_tree(kept_file(root))  # says where it is no YAML
    content = yaml.safe_load(read_text(kept_file(root)))
    try:
        runs = {name: KeptRun(**run) for name, run in content["runs"].items()}
        return Kept(content["title"], content["epochs"], runs)
    except (KeyError, TypeError, AttributeError):
        raise InputError(f"{kept_file(root)}: must be as search/table.py wrote it, got another mapping") from None


def is_over(folder: RunFolder) -> bool:
    """Whether its search, and all that follows, has come to its end, and its winner has left as it was trained last."""
    if (run := _run(folder)) is None or run.winner is None or not folder.best_yaml.exists():
        return False
    wanted, found = len(official_seeds(run.space.base, run.space.plan.confirm)), _unseen(run)
    if found is None or any(one is None or len(one.seeds) < wanted for one in (found.winner, found.start)):
        return False
    left = leaving(run.space, run.winner, run.confirmation.finals.get(run.winner.number))
    return read_config(folder.best_yaml) == left


def lacks_official(folder: RunFolder) -> bool:
    """Whether a search has a winner, and nothing that was scored on the official videos."""
    run = _run(folder)
    return run is not None and run.winner is not None and not run.confirmation.official


def _run(folder: RunFolder) -> Run | None:
    """None where its study has not begun."""
    return None if journal.load(folder.journal) is None else load_run(folder.root)


def _unseen(run: Run) -> Unseen | None:
    return unseen(run.confirmation, run.winner.number) if run.winner is not None else None


def compared(root: Path, kept: Kept) -> Compared:
    """Of the run folders as they are; a search that has not begun makes no line."""
    runs = [(name, _run(RunFolder(root / one.run))) for name, one in kept.runs.items()]
    return Compared(root, kept, tuple(_line(name, run) for name, run in runs if run is not None))


def _line(name: str, run: Run) -> Line:
    trials = [trial for trial in run.study.get_trials(deepcopy=False) if trial.state.is_finished()]
    records = [TrialRecord.of(trial) for trial in trials]
    every = chain(records, (one.record for one in run.confirmation.runs))
    return Line(
        name=name,
        run=run,
        found=_unseen(run),
        trials=len(trials),
        epochs=sum(one.epochs or 0 for one in records),
        settings=len(run.space.detects),
        hours=sum(one.seconds or 0.0 for one in every) / 3600,
    )


def write(root: Path, kept: Kept) -> Compared:
    """Writes compare.md and compare.csv. Raises InputError where no search has a winner yet."""
    made = compared(root, kept)
    if all(line.found is None for line in made.lines):
        raise InputError(f"{root}: must hold a search whose winner was trained on all training videos, got none")
    with whole(root / "compare.md") as partial:
        partial.write_text(markdown(made), encoding="utf-8")
    with whole(root / "compare.csv") as partial:
        pd.DataFrame(rows(made)).to_csv(partial, index=False)
    return made


def cells(made: Compared) -> list[list[str]]:
    """The table's cells, the head first; `NUM_NAMES` columns of names, the rest figures."""
    first = made.lines[0].winner if made.lines else None
    return [list(HEAD), *(_row(line, None if i == 0 else first) for i, line in enumerate(made.lines))]


def _row(line: Line, first: Confirmed | None) -> list[str]:
    winner, base = line.winner, line.base
    gain = _apart(winner, base) if winner is not base else ""
    spent = [str(line.trials), str(line.epochs), str(line.settings), f"{line.hours:.2f}"]
    figures = [_shown(base), _shown(winner), gain, _apart(winner, first)]
    return [line.name, line.run.space.base.supervision, *figures, *spent]


def _shown(one: Confirmed | None) -> str:
    if one is None:
        return "-"
    return f"{one.mean:.2f}" + (f" ± {one.sd:.2f}" if one.sd is not None else "")


def _apart(one: Confirmed | None, other: Confirmed | None) -> str:
    """Mean difference over the seeds that both have, with its 95 % interval."""
    if one is None or other is None:
        return ""
    return str(paired(one.by_seed, other.by_seed) or "")


def markdown(made: Compared) -> str:
    """The whole table and what has to be said of it."""
    paragraphs = chain.from_iterable((note, "") for note in notes(made))
    return "\n".join([f"# {made.kept.title}", "", *grid(cells(made), NUM_NAMES), "", *paragraphs]).rstrip("\n") + "\n"


def notes(made: Compared) -> list[str]:
    """What a reader has to know, in paragraphs."""
    space = made.lines[0].run.space
    tiou, seeds = space.base.eval.tiou, official_seeds(space.base, space.plan.confirm)
    known = made.lines[0].run.study.user_attrs
    said = [
        f"avg.mAP in percent (tIoU {tiou[0]:g} to {tiou[-1]:g}) on the official validation videos, which chose "
        f"nothing: mean ± standard deviation over {len(seeds)} seeds ({', '.join(map(str, seeds))}) that no search has "
        "seen, each trained on all training videos.",
        f"Each search had the same budget, {made.kept.epochs} epochs of its trials; those under way then went on. "
        "base: its space's own settings, the first trial, at the best of its swept detection settings. trials: that "
        "ended, failed ones too. settings: of detection, all of which score each epoch. hours: of training, the "
        "confirmation's too.",
        "gain, against the first: differences paired by seed, with 95 % intervals (Student's t), not adjusted for the "
        "number of lines. They are about other seeds, not about other searches or videos.",
        f"{LABELS} All searches chose by the segments of held-out training videos.",
    ]
    if taught := [line.name for line in made.lines if line.run.space.base.method == TAUGHT]:
        said.append(
            f"{', '.join(taught)}: base and winner are taught by the winner of another line; epochs and hours are "
            "without that one's."
        )
    if made.missing:
        said.append(f"NOT WHOLE: no winner and base yet of {', '.join(made.missing)}.")
    data, fingerprint = known.get(record.DATA), known.get(record.FINGERPRINT, "unknown")
    return said + provenance.sentences(data, fingerprint, None, "the official validation videos, which chose nothing")


def rows(made: Compared) -> list[dict[str, Any]]:
    """A row a line, configuration (base or winner) and seed, for further statistics."""
    found = list[dict[str, Any]]()
    for line in made.lines:
        for role, one in (("base", line.base), ("winner", line.winner)):
            found += [] if one is None else _runs(line, role, one)
    return found


def _runs(line: Line, role: str, one: Confirmed) -> list[dict[str, Any]]:
    by_seed: Mapping[int, Mapping[float, float]] = {
        run.seed: run.by_tiou for run in line.run.confirmation.official if run.trial == one.number
    }
    shared = {"method": line.run.space.base.method, "supervision": line.run.space.base.supervision}
    return [
        {
            "line": line.name,
            **shared,
            "configuration": role,
            "trial": one.number,
            "seed": seed,
            "avg_map": score,
            **{f"map@{tiou:g}": value for tiou, value in by_seed[seed].items()},
        }
        for seed, score in zip(one.seeds, one.scores, strict=True)
    ]
