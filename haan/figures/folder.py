"""A folder of figures: NAME.png, .svg and .pdf of each, and figures.json, which says what they are of.

figures.json: `weights`, the SHA-256 of the weights, and `figures`, for each its `name` and `caption`.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from haan.activitynet import write_json
from haan.errors import InputError
from haan.files import remove

NAME = "figures"  # of the folder, inside a run or training folder
_FIGURE = re.compile(r"figure[345](-[a-z0-9]+)?")


@dataclass(frozen=True)
class Index:
    """figures.json: SHA-256 of the weights; name and caption of each figure."""

    weights: str
    figures: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class FigureFolder:
    """Every path inside."""

    root: Path

    @property
    def index(self) -> Path:
        """figures.json, written last: without it there are no figures."""
        return self.root / "figures.json"

    def png(self, name: str) -> Path:
        """For a page or a slide."""
        return self.root / f"{name}.png"

    def svg(self, name: str) -> Path:
        """For a page that is to stay sharp."""
        return self.root / f"{name}.svg"

    def pdf(self, name: str) -> Path:
        """For print, and for LaTeX."""
        return self.root / f"{name}.pdf"

    def files(self, name: str) -> tuple[Path, Path, Path]:
        """All that lie there of a figure."""
        return self.png(name), self.svg(name), self.pdf(name)

    def clear(self) -> None:
        """Takes away the figures that the index names, and it. Raises InputError where it is no index."""
        if not self.index.exists():
            return
        for name, _ in self.read_index().figures:
            for file in self.files(name):
                remove(file)
        remove(self.index)

    def write_index(self, index: Index) -> None:
        """Once the figures are there."""
        figures = [{"name": name, "caption": caption} for name, caption in index.figures]
        write_json(self.index, {"weights": index.weights, "figures": figures})

    def read_index(self) -> Index:
        """Raises InputError."""
        try:
            content: Any = json.loads(self.index.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"{self.index}: must be a JSON file, got: {error}") from None
        entries = content.get("figures") if isinstance(content, dict) else None
        if not isinstance(entries, list) or not isinstance(content.get("weights"), str):
            raise InputError(f"{self.index}: must hold weights (text) and figures (a list), got {content!r:.80}")
        return Index(content["weights"], tuple(self._entry(i, entry) for i, entry in enumerate(entries)))

    def _entry(self, number: int, entry: Any) -> tuple[str, str]:
        name, caption = (entry.get("name"), entry.get("caption")) if isinstance(entry, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(caption, str) or not _FIGURE.fullmatch(name):
            raise InputError(
                f"{self.index}: figures[{number}]: must hold the name of a figure, such as figure4, and its caption, "
                f"got {entry!r:.80}"
            )
        return name, caption
