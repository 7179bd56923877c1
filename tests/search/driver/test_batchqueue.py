"""Workers that are Slurm's jobs: what may come, what is said of those that wait, and which are given back."""

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from search.driver import batchqueue, nodes, staff
from search.driver.batchqueue import BatchQueue, QueuedJob, Worker, parsed, surplus, waiting_words
from search.driver.nodes import Node
from search.driver.placement import Share
from search.driver.staff import Staff
from search.results.jobfolder import JobFolder
from search.trials.bridge import Running

TODAY = datetime.now().replace(hour=18, minute=40, second=0, microsecond=0)
LISTED = f"""\
7_1|RUNNING|None|{TODAY:%Y-%m-%dT%H:%M:%S}|h1
7_2|PENDING|Resources|{TODAY:%Y-%m-%dT%H:%M:%S}|
7_3|PENDING|Priority|N/A|
7_4|FAILED|NonZeroExitCode|{TODAY:%Y-%m-%dT%H:%M:%S}|h2
slurm_load_jobs error: something else
"""


@pytest.fixture
def queue(tmp_path: Path) -> BatchQueue:
    folder = JobFolder(tmp_path / "runs" / "a" / "slurm")
    folder.make()
    known = {"most": 4, "resources": {"CPU": 4, "GPU": 1}, "together": False}
    folder.plan.write_text(json.dumps(known))
    return BatchQueue(folder)


def test_what_squeue_lists_is_read(queue: BatchQueue) -> None:
    first, second, third, fourth = parsed(LISTED)
    assert first == QueuedJob("7_1", "RUNNING", "None", TODAY, "h1") and not first.waits
    assert second.waits and second.reason == "Resources" and third.start is None
    assert fourth.is_over


def test_what_jobs_wait_for_is_in_slurms_words() -> None:
    assert waiting_words(parsed(LISTED)) == "2 pending: Resources, Priority, expected 18:40"
    later = TODAY + timedelta(days=1)
    assert waiting_words([QueuedJob("1", "PENDING", "Priority", later)]).endswith(f"expected {later:%Y-%m-%d} 18:40")
    never = waiting_words([QueuedJob("1", "PENDING", "PartitionTimeLimit")])
    assert never == "1 pending: PartitionTimeLimit; waiting won't change it: time is above the partition's limit"
    assert waiting_words([QueuedJob("1", "RUNNING", "None")]) == ""
    said = "Job's account not known, so it can't use this partition (main allows lab)"  # as Slurm 22.05 has it
    never = waiting_words(parsed(f"1|PENDING|{said}|{later:%Y-%m-%dT%H:%M:%S}|"))
    assert never.startswith(f"1 pending: {said}, expected ")
    assert never.endswith("18:40; waiting won't change it: the partition does not take this account")
    assert batchqueue.lasting(never) == f"1 pending: {said}; {never.rpartition('; ')[2]}"


def test_the_screen_says_how_many_there_are(queue: BatchQueue) -> None:
    queue.folder.queue.write_text(LISTED)
    assert queue.words(1) == "1 of 4 workers; 2 pending: Resources, Priority, expected 18:40"
    assert queue.words(0).startswith("0 of 4 workers; 1 starting; 2 pending")
    assert queue.words(0, released=["7_1", "7_2"]) == "0 of 4 workers; 1 pending: Priority"


def test_what_may_come_counts_as_an_autoscalers_nodes_do(queue: BatchQueue) -> None:
    head, worker = Node("a", "d", {}, head=True), Node("b", "h1", {"CPU": 4, "GPU": 1}, job="7_1")
    types, more = nodes.startable(queue.as_autoscaler(), [head, worker])  # before squeue has said anything
    assert more == 3 and types[0].resources == {"CPU": 4, "GPU": 1}
    queue.folder.queue.write_text(LISTED)
    assert nodes.startable(queue.as_autoscaler(), [head, worker])[1] == 2  # of four one has failed
    queue.folder.queue.write_text(LISTED.replace("PENDING", "CANCELLED"))
    assert nodes.startable(queue.as_autoscaler(), [head, worker]) == ((), 0)


