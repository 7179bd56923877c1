"""A file for Slurm: what it may say, and that each mistake is named with its line before a job is handed in."""

from pathlib import Path

import pytest
import yaml

from haan.errors import InputError
from search.remote import clusterfile, slurmfile
from search.remote.slurmfile import SbatchOption
from tests.paths import ROOT

SHIPPED = ROOT / "search" / "clusters" / "slurm.yaml"
LEAST = """\
provider: {type: slurm}
workers: {most: 2, cpus: 4, memory: 8G, time: "01:00:00"}
"""


def read(folder: Path, text: str) -> slurmfile.SlurmFile:
    file = folder / "s.yaml"
    file.write_text(text)
    return slurmfile.read(file)


def edited(text: str) -> str:
    """The shipped file as a user leaves it."""
    for name in ("YOUR-ACCOUNT", "YOUR-GPU-PARTITION", "YOUR-CPU-PARTITION", "YOUR-SHARED-FOLDER"):
        text = text.replace(name, name.removeprefix("YOUR-").lower())
    return text


def test_only_the_lines_marked_edit_are_left_to_the_user(tmp_path: Path) -> None:
    text = SHIPPED.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert [line for line in lines if "YOUR-" in line] == [line for line in lines if "# EDIT" in line] != []
    with pytest.raises(InputError) as refused:
        slurmfile.read(SHIPPED)
    assert len(refused.value.messages) == 4 and all("must be edited" in one for one in refused.value.messages)
    assert read(tmp_path, edited(text)).workers.most == 8


def test_what_is_left_out_has_its_default(tmp_path: Path) -> None:
    file = read(tmp_path, LEAST)
    assert (file.driver.cpus, file.driver.memory, file.chain, file.together) == (2, "8G", 1, False)
    assert file.account is None and file.setup == () and file.options("workers") == ()


def test_options_of_sbatch_stand_by_their_names_and_a_roles_own_win(tmp_path: Path) -> None:
    text = LEAST.replace('"01:00:00"', '"01:00:00", sbatch: {qos: high, exclusive: true}')
    file = read(tmp_path, text + "sbatch: {qos: low, reservation: class, spread-job: false}\n")
    mail, high = SbatchOption("reservation", "class"), SbatchOption("qos", "high")
    assert file.options("workers") == (mail, high, SbatchOption("exclusive", None))
    assert file.options("driver") == (SbatchOption("qos", "low"), mail)
    assert [str(one) for one in file.options("workers")] == ["--reservation=class", "--qos=high", "--exclusive"]


@pytest.mark.parametrize(
    ("time", "seconds"),
    [("90", 5400), ("1:30", 90), ("02:00:00", 7200), ("1-2", 93600), ("1-2:30", 95400), ("1-02:30:15", 95415)],
)
def test_time_limits_are_read_as_sbatch_reads_them(time: str, seconds: int) -> None:
    assert slurmfile.seconds(time) == seconds


@pytest.mark.parametrize(("memory", "size"), [("512", 512 * 2**20), ("60G", 60 * 2**30), ("3K", 3072), ("1T", 2**40)])
def test_memory_is_read_as_sbatch_reads_it(memory: str, size: int) -> None:
    assert slurmfile.num_bytes(memory) == size


MISTAKES = {
    "most: 2": ("most: 0", "s.yaml:2: workers.most: must be >= 1, got 0"),
    "memory: 8G": ("memory: 8GB", "s.yaml:2: workers.memory: must be a whole number and K, M, G or T"),
    "cpus: 4, ": ("", "s.yaml:2: workers.cpus: is required and missing"),
    '"01:00:00"': ("soon", "s.yaml:2: workers.time: must be a time limit as sbatch takes it"),
    '"01:00:00"}': ("1:59}", "s.yaml:1: workers.time: must be longer than notice (120 s), got '1:59'"),
    "cpus: 4": ("cpu: 4, cpus: 4", "s.yaml:2: workers.cpu: unknown key; did you mean 'cpus'?"),
    "type: slurm": ("type: pbs", "s.yaml:1: provider.type: must be slurm, got 'pbs'"),
    "workers: {": ("workers: {partition: a b, ", "s.yaml:2: workers.partition: must be a name without blanks"),
    "provider": ("setup: [ls, '']\nprovider", "s.yaml:1: setup: must hold lines for a shell"),
    "workers": ("sbatch: {array: 1-4}\nworkers", "s.yaml:2: sbatch.array: must be set by workers.most, got '1-4'"),
    "workers: ": ("sbatch: {--qos: a}\nworkers: ", "s.yaml:2: sbatch.--qos: must be an option of sbatch by its long"),
    "workers:": ("sbatch: {output: a}\nworkers:", "s.yaml:2: sbatch.output: is not the file's to set"),
    "provider:": ("account: YOUR-ACCOUNT\nprovider:", "s.yaml:1: account: must be edited, got 'YOUR-ACCOUNT'"),
}


@pytest.mark.parametrize("old", MISTAKES)
def test_a_mistake_is_named_with_its_line(old: str, tmp_path: Path) -> None:
    new, said = MISTAKES[old]
    assert old in LEAST
    with pytest.raises(InputError) as refused:
        read(tmp_path, LEAST.replace(old, new, 1))
    assert len(refused.value.messages) == 1 and said in refused.value.messages[0], refused.value.messages


def test_its_provider_tells_it_from_a_file_of_ray_up(tmp_path: Path) -> None:
    assert clusterfile.is_for_slurm(SHIPPED)
    other = tmp_path / "other.yaml"
    for text in (yaml.safe_dump({"provider": {"type": "aws"}}), "provider: [", "[1]"):
        other.write_text(text)
        assert not clusterfile.is_for_slurm(other)
