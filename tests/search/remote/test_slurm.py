"""A search on Slurm as its user meets it on a login node. Programs in the place of Slurm's commands play Slurm."""

import json
import os
import re
import stat
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from haan.errors import InputError
from search.driver.request import Request
from search.remote import slurm, slurmcommands, slurmscripts, watched
from search.remote.jobplan import Plan
from search.remote.slurmfile import SlurmFile
from search.remote.slurmfile import read as read_file
from search.remote.slurmscripts import AGAIN, Scripts
from search.results.folder import RunFolder
from search.results.jobfolder import JobFolder
from tests.paths import ROOT
from tests.search.spaces import tiny_space

FILE = """\
provider: {type: slurm}
account: lab
workers: {most: 2, cpus: 4, gpus: 1, memory: 8G, time: "01:00:00", partition: gpu}
driver: {memory: 4G, time: "1-0"}
"""
SAYS = '#!/bin/bash\necho "{name} $*" >> {log}\n{body}\n'


@dataclass
class Login:
    """A login node. bin: Slurm's commands. lines: what the user is shown."""

    home: Path
    bin: Path
    lines: list[str] = field(default_factory=list)

    @property
    def run(self) -> RunFolder:
        return RunFolder(self.home / "runs" / "a")

    def slurm(self, name: str, body: str) -> None:
        """What a command does from now on."""
        path = self.bin / name
        path.write_text(SAYS.format(name=name, log=self.bin / "log", body=body))
        path.chmod(0o755)

    def called(self) -> list[str]:
        log = self.bin / "log"
        return log.read_text().splitlines() if log.exists() else []

    def submit(self, resume: bool = False, dry_run: bool = False, file: str = FILE) -> int:
        (self.home / "s.yaml").write_text(file)
        asked = Request(Path("tiny.yaml"), "a", Path("runs"), 3, None, ("optim.lr=0.01",), resume)
        return slurm.submit(asked, Path("s.yaml"), "1h", False, dry_run)


@pytest.fixture
def login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Login:
    """Slurm takes each job, and each has ended as soon as it is asked for."""
    made = Login(tmp_path / "home", tmp_path / "bin")
    made.home.mkdir()
    made.bin.mkdir()
    monkeypatch.chdir(made.home)
    tiny_space(made.home, trials=3).rename(made.home / "tiny.yaml")
    monkeypatch.setenv("PATH", f"{made.bin}:/usr/bin:/bin")
    for module in (slurm, watched):
        monkeypatch.setattr(module, "say", made.lines.append)
    monkeypatch.setattr(slurm, "_feature_bytes", lambda work: 2**30)
    monkeypatch.setattr(slurm, "_LATE_S", 0)
    made.slurm("sbatch", 'n=$(grep -c ^sbatch "$(dirname "$0")/log"); echo $((40 + n))')
    made.slurm("squeue", 'echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1')
    made.slurm("scancel", "")
    return made


def ends_with(login: Login, code: int, says: str, first: str = "") -> None:
    """Whatever is handed in next says a line and ends. first: what squeue does before."""
    out, ended = login.run.jobs.out, login.run.jobs.ended
    login.slurm("squeue", f"{first}\n[ -d {out.parent} ] && echo '{says}' > {out} && echo {code} > {ended}; exit 0")


def test_one_command_hands_in_driver_and_workers_and_shows_the_driver_to_its_end(login: Login) -> None:
    ends_with(login, 3, "No trial completed")
    assert login.submit() == 3
    jobs = login.run.jobs
    assert [line for line in login.called() if line.startswith("sbatch")] == [
        f"sbatch --parsable {jobs.script('driver')}",
        f"sbatch --parsable --dependency=after:41 {jobs.script('workers')}",
    ]
    assert jobs.ids("driver") == ["41"] and jobs.ids("workers") == ["42"]
    assert login.lines == [
        "a is handed in as job(s) 41, 42 and runs by itself: this terminal may close",
        "No trial completed",
    ]


