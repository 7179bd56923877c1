"""The place of the checkpoints, tried before a search; of several real nodes see trials/test_lost_nodes.py."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

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


HEAD, WORKER = nodes.Node("1", "h1", {}, head=True, here=True), nodes.Node("2", "h2", {})
SMALL = nodes.Node("3", "h3", {})
ROOM = nodes.Room(None, "/tmp", 5)


class Asked:
    """Nodes that are other folders of this machine: `log` has what is asked of them, in order.

    broken: the id of one that can't do what it is asked to.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, broken: str = ""):
        self.log: list[tuple[str, str, bool]] = []
        self.here, self.broken = "", broken
        monkeypatch.setattr(nodes, "_ask", self.ask)
        monkeypatch.setattr(nodes, "_await", self.wait)
        context = SimpleNamespace(get_node_id=lambda: self.here)
        monkeypatch.setattr(storagecheck, "ray", SimpleNamespace(get_runtime_context=lambda: context))

    def ask(self, node: nodes.Node, task: Callable[[], None] | None) -> Any:
        self.log.append(("asked", node.id, task is not None))
        return task

    def wait(self, node: nodes.Node, task: Callable[[], None] | None) -> nodes.Room:
        self.log.append(("awaited", node.id, task is not None))
        self.here = node.id
        if node.id == self.broken:
            raise nodes.Unanswered(node, "OSError: broken")
        if task is not None:
            task()
        return ROOM


def test_every_node_is_asked_once_for_all_that_is_wanted_and_all_before_the_first_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(monkeypatch)
    probed = storagecheck.check(str(tmp_path / "place"), [HEAD, WORKER], [HEAD, WORKER, SMALL])
    assert [(node.id, node.room) for node in probed] == [("1", ROOM), ("2", ROOM), ("3", ROOM)]
    # The driver itself runs on the head, and no trial on the small one, so only the worker tries the storage.
    wanted = [("1", False), ("2", True), ("3", False)]
    assert asked.log == [("asked", *one) for one in wanted] + [("awaited", *one) for one in wanted]
    assert not (tmp_path / "place").exists(), "left as it was"


def test_a_run_asks_nobody_but_those_that_must_use_the_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(monkeypatch)
    storagecheck.check(str(tmp_path), [HEAD, WORKER])
    assert asked.log == [("asked", "2", True), ("awaited", "2", True)] and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("2", "search.storage: must be .*, which node h2 can't use: OSError: broken; mount the same folder on h2, or"),
        ("3", "^node h3: must answer and have this project installed .*, got OSError: broken$"),
    ],
)
def test_a_node_that_fails_is_named_with_what_it_was_asked_for(
    broken: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Asked(monkeypatch, broken)
    with pytest.raises(InputError, match=said):
        storagecheck.check(str(tmp_path), [HEAD, WORKER], [HEAD, WORKER, SMALL])
    assert not list(tmp_path.iterdir()), "left as it was"
