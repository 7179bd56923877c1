"""GPUs of a local Ray: which are used, how many trials share one, and NVIDIA's MPS. Stand-ins for NVIDIA's commands."""

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from haan.errors import InputError
from search.driver import gpus
from search.driver.gpus import Gpu, LocalGpus, take
from search.driver.nodes import Cluster, Node, NodeType
from search.driver.placement import Crowd, Share, crowd, fit
from search.space.model import Plan, Resources
from search.space.read import read_space
from tests.paths import ROOT
from tests.search.spaces import demo_space, tiny_space

GIB = 2**30
LISTED = """\
0, GPU-aaaa1111, 81559, 80000, NVIDIA H100 80GB HBM3
1, GPU-bbbb2222, 81559, 20000, NVIDIA H100 80GB HBM3
2, GPU-cccc3333, [N/A], [N/A], NVIDIA of a kind that says nothing
"""
TWO = (
    Gpu(0, "GPU-aaaa1111", "NVIDIA H100 80GB HBM3", 81559 * 2**20, 80000 * 2**20),
    Gpu(1, "GPU-bbbb2222", "NVIDIA H100 80GB HBM3", 81559 * 2**20, 20000 * 2**20),
)
HELD = "GPU 1: 60 of 80 GiB held by other processes"
# As NVIDIA's: it serves in the foreground and hears words through its pipe's folder.
MPS = """#!/bin/sh
there=$CUDA_MPS_PIPE_DIRECTORY/control
if [ "$1" = -f ]; then
    mkfifo "$there"; echo $$ > "$SEEN"
    read -r word < "$there"; echo "$word" >> "$SEEN"
else
    cat > "$there"
fi
"""


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of commands that comes first."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
    for name in (gpus.VISIBLE, gpus.PIPES, gpus.LOGS):
        monkeypatch.delenv(name, raising=False)
    script(folder / "nvidia-smi", f"#!/bin/sh\ncat << END\n{LISTED}END\n")
    return folder


def script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("says", "expected"),
    [
        (f"cat << END\n{LISTED}END", TWO),
        ("echo 'NVIDIA-SMI has failed'; exit 9", ()),
        ("echo 'No devices were found'", ()),
    ],
)
def test_the_gpus_of_a_machine_are_those_that_nvidias_command_lists(
    commands: Path, says: str, expected: tuple[Gpu, ...]
) -> None:
    script(commands / "nvidia-smi", f"#!/bin/sh\n{says}\n")
    assert gpus.here() == expected


def test_without_nvidias_command_there_is_none(commands: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(commands.parent))
    assert gpus.here() == () and take("all") == ()


@pytest.mark.parametrize(
    ("visible", "wanted", "found", "left"),
    [
        (None, "all", TWO, None),
        (None, (1,), TWO[1:], "GPU-bbbb2222"),
        (None, (1, 0, 1), TWO[::-1], "GPU-bbbb2222,GPU-aaaa1111"),
        ("1", "all", TWO[1:], "GPU-bbbb2222"),
        ("GPU-bbbb", "all", TWO[1:], "GPU-bbbb2222"),
        ("", "all", (), ""),
        ("MIG-1234", "all", None, "MIG-1234"),
        ("7", "all", None, "7"),
    ],
)
def test_what_starts_sees_the_wanted_gpus_alone(
    commands: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, wanted: object, found: object, left: object
) -> None:
    if visible is not None:
        monkeypatch.setenv(gpus.VISIBLE, visible)
    assert take(wanted) == found  # type: ignore[arg-type]
    assert os.environ.get(gpus.VISIBLE) == left
    os.environ.pop(gpus.VISIBLE, None)


