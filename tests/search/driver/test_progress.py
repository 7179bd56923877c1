"""What is gathered for the screen, and how often."""

from typing import Any

import pytest

from search.driver import progress
from search.driver.progress import Progress, Totals
from search.driver.screen import Status
from search.driver.timeleft import SessionClock
from search.trials.bridge import Running


class Seen:
    """A screen that keeps what it is shown."""

    def __init__(self) -> None:
        self.statuses: list[Status] = []

    def update(self, status: Status) -> None:
        self.statuses.append(status)


def test_a_status_is_made_four_times_a_second_however_many_epochs_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    seen: Any = Seen()
    heading = Status(stage="search", name="a", where="here", budget=10, unit="CPU")
    shown = Progress(seen, heading, lambda running: ("", ""), Totals(epochs=3, units=1), SessionClock(1, 100.0))
    running = Running(number=0, params={}, epochs=3)
    for epoch in range(1, 101):  # 100 in a second
        running.epoch = epoch
        shown.reported([running])
        now[0] += 0.01
    assert [status.running[0].epoch for status in seen.statuses] in ([1, 26, 51, 76], [1, 27, 53, 79])  # rounding
    shown.over([running])
    assert seen.statuses[-1].running == ()
