"""report.html: one file that needs no network."""

from datetime import UTC, datetime
from pathlib import Path

import optuna
from optuna.trial import TrialState
from plotly.offline import get_plotlyjs

from haan.files import whole
from search.page import markup
from search.page.facts import Findings, read_findings
from search.page.lanes import timeline
from search.page.plots import escaped
from search.page.sections import SECTIONS, Sheet
from search.results.folder import RunFolder
from search.results.provenance import made_up
from search.space.model import Space
from search.study import record

_HERE = Path(__file__).parent
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'"

RENEWED_S = 60  # a page of a search that goes on looks so often for the next one
_REFRESH = f'\n<meta http-equiv="refresh" content="{RENEWED_S}">'


def write_report(folder: RunFolder, space: Space, study: optuna.Study, goes_on: bool = False) -> Path:
    """Writes report.html of a run in any state, whole or not at all; its path. Raises InputError.

    goes_on: a driver writes the next one, for which an open page looks.
    """
    text = page(read_findings(folder, space, study), datetime.now(UTC), goes_on)
    with whole(folder.report) as partial:
        partial.write_text(text, encoding="utf-8")
    return folder.report


def page(found: Findings, written: datetime, goes_on: bool = False) -> str:
    """The whole page; see `write_report`."""
    sheet = Sheet(found, timeline(found.trials))
    links = "".join(f'<li><a href="#{name}">{title}</a></li>' for name, title, _ in SECTIONS)
    bodies = "".join(
        f'<section id="{name}" aria-labelledby="{name}-title"><h2 id="{name}-title">{title}</h2>{body(sheet)}</section>'
        for name, title, body in SECTIONS
    )
    # Scripts run by their hash alone, so that nothing that slipped into the page could run, and nothing can be fetched.
    scripts = [get_plotlyjs(), (_HERE / "report.js").read_text(encoding="utf-8")]
    hashes = " ".join(f"'sha256-{markup.sha256(script)}'" for script in scripts)
    policy = f"{_POLICY}; script-src {hashes}"
    name = escaped(found.run)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">{_REFRESH if goes_on else ""}
<title>{name}: HAAN search</title>
<link rel="icon" href="data:,">
<style>{(_HERE / "report.css").read_text(encoding="utf-8")}</style>
</head>
<body>
<header class="top">
<h1>{name}</h1>
<p class="quiet">{_subtitle(found, written, goes_on)}</p>{_made_up(found)}
<nav aria-label="Contents"><ul>{links}</ul></nav>
</header>
<main>
<noscript><p class="warning">The plots and the sorting need JavaScript, which is switched off here.</p></noscript>
{bodies}
<footer>Written by <code>python search/report.py</code>. This file is complete: it fetches nothing.</footer>
</main>
<script type="application/json" id="figures">{markup.data_block(sheet.figures)}</script>
<script>{scripts[0]}</script>
<script>{scripts[1]}</script>
</body>
</html>
"""


def _made_up(found: Findings) -> str:
    lines = made_up(found.space.base.data, found.attributes.get(record.DATA))
    return "".join(f'\n<p class="warning" role="note"><b>{escaped(line)}</b></p>' for line in lines)


def _subtitle(found: Findings, written: datetime, goes_on: bool) -> str:
    ended = len(found.of(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL))
    renews = " The search goes on, and this page renews itself." if goes_on else ""
    return (
        f"HAAN hyper-parameter search: {ended} of {found.space.plan.trials} trials ended. "
        f"Report of {written:%d %B %Y, %H:%M} UTC.{renews}"
    )