def test_numbers_that_cuda_may_give_to_others_stay_as_they_are(commands: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(commands / "nvidia-smi", "#!/bin/sh\necho '0, GPU-a, 9, 9, T4'\necho '1, GPU-b, 9, 9, A100'\n")
    monkeypatch.setenv(gpus.VISIBLE, "0")
    assert take("all") is None and os.environ[gpus.VISIBLE] == "0"
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert [gpu.name for gpu in take("all") or ()] == ["T4"]


@pytest.mark.parametrize(
    ("visible", "wanted", "need", "used", "says"),
    [
        (None, "all", 10, "0 1", HELD),
        (None, "all", 30, "0", f"{HELD}: left out, for a trial takes about 30.0 GiB"),
        (None, "all", 79, "0 1", HELD),  # none has room, which is said where all of a trial's memory is counted
        (None, (1,), 30, "1", HELD),
        ("0,1", "all", 30, "0 1", HELD),
    ],
)
def test_a_gpu_that_others_hold_is_named_and_left_out_where_nobody_chose_it(
    commands: Path,
    monkeypatch: pytest.MonkeyPatch,
    visible: str | None,
    wanted: object,
    need: int,
    used: str,
    says: str,
) -> None:
    if visible is not None:
        monkeypatch.setenv(gpus.VISIBLE, visible)
    monkeypatch.setenv(gpus.PIPES, "theirs")
    with ExitStack() as after:
        local = LocalGpus(Plan(gpus=wanted), after, need * GIB)  # type: ignore[arg-type]
        assert local.take() is None
    assert " ".join(str(gpu.index) for gpu in local.known) == used
    assert list(local.held()) == [says]  # the 1.5 GiB of the other may be its driver's own
    left = os.environ.pop(gpus.VISIBLE, None)
    assert left == (None if used == "0 1" and visible is None else ",".join(gpu.uuid for gpu in local.known))


@pytest.mark.parametrize(
    ("visible", "wanted", "count", "says"),
    [
        ("MIG-1,MIG-2", "all", 2, "GPUs MIG-1,MIG-2 (CUDA_VISIBLE_DEVICES)"),
        ("MIG-1,GPU-aaaa1111", "all", None, "GPUs MIG-1,GPU-aaaa1111 (CUDA_VISIBLE_DEVICES)"),
        ("1", "all", None, "GPUs 1 (CUDA_VISIBLE_DEVICES)"),
        ("", "all", None, "GPUs none (CUDA_VISIBLE_DEVICES)"),
        (None, (0,), None, "GPUs 0 (search.gpus)"),
        (None, "all", None, ""),
    ],
)
def test_who_gave_which_gpus_is_said_and_parts_of_them_are_counted(
    commands: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, wanted: object, count: int | None, says: str
) -> None:
    if visible is not None:
        monkeypatch.setenv(gpus.VISIBLE, visible)
    monkeypatch.setenv(gpus.PIPES, "theirs")
    with ExitStack() as after:
        local = LocalGpus(Plan(gpus=wanted), after)  # type: ignore[arg-type]
        assert local.take() == count and str(local) == says
    os.environ.pop(gpus.VISIBLE, None)


@pytest.mark.parametrize(("visible", "wanted"), [(None, (0, 5)), (None, ()), ("1", (0,)), ("MIG-1", (0,))])
def test_gpus_that_are_not_there_are_refused(
    commands: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, wanted: tuple[int, ...]
) -> None:
    if visible is not None:
        monkeypatch.setenv(gpus.VISIBLE, visible)
    with pytest.raises(InputError, match=r"^search.gpus: must be all, or numbers of GPUs of this machine, "):
        take(wanted)


def test_the_keys_are_read_from_a_space(tmp_path: Path) -> None:
    path = tiny_space(tmp_path)
    assert read_space(path).plan.gpus == "all" and read_space(path).plan.mps == "auto"
    plan = read_space(path, ("search.gpus=[0, 3]", "search.mps=off")).plan
    assert (plan.gpus, plan.mps) == ((0, 3), "off")
    for wrong in ("[0.5]", "2", "[a]", "0:2:1"):
        with pytest.raises(InputError, match="search.gpus: must be 'all' or a list of whole numbers, got "):
            read_space(path, (f"search.gpus={wrong}",))


H100 = Gpu(0, "GPU-a", "H100", 80 * GIB, 78 * GIB)


def gpu_node(cpu: float = 16, gpu: float = 1) -> Node:
    return Node("a", "lab", {"CPU": cpu, "GPU": gpu, "object_store_memory": 1000})


@pytest.mark.parametrize(
    ("cpu", "need", "free", "size", "says"),
    [
        (2, 2 * GIB, 78, 8, "8 trial(s) a GPU: its memory holds 37, the cores beside it 8"),
        (1, 2 * GIB, 78, 16, "16 trial(s) a GPU: its memory holds 37, the cores beside it 16"),
        (2, 20 * GIB, 78, 3, "3 trial(s) a GPU: its memory holds 3, the cores beside it 8"),
        (2, 20 * GIB, 10, 1, "1 trial(s) a GPU: its memory holds 0, the cores beside it 8"),
        (32, 2 * GIB, 78, 1, "1 trial(s) a GPU: its memory holds 37, the cores beside it 0"),
    ],
)
def test_gpu_auto_is_what_memory_and_cores_allow(
    tmp_path: Path, cpu: int, need: int, free: int, size: int, says: str
) -> None:
    space = demo_space(tmp_path, resources={"cpu": cpu, "gpu": "auto"})
    found = crowd(space, Cluster((gpu_node(),), True), [H100, replace(H100, free=free * GIB)], need)
    assert found.size == size and str(found) == f"gpu: auto is {says}"


@pytest.mark.parametrize("size", range(1, 17))
def test_a_gpu_holds_as_many_shares_as_it_was_divided_into(tmp_path: Path, size: int) -> None:
    space = demo_space(tmp_path, resources={"cpu": 1, "gpu": "auto"})
    asked = fit(space, Cluster((gpu_node(cpu=64, gpu=2),), True), 100, Crowd(size, 32))
    assert asked.concurrent == 2 * size and asked.gpu == pytest.approx(1 / size, abs=1e-4) and asked.gpu * size <= 1


def test_of_many_the_most_are_sixteen_and_of_nothing_known_it_is_one() -> None:
    assert Crowd(40, 32).size == 16 and str(Crowd(40, 32)).endswith("the cores beside it 32, and 16 are the most")
    assert Crowd(None, 32).share == 1.0 and "none is up whose memory could be asked" in str(Crowd(None, 32))


def test_nodes_that_may_start_count_for_the_cores(tmp_path: Path) -> None:
    space = demo_space(tmp_path, resources={"cpu": 2, "gpu": "auto"})
    head = Node("h", "head", {"CPU": 2, "object_store_memory": 1000}, head=True, here=True)
    grows = Cluster((head,), False, (NodeType("gpu", {"CPU": 8, "GPU": 1}, 2),), 2)
    assert crowd(space, grows, (), GIB) == Crowd(None, 4)
    assert fit(space, grows, 100, Crowd(None, 4)) == Share(2, 2, 1.0, "h")


def overlapping(plan: Plan, share: float, held: ExitStack, local: bool = True) -> list[str]:
    ours = LocalGpus(plan, held)
    if local:
        ours.take()
    return list(ours.overlapping(share))


def test_trials_that_share_a_gpu_have_an_mps_that_ends_with_the_search(commands: Path, tmp_path: Path) -> None:
    script(commands / gpus.CONTROL, MPS)
    with ExitStack() as held:
        assert overlapping(Plan(), 0.25, held) == ["MPS: trials on one GPU overlap"]
        folder = Path(os.environ[gpus.PIPES]).parent
        assert Path(os.environ[gpus.LOGS]).is_dir()
    number, word = (tmp_path / "seen").read_text().split()
    assert word == "quit" and not Path("/proc", number).exists()
    assert gpus.PIPES not in os.environ and gpus.LOGS not in os.environ and not folder.exists()


def test_an_mps_ends_with_a_driver_that_was_killed(commands: Path, tmp_path: Path) -> None:
    script(commands / gpus.CONTROL, MPS)
    code = (
        "import time; from contextlib import ExitStack; from search.driver.gpus import LocalGpus\n"
        "from search.space.model import Plan\n"
        "ours = LocalGpus(Plan(), ExitStack()); ours.take()\n"
        "print(*ours.overlapping(0.5), flush=True); time.sleep(600)"
    )
    driver = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT, text=True)
    assert driver.stdout is not None and driver.stdout.readline() == "MPS: trials on one GPU overlap\n"
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    driver.stdout.close()
    limit = time.monotonic() + 30
    while (tmp_path / "seen").read_text().split()[1:] != ["quit"] and time.monotonic() < limit:
        time.sleep(0.05)
    assert (tmp_path / "seen").read_text().split()[1:] == ["quit"]


