"""Whether features were planted, which every output of theirs says; `plant` plants them."""

from pathlib import Path
from typing import Any

from haan.config import Data
from haan.errors import InputError
from haan.files import read_json

PLANTED = "planted.json"
MADE_UP = "PLANTED FEATURES: these figures show that the machine works, and say nothing about real video."


def planted(data: Data) -> dict[str, Any] | None:
    """The record that planting leaves beside its features, wherever these lie. Raises InputError where it is none."""
    root, features = Path(data.root), Path(data.root, data.features)
    folders = (root, features.parent, features.resolve(), features.resolve().parent)
    path = next((folder / PLANTED for folder in folders if (folder / PLANTED).exists()), None)
    if path is None:
        return None
    found = read_json(path)
    if not isinstance(found, dict):
        raise InputError(f"{path}: must be a JSON object, got {str(found)[:80]}")
    return found