def test_the_head_of_a_whole_allocation_is_one_of_its_nodes(queue: BatchQueue) -> None:
    queue.folder.plan.write_text(json.dumps({**queue.plan, "together": True}))
    whole, size = BatchQueue(queue.folder), {"CPU": 4, "GPU": 1}
    head, others = Node("a", "h1", size, head=True), [Node(host, host, size) for host in ("h2", "h3", "h4")]
    assert nodes.startable(whole.as_autoscaler(), [head, others[0]])[1] == 2
    assert nodes.startable(whole.as_autoscaler(), [head, *others]) == ((), 0)


def test_a_worker_that_can_not_work_is_told_once_by_whichever_driver(queue: BatchQueue) -> None:
    (queue.folder.notes / "7_2").write_text("node h2: setup[0]: must succeed, got exit code 1 of: module load x\n")
    (queue.folder.notes / "7_3.partial").write_text("node h3: se")
    queue.folder.queue.write_text(LISTED)
    told = queue.news()
    assert told[0] == "node h2: setup[0]: must succeed, got exit code 1 of: module load x"
    assert told[1].startswith("worker 7_4 on h2 ended without a word: FAILED (NonZeroExitCode)") and len(told) == 2
    assert queue.news() == [] and BatchQueue(queue.folder).news() == []


def coming(*states: str) -> list[QueuedJob]:
    return [QueuedJob(f"7_{index}", state) for index, state in enumerate(states, start=4)]


@pytest.mark.parametrize(
    ("needed", "released"),
    [
        # Two trials on each; 7_1 and 7_2 are at work, 7_3 is idle; 7_4 starts, 7_5 and 7_6 wait.
        (99, ([], [])),
        (12, ([], [])),
        (11, ([], [])),  # six workers are needed for eleven
        (10, (["7_6"], [])),
        (9, (["7_6"], [])),
        (7, (["7_5", "7_6"], [])),
        (5, (["7_4", "7_5", "7_6"], [])),
        (4, (["7_4", "7_5", "7_6"], ["7_3"])),
        (1, (["7_4", "7_5", "7_6"], ["7_3"])),  # one that trains is never given back
    ],
)
def test_jobs_that_the_rest_can_not_fill_are_given_back(needed: int, released: tuple[list[str], list[str]]) -> None:
    up = [Worker("7_1", 2), Worker("7_2", 1), Worker("7_3", 0)]
    found = surplus(needed, 2, up, coming("RUNNING", "PENDING", "PENDING"))
    assert (sorted(found[0]), found[1]) == released


def test_the_driver_gives_back_each_job_once_and_only_where_it_knows_who_trains(
    queue: BatchQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.folder.queue.write_text(LISTED)
    up = (Node("a", "d", {}, head=True), Node("b", "h1", {}, job="7_1"), Node("c", "h1", {}, job="7_9"))
    monkeypatch.setattr(nodes, "alive", lambda: up)
    lines: list[str] = []
    seen = Staff(queue, Share(4, 4, 1.0), lines.append)
    trains: Any = Running(0, {}, 5, node_id="b")
    begins: Any = Running(1, {}, 5)

    seen.look([trains, begins], 2)  # where the second one runs isn't known
    assert queue.folder.release.read_text() == "cancel 7_2\ncancel 7_3\n"
    queue.folder.release.unlink()
    seen.look([trains], 1)
    assert queue.folder.release.read_text() == "leave 7_9\n"
    queue.folder.release.unlink()
    seen.look([trains], 1)
    assert not queue.folder.release.exists()
    assert lines[-1] == "1 worker(s) go: 1 trial(s) are left for 1 on each"
    seen.dismiss()
    assert queue.folder.release.read_text() == "cancel 7_1\ncancel 7_2\ncancel 7_3\n"


def test_more_workers_than_trials_may_run_at_once_are_not_kept(
    queue: BatchQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.folder.queue.write_text(LISTED)
    monkeypatch.setattr(nodes, "alive", lambda: (Node("b", "h1", {}, job="7_1"),))
    Staff(queue, Share(1, 4, 1.0), lambda line: None).look([], 99)  # `concurrent: 1` in the space
    assert queue.folder.release.read_text() == "cancel 7_2\ncancel 7_3\n"


def test_it_is_there_only_where_slurm_starts_the_workers(queue: BatchQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(batchqueue.FOLDER, raising=False)
    assert Staff.here(Share(1, 1, 0.0), print) is None
    monkeypatch.setenv(batchqueue.FOLDER, str(queue.folder.root))
    assert BatchQueue.here() == queue and staff.Staff.here(Share(1, 1, 0.0), print) is not None