def test_only_its_user_may_look_into_the_folder_with_the_token(login: Login) -> None:
    os.umask(old := os.umask(0))
    try:
        os.umask(0)
        ends_with(login, 0, "done")
        login.submit()
    finally:
        os.umask(old)
    folder, token = login.run.jobs.root, login.run.jobs.token
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700 and stat.S_IMODE(token.stat().st_mode) == 0o600
    assert re.fullmatch("[0-9a-f]{64}", token.read_text())
    plan = Plan.read(login.run.jobs)
    assert plan.budget_s == 3600 and plan.memory == {"workers": 8 * 2**30, "driver": 4 * 2**30}
    assert plan.feature_bytes == 2**30
    assert plan.words[1:] == f"--name a --out {login.home}/runs --trials 3 --set optim.lr=0.01 --resume".split()
    assert Path(plan.words[0]).read_text() == (login.home / "tiny.yaml").read_text()


def test_a_chain_of_drivers_is_handed_in_at_the_start(login: Login) -> None:
    ends_with(login, 0, "done")
    login.submit(file=FILE + "chain: 3\n")
    given = [line.split()[2:-1] for line in login.called() if line.startswith("sbatch")]
    assert given == [[], ["--dependency=afterany:41"], ["--dependency=afterany:42"], ["--dependency=after:41"]]


def test_a_dry_run_hands_nothing_in_and_shows_scripts_that_sbatch_takes(login: Login) -> None:
    login.slurm("sbatch", 'echo "sbatch: Job 3 to start at 2026-11-28T18:40:00 on nodes h1" >&2')
    assert login.submit(dry_run=True) == 0
    assert {line.split()[1] for line in login.called() if line.startswith("sbatch")} == {"--test-only"}
    shown = "\n".join(login.lines)
    for text in ("#SBATCH --array=1-2", "#SBATCH --gres=gpu:1", "Job 3 to start", "2.0 node-hours, 2.0 GPU-hours"):
        assert text in shown
    ends_with(login, 0, "done")
    login.slurm("sbatch", "echo 7")
    assert login.submit() == 0  # the name is still free
    with pytest.raises(InputError, match="--name must be of a run that does not exist yet"):
        login.run.space_yaml.touch()
        login.submit()


def test_what_is_in_the_queue_is_watched_and_not_handed_in_again(login: Login, monkeypatch: pytest.MonkeyPatch) -> None:
    ends_with(login, 0, "done")
    login.submit()
    login.run.jobs.ended.unlink()
    login.slurm("squeue", "echo '41|PENDING|Priority|N/A|'")
    for refused in (login.submit, lambda: login.submit(resume=True, dry_run=True)):
        with pytest.raises(InputError, match="in the queue"):
            refused()
    ended = login.run.jobs.ended
    looks = login.bin / "looks"
    ends = f"echo >> {looks}; n=$(wc -l < {looks}); [ $n -gt 5 ] && echo 0 > {ended}"
    login.slurm("squeue", f'{ends}; echo "41|PENDING|PartitionTimeLimit|2100-01-01T18:0$n:00|"')
    for name in ("_LOOK_S", "_ASK_S"):
        monkeypatch.setattr(slurm, name, 0)
    handed_in, before = len(login.called()), len(login.lines)
    assert login.submit(resume=True) == 0
    assert not any(line.startswith("sbatch") for line in login.called()[handed_in:])
    watching, done, waiting = login.lines[before:]  # once, although when it is expected changes
    assert (watching, done) == ("a is in the queue or running (job 41): watching it", "done")
    assert waiting.startswith(
        "Waiting for the driver's job 41: 1 pending: PartitionTimeLimit, expected 2100-01-01 18:0"
    )
    assert waiting.endswith("; waiting won't change it: time is above the partition's limit")


