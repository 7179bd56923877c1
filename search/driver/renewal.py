"""report.html while a search goes on: written now and then, so that an open page shows how it stands."""

import logging
import time

import optuna

from search.page.page import RENEWED_S, write_report
from search.results.folder import RunFolder
from search.space.model import Space

_LOG = logging.getLogger("search")
_SHARE = 0.02  # of the driver's time at most: the report of thousands of trials takes seconds


class Renewal:
    """The report of a search that goes on. study: the search's, not the confirmation's."""

    def __init__(self, folder: RunFolder, space: Space, study: optuna.Study):
        self._folder, self._space, self._study = folder, space, study
        self._due = time.monotonic() + RENEWED_S

    def renew(self) -> None:
        """Writes it where it is time."""
        began = time.monotonic()
        if began < self._due:
            return
        try:
            write_report(self._folder, self._space, self._study, goes_on=True)
        except Exception:  # whatever is wrong with a picture of the search, the search goes on
            _LOG.warning("could not write %s", self._folder.report, exc_info=True)
        ended = time.monotonic()
        self._due = max(began + RENEWED_S, ended + (ended - began) * (1 / _SHARE - 1))
