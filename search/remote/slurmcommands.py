"""Slurm's commands, as a login node has them: hands jobs in, asks for them, ends them; what refuses, in one line."""

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from haan.errors import InputError
from haan.words import clean
from search.driver.batchqueue import SQUEUE_FORMAT, QueuedJob, parsed

_TIMEOUT_S = 120
_REFUSALS = (  # (what sbatch says, the key of the file that it is about: {role} is workers or driver)
    (r"[Ii]nvalid account|[Aa]ccount/partition combination", "account"),
    (r"[Ii]nvalid partition|[Pp]artition .*not|group not permitted to use this partition", "{role}.partition"),
    (r"[Tt]ime limit", "{role}.time"),
    (r"[Ii]nvalid qos|QOS", "sbatch.qos"),
    (r"[Gg]eneric resource|gres|GRES|TRES", "workers.gpus"),
    (r"[Mm]emory", "{role}.memory"),
    (r"[Nn]ode count|[Aa]rray", "workers.most"),
    (r"[Ff]eature|[Cc]onstraint", "{role}.sbatch.constraint"),
    (r"CPU count|[Cc]pus", "{role}.cpus"),
    (r"[Nn]ode name", "{role}.sbatch.nodelist"),
    (r"[Nn]ode configuration is not available", "{role}"),
)
_UNKNOWN = re.compile(r"(?:unrecognized|ambiguous) option '--([a-z0-9-]+)|option '--([a-z0-9-]+)' (?:requires|doesn)")
_FAILED = re.compile(
    r"^(?:sbatch|allocation failure): (?:error: )?(?:Batch job submission failed: |allocation failure: )?"
)


def check_here() -> None:
    """Raises InputError where Slurm's commands are not."""
    for name in ("sbatch", "squeue", "scancel"):
        if shutil.which(name) is None:
            rule = "must be given on a login node of a Slurm cluster, where sbatch, squeue and scancel are"
            raise InputError(f"--cluster: {rule}, got no {name} in the PATH")


def hand_in(script: Path, role: str, places: Mapping[str, str], file: Path, *options: str) -> str:
    """The id of a job that Slurm took. places: where the file's keys stand. Raises InputError."""
    done = _run("sbatch", "--parsable", *options, str(script))
    if done.returncode:
        raise InputError(refusal(done.stderr, role, places, file))
    return done.stdout.strip().splitlines()[-1].partition(";")[0]


def tried(script: Path, role: str, places: Mapping[str, str], file: Path) -> str:
    """What sbatch says of a job that is not handed in: when and where it would begin. Raises InputError."""
    done = _run("sbatch", "--test-only", str(script))
    if done.returncode:
        raise InputError(refusal(done.stderr, role, places, file))
    lines = [one.removeprefix("sbatch: ") for one in f"{done.stderr}\n{done.stdout}".splitlines() if one.strip()]
    return clean(lines[-1]) if lines else "it would be taken"


def refusal(stderr: str, role: str, places: Mapping[str, str], file: Path) -> str:
    """What sbatch refused, in a line: the file's key and line where they can be told, and Slurm's own words."""
    lines = [one.strip() for one in stderr.splitlines() if one.strip()] or ["sbatch said nothing"]
    said = clean("; ".join(dict.fromkeys(_FAILED.sub("", one) for one in lines if 'Try "sbatch' not in one)))
    option = _UNKNOWN.search(stderr)
    name = next((part for part in option.groups() if part), "") if option else ""
    keys = [f"{role}.sbatch.{name}", f"sbatch.{name}"] if name else []
    words = set(re.findall(r"[a-z][a-z-]*", stderr.lower()))
    keys += [
        key for key in places if key.startswith((f"{role}.sbatch.", "sbatch.")) and key.rpartition(".")[2] in words
    ]
    keys += [key.format(role=role) for pattern, key in _REFUSALS if re.search(pattern, stderr)]
    key = next((key for key in keys if key in places), keys[0] if keys else "")
    # Keys may be left out of the file, such as those of the driver.
    where = places.get(key) or places.get(key.rpartition(".")[0]) or str(file)
    return f"{where}: {key or role}: must be what this Slurm takes, got: {said}"


def jobs(ids: Sequence[str], whole: bool = False) -> list[QueuedJob] | None:
    """What squeue has of jobs; none where they are gone, None where it can't say. whole: those that are over, too."""
    if not ids:
        return []
    states = ["--states=all"] * whole
    done = _run("squeue", "--noheader", "--array", *states, f"--jobs={','.join(ids)}", f"--format={SQUEUE_FORMAT}")
    if done.returncode:
        return [] if "Invalid job id" in done.stderr else None
    return list(parsed(done.stdout))


def cancel(ids: Sequence[str], *options: str) -> None:
    """Ends jobs; those that are over are left alone. Raises InputError."""
    done = _run("scancel", *options, *ids)
    if done.returncode and "Invalid job id" not in done.stderr:
        raise InputError(f"scancel: must reach Slurm, got: {clean(done.stderr.strip())}")


def _run(*words: str) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(words, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(words, 1, "", f"{words[0]}: no answer within {_TIMEOUT_S} s")