def test_a_search_goes_on_at_once_although_its_last_driver_still_leaves_the_queue(
    login: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends_with(login, 130, "cancelled")
    assert login.submit() == 130
    looks = login.bin / "looks"
    leaving = f"[ $(wc -l < {looks}) -lt 3 ] && echo '41|COMPLETING|None|N/A|h1' && exit 0"
    ends_with(login, 0, "done", first=f"echo >> {looks}\n{leaving}")
    monkeypatch.setattr(slurm, "_LOOK_S", 0)
    handed_in = len(login.called())
    assert login.submit(resume=True) == 0
    assert sum(line.startswith("sbatch") for line in login.called()[handed_in:]) == 2
    assert login.lines[-1] == "done"


def test_closing_the_terminal_tells_how_to_watch_and_to_end_it(login: Login, monkeypatch: pytest.MonkeyPatch) -> None:
    login.slurm("squeue", "echo '41|RUNNING|None|N/A|h1'")

    def closed(out: Path, skip: int) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(slurm, "_show_from", closed)
    assert login.submit() == 130
    assert login.lines[-3] == "The search goes on without this terminal"
    assert login.lines[-2].endswith(
        "--cluster s.yaml --name a --trials 3 --time-budget 1h --set optim.lr=0.01 --resume"
    )
    assert login.lines[-1].endswith("-m search.remote.slurm stop runs/a")


def test_a_driver_that_ended_without_a_word_is_said_to(login: Login) -> None:
    login.slurm("squeue", f"[ -d {login.run.jobs.root} ] && echo half > {login.run.jobs.out}; exit 0")
    assert login.submit() == 130
    assert any("ended without a word" in line for line in login.lines) and "To go on: " in login.lines[-1]


def test_a_run_folder_that_the_nodes_do_not_see_is_said_to(login: Login) -> None:
    gone = '[ "$3" = --states=all ] && echo "41|FAILED|NonZeroExitCode|N/A|h3"; exit 0'
    login.slurm("squeue", gone)
    with pytest.raises(InputError, match="must be a folder that all nodes share, got one that node h3 does not see"):
        login.submit()


def test_memory_that_the_features_leave_too_little_of_is_refused_before_anything_is_handed_in(
    login: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "_feature_bytes", lambda work: 2**31)
    with pytest.raises(InputError, match=r"must each be twice what the features take .*2.8 GiB\), got 4.0 GiB"):
        login.submit()
    assert not login.run.root.exists() and not any(line.startswith("sbatch") for line in login.called())


def test_without_slurm_it_is_refused(login: Login) -> None:
    (login.bin / "squeue").unlink()
    with pytest.raises(InputError, match="--cluster: must be given on a login node .* got no squeue in the PATH"):
        login.submit()


@pytest.mark.parametrize(
    ("running", "called", "says"),
    [
        ("41|RUNNING|None|N/A|h1", "scancel --batch --signal=USR2 41", "asked to end in order"),
        ("41|PENDING|BeginTime|N/A|", "scancel 41 42", "had no driver yet"),
    ],
)
def test_a_search_is_ended_for_good(
    login: Login, monkeypatch: pytest.MonkeyPatch, running: str, called: str, says: str
) -> None:
    jobs = login.run.jobs
    jobs.make()
    for kind, job in (("driver", "41"), ("workers", "42")):
        jobs.note_job(kind, job)
    login.slurm("squeue", f"echo '{running}'")
    slurm.stop(login.run.root)
    assert login.called()[-1] == called and says in login.lines[-1]
    login.slurm("squeue", "exit 0")
    with pytest.raises(InputError, match="must be of a run with jobs in the queue, got one that has none"):
        slurm.stop(login.run.root)


KEYS = ("account", "workers", "workers.time", "sbatch.qos", "workers.sbatch.reservation", "sbatch.begin")
PLACES = {key: f"s.yaml:{line}" for line, key in enumerate(KEYS, 1)}
FAILED = "sbatch: error: Batch job submission failed: "


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (
            f"{FAILED}Invalid account or account/partition combination specified",
            "s.yaml:1: account: must be what this Slurm takes, got: Invalid account or account/partition combination "
            "specified",
        ),
        (
            "sbatch: error: invalid partition specified: gpuu\n" + FAILED + "Invalid partition name specified",
            "s.yaml:2: workers.partition: must be what this Slurm takes, got: invalid partition specified: gpuu; "
            "Invalid partition name specified",
        ),
        (f"{FAILED}Requested time limit is invalid (missing or exceeds some limit)", "s.yaml:3: workers.time: "),
        (f"{FAILED}Invalid qos specification", "s.yaml:4: sbatch.qos: "),
        (f"{FAILED}Requested reservation is invalid", "s.yaml:5: workers.sbatch.reservation: "),
        ("sbatch: error: Invalid --begin specification", "s.yaml:6: sbatch.begin: "),
        (f"{FAILED}Requested node configuration is not available", "s.yaml:2: workers: "),
        ("sbatch: unrecognized option '--colour'\nTry \"sbatch --help\" for more", "s.yaml: workers.sbatch.colour: "),
        ("slurm: the moon is full", "s.yaml: workers: must be what this Slurm takes, got: slurm: the moon is full"),
    ],
)
def test_what_sbatch_refuses_names_the_key_and_gives_its_words(said: str, line: str) -> None:
    assert slurmcommands.refusal(said, "workers", PLACES, Path("s.yaml")).startswith(line)


