"""The place of the checkpoints, tried before a search; of several nodes see test_losses.py."""

import pytest

from haan.errors import InputError
from search import reach


class Refusing:
    """A bucket of somebody else's: it refuses whatever it is asked."""

    def open_output_stream(self, path: str) -> None:
        raise OSError(f"When uploading {path}: AWS Error ACCESS_DENIED")

    def get_file_info(self, path: str) -> None:
        raise OSError(f"When getting information for {path}: AWS Error ACCESS_DENIED")


def test_a_bucket_that_refuses_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "FileSystem", type("", (), {"from_uri": lambda place: (Refusing(), "theirs/haan")}))
    rule = r"search.storage: must be a place that can be written, got 's3://theirs/haan': .*ACCESS_DENIED"
    with pytest.raises(InputError, match=rule):
        reach.check("s3://theirs/haan", [])
