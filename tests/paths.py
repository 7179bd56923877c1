"""Where the checkout lies, and the data that tests may use when they are there."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"