def test_a_dry_run_tells_of_all_jobs_that_sbatch_refuses(login: Login) -> None:
    login.slurm("sbatch", 'echo "sbatch: error: Invalid qos of $2" >&2; exit 1')
    with pytest.raises(InputError) as refused:
        login.submit(dry_run=True)
    assert [message.rpartition("/")[2] for message in refused.value.messages] == ["driver.sh", "workers.sh"]


def test_workers_that_are_refused_take_the_driver_with_them(login: Login) -> None:
    login.slurm("sbatch", 'case "$*" in *workers.sh) echo "sbatch: error: Invalid qos" >&2; exit 1;; esac; echo 41')
    with pytest.raises(InputError, match="must be what this Slurm takes"):
        login.submit()
    assert login.called()[-1] == "scancel 41"


# The scripts, run by bash as Slurm would; Python is a stand-in as well.


@dataclass
class Node:
    """A node of a job. python: what the job's Python does, in bash; $1 and $2 are the role and the folder."""

    login: Login

    def start(self, role: str, python: str, file: str = FILE, **environment: str) -> "subprocess.Popen[str]":
        (self.login.home / "s.yaml").write_text(file)
        stand_in = self.login.bin / "python"
        stand_in.write_text(f'#!/bin/bash\nshift 2\norder="$2/orders/$HAAN_JOB"\n{python}\n')
        stand_in.chmod(0o755)
        known: SlurmFile = read_file(self.login.home / "s.yaml")
        jobs = self.login.run.jobs
        jobs.make()
        text = Scripts(known, jobs, "a", "made by a test", self.login.home).texts()[role]
        words = re.sub(f"{re.escape(sys.executable)} -m", f"{stand_in} -m", text)
        environment = {"SLURM_JOB_ID": "41"} | environment
        return subprocess.Popen(
            ["bash", "-c", words], env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True
        )

    def run(self, role: str, python: str, file: str = FILE, **environment: str) -> tuple[int, str]:
        process = self.start(role, python, file, **environment)
        said = process.communicate(timeout=60)[0]
        return process.returncode, said


@pytest.fixture
def node(login: Login) -> Node:
    login.slurm("scontrol", "")
    login.slurm("squeue", "exit 0")
    return Node(login)