@pytest.mark.parametrize(
    ("says", "why"),
    [(None, "nvidia-cuda-mps-control is not on this machine"), ("echo 'An instance runs'; exit 1", "An instance runs")],
)
def test_where_no_mps_starts_trials_take_turns_unless_it_must_be_on(commands: Path, says: str | None, why: str) -> None:
    if says:
        script(commands / gpus.CONTROL, f"#!/bin/sh\n{says}\n")
    with ExitStack() as held:
        assert overlapping(Plan(), 0.25, held) == [f"MPS: none, so trials on one GPU take turns ({why})"]
    with ExitStack() as held, pytest.raises(InputError) as refused:
        overlapping(Plan(mps="on"), 0.25, held)
    assert str(refused.value) == f"search.mps: must be auto or off on this machine, got 'on': {why}"


@pytest.mark.parametrize(("plan", "share"), [(Plan(), 1.0), (Plan(), 0.0), (Plan(mps="off"), 0.25)])
def test_no_mps_starts_where_none_is_of_use(commands: Path, tmp_path: Path, plan: Plan, share: float) -> None:
    script(commands / gpus.CONTROL, MPS)
    with ExitStack() as held:
        assert overlapping(plan, share, held) == []
    assert not (tmp_path / "seen").exists()


def test_an_mps_of_the_user_is_used_and_left_alone(
    commands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(commands / gpus.CONTROL, MPS)
    monkeypatch.setenv(gpus.PIPES, str(tmp_path))
    with ExitStack() as held:
        assert overlapping(Plan(), 0.25, held) == [f"MPS: trials use yours in {tmp_path}"]
    assert not (tmp_path / "seen").exists() and os.environ[gpus.PIPES] == str(tmp_path)


@pytest.mark.parametrize(("plan", "key"), [(Plan(gpus=(0,)), "gpus"), (Plan(mps="on"), "mps")])
def test_a_cluster_that_others_started_has_its_own_ways(plan: Plan, key: str) -> None:
    with ExitStack() as held, pytest.raises(InputError, match=f"^search.{key}: must be .* on a cluster that others"):
        overlapping(plan, 0.25, held, local=False)
    with ExitStack() as held:
        assert overlapping(Plan(resources=Resources(gpu=0.5), mps="off"), 0.5, held, local=False) == []
