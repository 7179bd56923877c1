"""What every epoch of every run came to: curves.csv as a row an epoch, and TensorBoard's files.

The driver alone writes both, as epochs are reported. An epoch that is trained again after a loss has two rows until the
phase ends; the later one stays. A row that a kill cut short is dropped.
"""

import csv
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pandas as pd
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog  # type: ignore[attr-defined]  # protobuf makes them
from tensorboardX.proto.summary_pb2 import Summary  # type: ignore[attr-defined]

from haan.files import whole
from search.results.folder import RunFolder

_KEYS = ["number", "videos", "seed", "epoch"]
_FLUSH_S = 5.0  # between two writes to disk of a run's curves for TensorBoard


@dataclass(frozen=True)
class Curve:
    """Whose it is: a trial of the search, or a repetition of it by the confirmation (`again`).

    videos: that it is scored on, in the words of confirm.csv.
    """

    number: int
    videos: str
    seed: int
    again: bool = False

    @property
    def folder(self) -> str:
        """The name of its curves in TensorBoard."""
        name = f"trial-{self.number:05d}"
        return f"confirm-{name}-{self.videos}-seed-{self.seed}" if self.again else name


class Curves:
    """The curves of one phase, while it lasts."""

    def __init__(self, folder: RunFolder):
        self._folder = folder
        self._drawn: dict[Curve, _Drawn] = {}
        self._file: IO[str] | None = None
        self._columns: list[str] = []

    def add(self, curve: Curve, result: Mapping[str, Any]) -> None:
        """One epoch, as search.trials.trial reports it. Raises OSError."""
        figures, epoch = dict(_figures(result)), int(result["epoch"])
        if self._file is None:
            self._open([*_KEYS, *figures])
        assert self._file is not None
        row = {"number": curve.number, "videos": curve.videos, "seed": curve.seed, "epoch": epoch} | figures
        csv.writer(self._file, lineterminator="\n").writerow([row.get(key, "") for key in self._columns])
        self._file.flush()
        if curve not in self._drawn:
            self._drawn[curve] = _Drawn(self._folder.curves / curve.folder, epoch)
        self._drawn[curve].add(epoch, figures)

    def ended(self, curve: Curve, settings: Mapping[str, Any], value: float | None) -> None:
        """A run is over. value: its own, that of the epoch that counts; None where it has none. Raises OSError."""
        drawn = self._drawn.pop(curve, None)
        if drawn is not None:
            drawn.end(settings, value)

    def close(self) -> None:
        """Puts curves.csv in order. Raises OSError."""
        with ExitStack() as held:  # all are closed, though one of them finds the disk full
            for drawn in self._drawn.values():
                held.callback(drawn.close)
            if self._file is not None:
                held.callback(self._file.close)
        self._drawn.clear()
        if self._file is not None:
            self._file = None
            _put_in_order(self._folder.curves_csv)

    def _open(self, columns: list[str]) -> None:
        """For more rows: a file that is there keeps its columns."""
        path = self._folder.curves_csv
        _drop_torn(path)
        self._file = path.open("a", encoding="utf-8", newline="")
        known = path.read_text(encoding="utf-8").partition("\n")[0]
        self._columns = known.split(",") if known else columns
        if not known:
            csv.writer(self._file, lineterminator="\n").writerow(columns)


class _Drawn:
    """One run's curves for TensorBoard; its own writer with a thread and a queue stops for ever on a full disk."""

    def __init__(self, folder: Path, epoch: int):
        folder.mkdir(parents=True, exist_ok=True)
        self._file = EventsWriter(str(folder / "events"), f".{os.getpid()}")
        self._flushed = 0.0
        # Of a trial that is taken up again, TensorBoard forgets what it had gone on to.
        self._write(epoch, session_log=SessionLog(status=SessionLog.START))

    def add(self, epoch: int, figures: Mapping[str, float | None]) -> None:
        """One epoch."""
        known = [summary.scalar(_card(key), value) for key, value in figures.items() if value is not None]
        self._write(epoch, summary=Summary(value=[value for one in known for value in one.value]))
        if time.monotonic() - self._flushed > _FLUSH_S:
            self._flushed = time.monotonic()
            self._file.flush()

    def end(self, settings: Mapping[str, Any], value: float | None) -> None:
        """The settings as TensorBoard's hyper-parameters, beside what they came to."""
        if settings and value is not None:
            known = {key: one if isinstance(one, bool | int | float) else str(one) for key, one in settings.items()}
            for one in summary.hparams(known, {"value": value}):
                self._write(0, summary=one)
            self._write(0, summary=summary.scalar("value", value))
        self.close()

    def close(self) -> None:
        """Nothing more comes."""
        self._file.close()

    def _write(self, epoch: int, **what: Any) -> None:
        self._file.write_event(Event(wall_time=time.time(), step=epoch, **what))


def _card(column: str) -> str:
    """What TensorBoard calls a column of curves.csv: those of one kind stand together."""
    if column == "avg_map":
        return "mAP/avg.mAP"
    return column.replace("map@", "mAP/tIoU_") if column.startswith("map@") else column.replace(".", "/", 1)


def _figures(result: Mapping[str, Any]) -> Iterator[tuple[str, float | None]]:
    """The figures of an epoch by column; avg.mAP is None where the epoch was not scored."""
    yield "avg_map", result["avg_map"]
    yield from ((f"map@{tiou}", value) for tiou, value in result.get("map", {}).items())
    yield from ((f"loss.{name}", value) for name, value in result["losses"].items())
    yield from ((f"seconds.{name}", value) for name, value in result["seconds"].items())


def read(folder: RunFolder) -> pd.DataFrame:
    """A row an epoch; no rows where a run left none."""
    return pd.read_csv(folder.curves_csv) if folder.curves_csv.exists() else pd.DataFrame()


def _drop_torn(path: Path) -> None:
    if path.exists():
        content = path.read_bytes()
        os.truncate(path, content.rfind(b"\n") + 1)


def _put_in_order(path: Path) -> None:
    table = pd.read_csv(path).drop_duplicates(_KEYS, keep="last").sort_values(_KEYS, kind="stable")
    with whole(path) as partial:
        table.to_csv(partial, index=False)
