"""The pictures of search/README.md: `python -m tests.pictures` runs the demo, in minutes, and takes them of it.

screen.svg is what a terminal shows in the midst of the search, report.png the top of the report. It needs a Chromium,
and no network: pictures name no font that would have to be fetched.
"""

import io
import re
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path
from unittest.mock import patch

from playwright.sync_api import sync_playwright
from rich.console import Console

from haan.files import whole
from search.driver import session
from search.driver.notebook import run_search
from search.driver.screen import Screen, Status, view
from tests.paths import ROOT

PICTURES = ROOT / "tests" / "pictures"
SPACE = ROOT / "spaces" / "demo.yaml"
WIDTH, HEIGHT = 100, 28  # of a terminal, in letters and lines
SHARE = 0.6  # of the search's trials have ended when its picture is taken
VIEWPORT = (1100, 800)
_FONT = re.compile(r"\s*@font-face \{.*?\}", re.S)  # of a server


class Watched(Screen):
    """Keeps what it is told."""

    statuses: list[Status]

    def update(self, status: Status) -> None:
        """As any screen."""
        type(self).statuses.append(status)
        super().update(status)


def searched(folder: Path) -> tuple[Path, list[Status]]:
    """The demo, run: its report, and all that its screen was told."""
    Watched.statuses = []
    with chdir(folder), patch.object(session, "Screen", Watched):
        run_search(SPACE, name="demo", address="local")
    return folder / "runs" / "demo" / "report.html", Watched.statuses


def of_the_search(statuses: Sequence[Status]) -> Status:
    """The first that shows so many ended trials, and as many running as ever ran at once."""
    search = [one for one in statuses if one.stage == "search"]
    most = max(len(one.running) for one in search)
    return next(one for one in search if len(one.running) == most and one.done >= SHARE * one.budget)


def draw_screen(status: Status, to: Path) -> None:
    """The live view of a status, as a terminal of that size draws it."""
    console = Console(
        record=True, width=WIDTH, height=HEIGHT, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    console.print(view(status, WIDTH, HEIGHT, len(status.running), ascii_only=False))
    with whole(to) as partial:
        svg = console.export_svg(title="python search/run.py spaces/demo.yaml", unique_id="screen")
        partial.write_text(_FONT.sub("", svg), encoding="utf-8")


def draw_report(report: Path, to: Path) -> None:
    """The top of a report, as a browser shows it."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright, whole(to) as partial:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": VIEWPORT[0], "height": VIEWPORT[1]})
        page.goto(report.as_uri())
        page.wait_for_selector("html[data-drawn]")
        page.screenshot(path=partial, type="png")
        browser.close()


def main() -> None:
    """Both pictures."""
    with tempfile.TemporaryDirectory() as folder:
        report, statuses = searched(Path(folder))
        draw_screen(of_the_search(statuses), PICTURES / "screen.svg")
        draw_report(report, PICTURES / "report.png")


if __name__ == "__main__":
    main()
