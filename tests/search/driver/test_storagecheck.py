"""The place of the checkpoints, tried before a search; of several nodes see test_losses.py."""

import pytest

from haan.errors import InputError
from search.driver import nodes, storagecheck


class Refusing:
    """A bucket of somebody else's: it refuses whatever it is asked."""

    def open_output_stream(self, path: str) -> None:
        raise OSError(f"When uploading {path}: AWS Error ACCESS_DENIED")

    def get_file_info(self, path: str) -> None:
        raise OSError(f"When getting information for {path}: AWS Error ACCESS_DENIED")


def test_a_bucket_that_refuses_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        storagecheck, "FileSystem", type("", (), {"from_uri": lambda place: (Refusing(), "theirs/haan")})
    )
    rule = r"search.storage: must be a place that can be written, got 's3://theirs/haan': .*ACCESS_DENIED"
    with pytest.raises(InputError, match=rule):
        storagecheck.check("s3://theirs/haan", [])


def test_a_folder_that_nodes_to_come_must_mount_is_said() -> None:
    head = nodes.Node("1", "h1", {"CPU": 0}, head=True, here=True)
    spot = nodes.NodeType("gpu_spot", {"CPU": 8, "GPU": 1}, 2)
    grows, stays = nodes.Cluster((head,), False, (spot,), 2), nodes.Cluster((head,), False)
    said = storagecheck.untried("/mnt/checkpoints", grows)
    assert said is not None and "mount it on 2 more of gpu_spot (8 CPUs, 1 GPUs each) as well" in said
    assert (
        storagecheck.untried("/mnt/checkpoints", stays) is None
        and storagecheck.untried("s3://bucket/haan", grows) is None
    )
