"""Where the checkout lies, the data that tests may use when they are there, and what lies in a folder."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"


def files(folder: Path) -> dict[str, bytes | None]:
    """Every path below a folder, and what each file holds."""
    found = sorted(folder.rglob("*"))
    return {str(one.relative_to(folder)): one.read_bytes() if one.is_file() else None for one in found}