def await_(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


ARRAY = {"SLURM_JOB_ID": "50", "SLURM_ARRAY_JOB_ID": "42", "SLURM_ARRAY_TASK_ID": "2"}


def test_a_search_that_ended_takes_its_workers_with_it(node: Node) -> None:
    node.login.run.jobs.make()
    node.login.run.jobs.note_job("workers", "42")
    node.login.run.jobs.note_job("driver", "43")  # of a chain
    assert node.run("driver", "exit 3") == (3, "")
    assert node.login.run.jobs.ended.read_text() == "3\n"
    assert [line for line in node.login.called() if line.startswith("scancel")] == [
        "scancel --quiet 42",
        "scancel --quiet 43",
    ]
    assert node.run("driver", "echo no; exit 0") == (0, "")  # the next of the chain finds that all is done


def test_a_driver_whose_time_is_up_goes_back_into_the_queue(node: Node) -> None:
    assert node.run("driver", f"exit {AGAIN}")[0] == 0
    assert node.login.called()[-1] == "scontrol requeue 41" and not node.login.run.jobs.ended.exists()
    node.login.slurm("scontrol", "echo Requested operation is presently disabled >&2; exit 1")
    code, said = node.run("driver", f"exit {AGAIN}")
    assert code == 130 and "does not let a job go back into the queue: Requested operation" in said
    assert node.login.run.jobs.ended.read_text() == "130\n"


def test_a_driver_whose_python_is_killed_is_over_and_the_shell_says_nothing_of_it(
    node: Node, capfd: pytest.CaptureFixture[str]
) -> None:
    node.login.run.jobs.make()
    node.login.run.jobs.note_job("workers", "42")
    assert node.run("driver", "kill -9 $$") == (137, "") and capfd.readouterr().err == ""
    assert node.login.run.jobs.ended.read_text() == "137\n" and node.login.called()[-1] == "scancel --quiet 42"


def test_a_driver_of_a_chain_leaves_it_to_the_next(node: Node) -> None:
    node.login.slurm("squeue", 'case "$*" in *PENDING*) echo 43;; esac')
    assert node.run("driver", f"exit {AGAIN}", FILE + "chain: 2\n") == (0, "")
    assert not node.login.run.jobs.ended.exists()
    node.login.slurm("squeue", "")
    code, said = node.run("driver", f"exit {AGAIN}", FILE + "chain: 2\n")
    assert (code, said) == (130, "This was the last of the chain of drivers\n")


@pytest.mark.parametrize(("number", "order"), [(10, "due"), (12, "leave"), (15, "end")])
def test_what_slurm_tells_a_job_reaches_its_python_in_a_file(node: Node, number: int, order: str) -> None:
    wait = 'trap : TERM; echo > "$2/up"; until [ -s "$order" ]; do sleep 0.05; done; cat "$order"'
    job = node.start("workers", wait, **ARRAY)
    await_((node.login.run.jobs.root / "up").exists)
    job.send_signal(number)
    assert job.communicate(timeout=60)[0] == f"{order}\n" and job.returncode == 0


def test_what_slurm_tells_a_job_that_still_sets_up_is_not_lost(node: Node) -> None:
    up, goes_on = node.login.home / "up", node.login.home / "goes on"
    waits = f"touch {up}; until [ -e '{goes_on}' ]; do sleep 0.05; done"
    job = node.start("workers", 'cat "$order" 2> /dev/null; exit 0', f"{FILE}setup: [{json.dumps(waits)}]\n", **ARRAY)
    await_(up.exists)
    job.send_signal(12)
    await_((node.login.run.jobs.orders / "42_2").exists)
    goes_on.touch()
    assert job.communicate(timeout=60)[0] == "leave\n" and job.returncode == 0


def test_a_worker_queues_again_only_while_there_is_a_driver(node: Node) -> None:
    assert node.run("workers", f"exit {AGAIN}", **ARRAY) == (0, "")
    assert not any(line.startswith("scontrol") for line in node.login.called())
    node.login.run.jobs.note_job("driver", "41")
    node.login.slurm("squeue", "echo 41")
    node.run("workers", f"exit {AGAIN}", **ARRAY)
    assert node.login.called()[-1] == "scontrol requeue 42_2"
    assert node.login.run.jobs.ids("workers") == ["42"]


@pytest.mark.parametrize("said", ["", "echo slurm_load_jobs error: Invalid job id specified >&2; exit 1"])
def test_a_worker_whose_driver_is_out_of_the_queue_leaves(
    node: Node, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurmscripts, "_QUEUE_S", 1)
    node.login.slurm("squeue", "echo slurm_load_jobs error: Unable to contact slurm controller >&2; exit 1")
    wait = 'echo > "$2/up"; until [ -s "$order" ]; do sleep 0.05; done; cat "$order"'
    job = node.start("workers", wait, **ARRAY)
    await_((node.login.run.jobs.root / "up").exists)
    await_(lambda: sum(line.startswith("squeue") for line in node.login.called()) >= 2)
    assert job.poll() is None, "that Slurm does not answer says nothing of the driver"
    node.login.slurm("squeue", said)
    assert job.communicate(timeout=60)[0] == "leave\n" and job.returncode == 0


def test_a_setup_line_that_fails_is_told_with_the_nodes_name(node: Node) -> None:
    file = FILE + "setup: ['export A=1', 'test \"$A\" = 2']\nprefix: never\n"
    code, said = node.run("workers", "echo no", file, **ARRAY)
    note = (node.login.run.jobs.notes / "42_2").read_text()
    assert code == 2 and said == note and 'setup[1]: must succeed, got exit code 1 of: test "$A" = 2' in note


@pytest.mark.parametrize("role", ["workers", "together"])
def test_setup_lines_run_as_at_the_top_of_a_script(node: Node, role: str) -> None:
    activate = node.login.home / "activate"  # as conda's: it takes arguments for its own
    activate.write_text("bring() { export BROUGHT=yes; }; bring; [ $# = 0 ]")
    lines = [f". {activate}", "declare -A known=([a]=b)", '[ "${known[a]}" = b ]', "export KNOWN=${known[a]}"]
    text = FILE + ("together: true\n" if role == "together" else "") + f"setup: {json.dumps(lines)}\n"
    role_words = {"SLURM_NNODES": "1"} if role == "together" else ARRAY
    assert node.run(role, 'echo "$BROUGHT $KNOWN"', text, **role_words) == (0, "yes b\n")


@pytest.mark.parametrize(
    ("brought", "got"),
    [
        ("prefix: sh -c 'echo INFO >&2; echo FATAL could not open image x.sif >&2; exit 255'", "FATAL could not open"),
        ("setup: ['unset PYTHONPATH', 'python() { PYTHON -S \"$@\"; }']", "one without ray, torch, numpy"),
        ("setup: ['export PATH=/nowhere:/usr/bin:/bin', 'python() { nothing; }']", "nothing: command not found"),
    ],
)
def test_a_python_that_can_not_do_it_is_told_in_a_line(node: Node, brought: str, got: str) -> None:
    code, said = node.run(
        "workers", "echo no", f"{FILE}{brought.replace('PYTHON -', f'{sys.executable} -')}\n", **ARRAY
    )
    note = (node.login.run.jobs.notes / "42_2").read_text()
    assert code == 2 and said == note and note.count("\n") == 1
    assert re.search(f": must be Python 3.11 or newer with this project's packages, got: .*{got}", note), note


def test_the_oldest_python_is_that_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=" + ".".join(map(str, slurmscripts._OLDEST))


def test_a_node_that_does_not_see_the_folder_says_so(node: Node) -> None:
    process = node.start("workers", "echo no", **ARRAY)
    process.communicate()
    text = Scripts(read_file(node.login.home / "s.yaml"), JobFolder(Path("/nowhere")), "a", "", Path("/")).texts()
    done = subprocess.run(["bash", "-c", text["workers"]], capture_output=True, text=True)
    assert done.returncode == 2 and "must see /nowhere and /, which all nodes share" in done.stdout


def test_jobs_that_are_given_back_are_cancelled_or_asked_to_leave(node: Node) -> None:
    jobs = node.login.run.jobs
    jobs.make()
    jobs.note_job("workers", "42")
    node.login.slurm("squeue", "echo '42_1|RUNNING|None|N/A|h1'")
    driver = node.start("driver", 'until [ -e "$2/done" ]; do sleep 0.05; done')
    await_(jobs.queue.exists)
    jobs.release.write_text("cancel 42_2\nleave 42_1\n")
    await_(lambda: any("USR2" in line for line in node.login.called()))
    (jobs.root / "done").touch()
    driver.communicate(timeout=60)
    asked = [line for line in node.login.called() if line.startswith("scancel")]
    assert asked[:2] == ["scancel 42_2", "scancel --batch --signal=USR2 42_1"]
    assert jobs.queue.read_text() == "42_1|RUNNING|None|N/A|h1\n"


def test_one_allocation_drives_from_its_first_node(node: Node) -> None:
    node.login.slurm("srun", "")
    file = FILE.replace("most: 2", "most: 3") + "together: true\n"
    slurms = {"SLURM_NNODES": "3", "SLURMD_NODENAME": "h1"}
    assert node.run("together", 'echo "$1"', file, **slurms) == (0, "together\n")
    (step,) = [line for line in node.login.called() if line.startswith("srun")]
    assert step.startswith("srun --nodes=2 --ntasks=2") and "--exclude=h1" in step and step.endswith("together.sh step")
    assert node.run("together", 'echo "$1 $HAAN_JOB"', file, SLURM_NODEID="0")[0] == 0
