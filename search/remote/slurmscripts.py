"""A search's job scripts, as text: what Slurm starts, and what on a node only Slurm's own commands can do.

Everything else is `search.remote.slurmnode`, which may run in a container that has no Slurm: the two speak through
files of the run's job folder. A script is whole, so `sbatch` takes it as it is.
"""

import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from search.driver.batchqueue import SQUEUE_FORMAT
from search.remote.jobplan import PACKAGES
from search.remote.slurmfile import GPU_OPTIONS, SlurmFile
from search.results.jobfolder import JobFolder

AGAIN = 75  # exit code of a job's Python (EX_TEMPFAIL): it is to go on later, in the queue again
_OLDEST = (3, 11)  # Python, as pyproject.toml has it
_CHECK = f"""
import sys
if sys.version_info < {_OLDEST}:
    sys.exit("Python " + sys.version.split()[0])
from importlib.util import find_spec
names = "{" ".join((*PACKAGES, "faiss", "typer", "yaml", "search"))}".split()
missing = [name for name in names if find_spec(name) is None]
if missing:
    sys.exit("one without " + ", ".join(missing))
""".strip()  # for a Python of any age
_QUEUE_S = 30  # about so long between two looks at the queue

_COMMON = r"""
run=@RUN@
cd @CWD@ 2> /dev/null && [ -d "$run/jobs" ] || {
    echo "node $(hostname -s): must see $run and "@CWD@", which all nodes share, got a node that does not"
    exit 2
}
umask 077
job=$SLURM_JOB_ID
[ -n "$SLURM_ARRAY_TASK_ID" ] && job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
[ "$1" = step ] && job=$SLURM_JOB_ID.$SLURM_NODEID
export HAAN_JOB=$job RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$run/token"  # Ray reads them as it is imported
unset RAY_ADDRESS RAY_AUTH_TOKEN
rm -f "$run/orders/$job" "$run/notes/$job"
put() { printf '%s\n' "$2" > "$1.partial" && mv "$1.partial" "$1"; }  # whole, or not at all
trap 'put "$run/orders/$job" due' USR1  # from now on: a line of setup may take its time
trap 'put "$run/orders/$job" leave' USR2
ids() { ls "$run/jobs" | sed -n "s/^$1-//p" | sort -n | paste -s -d , -; }
refuse() { echo "$1"; put "$run/notes/$job" "$1"; finish 2; exit 2; }
unmet() {
    refuse "node $(hostname -s): $2: must succeed, got exit code $1 of: $3; see the job's output in $run"
}
check() {  # a worker that ended without a word would leave its user to guess
    said=$(@PYTHON@ -c @CHECK@ 2>&1) && return
    refuse "node $(hostname -s): "@PYTHON_NAME@": must be Python @OLDEST@ or newer with this project's packages, got: \
$(printf '%s\n' "$said" | tail -n 1)"
}
main() {  # runs the search's Python, tells it what Slurm tells this shell, and sets $code
    child=  # a signal may come before it is there
    trap 'put "$run/orders/$job" end; kill -TERM $child 2> /dev/null' TERM
    RAY_BACKEND_LOG_LEVEL=error @PYTHON@ -m search.remote.slurmnode "$1" "$run" &
    child=$!
    wait $child 2> /dev/null; code=$?  # or the shell says of what it was killed
    while kill -0 $child 2> /dev/null; do wait $child 2> /dev/null; code=$?; done
    if [ $code -gt 128 ]; then wait $child 2> /dev/null; last=$?; [ $last -ne 127 ] && code=$last; fi
    trap '' USR1 USR2 TERM
}
"""
_WORKER = r"""
: > "$run/jobs/workers-${job%_*}"
finish() { :; }
no_driver() {  # Slurm forgets a job minutes after its end, and fails then; so it does where it does not answer
    said=$(squeue --noheader --jobs="$(ids driver)" 2>&1)
    case "$said" in "" | *"Invalid job id"*) true ;; *) false ;; esac
}
watch() {  # a driver that was killed can't give this node back
    while true; do
        for second in $(seq @QUEUE_S@); do sleep 1; done  # short ones: what is left of one holds the job's end up
        no_driver && put "$run/orders/$job" leave && break
    done
}
@SETUP@
check
watch > /dev/null &
watcher=$!
main worker
kill $watcher 2> /dev/null
[ $code -eq @AGAIN@ ] || exit $code
[ -e "$run/ended" ] && exit 0
# By the task's name: SLURM_JOB_ID of an array's last task is that of the whole array.
no_driver || scontrol requeue "$job"
exit 0
"""
_STEP = r"""
if [ "$1" = step ]; then  # on a node that does not drive
    set --
    finish() { :; }
    @SETUP@
    check
    main worker
    exit $code
fi
"""
_DRIVER = r"""
: > "$run/jobs/driver-$job"
rm -f "$run/queue" "$run/release"
[ -e "$run/ended" ] && exit 0  # the driver before this one has ended the search
finish() {  # the search is over for good: so are the jobs of its workers, and drivers that were to follow
    put "$run/ended" "$1"
    for id in $(ids workers | tr , ' ') $(ids driver | tr , ' '); do
        [ "$id" = "$SLURM_JOB_ID" ] || scancel --quiet "$id" 2> /dev/null
    done
}
look() {
    squeue --noheader --array --states=all --jobs="$(ids workers)" --format='@FORMAT@' \
        > "$run/queue.partial" 2> /dev/null && mv "$run/queue.partial" "$run/queue"
}
watch() {
    pause=2
    while true; do
        [ -n "$(ids workers)" ] && look
        [ $pause -lt @QUEUE_S@ ] && pause=$((pause * 2))  # at first much changes; the queue is everybody's
        for second in $(seq $pause); do
            sleep 1
            mv "$run/release" "$run/releasing" 2> /dev/null || continue
            while read -r what id; do
                if [ "$what" = leave ]; then scancel --batch --signal=USR2 "$id"; else scancel "$id"; fi
            done < "$run/releasing"
            break
        done
    done
}
@SETUP@
check
watch &
watcher=$!
@STEPS@main @ROLE@
kill $watcher 2> /dev/null  # Slurm may have ended it, with all of a cancelled job
if [ $code -eq @AGAIN@ ]; then
@GO_ON@
    code=130
fi
finish $code
exit $code
"""
_STEPS = r"""if [ "$SLURM_NNODES" -gt 1 ]; then
    srun --nodes=$((SLURM_NNODES - 1)) --ntasks=$((SLURM_NNODES - 1)) --ntasks-per-node=1 @STEP_OPTIONS@ \
        --exclude="$SLURMD_NODENAME" --kill-on-bad-exit=0 --wait=0 bash "$run/together.sh" step \
        >> "$run/workers-$SLURM_JOB_ID.out" 2>&1 &
fi
"""
_REQUEUE = r"""    said=$(scontrol requeue "$SLURM_JOB_ID" 2>&1) && exit 0
    echo "This site does not let a job go back into the queue: $said; chain: N hands in N drivers at the start"
"""
_CHAIN = r"""    [ -n "$(squeue --noheader --states=PENDING --jobs="$(ids driver)" 2> /dev/null)" ] && exit 0
    echo "This was the last of the chain of drivers"
"""


@dataclass(frozen=True)
class Scripts:
    """The scripts of one run. command: what made them. cwd: the folder in which the user gave it."""

    file: SlurmFile
    jobs: JobFolder
    name: str
    command: str
    cwd: Path

    def texts(self) -> dict[str, str]:
        """The scripts by role: driver and workers, or together."""
        if self.file.together:
            return {"together": self._script("together", _COMMON + _STEP + _DRIVER, _STEPS)}
        return {role: self._script(role, _COMMON + body) for role, body in (("driver", _DRIVER), ("workers", _WORKER))}

    def _script(self, role: str, body: str, steps: str = "") -> str:
        file = self.file
        marks = {  # in this order, for some hold others
            "GO_ON": (_REQUEUE if file.chain == 1 else _CHAIN).rstrip("\n"),
            "STEPS": steps,
            "SETUP": "\n".join(map(_set_up, range(len(file.setup)), file.setup)) or ":",
            "STEP_OPTIONS": " ".join(self._size()),
            "CHECK": shlex.quote(_CHECK),
            "OLDEST": ".".join(map(str, _OLDEST)),
            "PYTHON": self.python,
            "PYTHON_NAME": shlex.quote(self.python),
            "ROLE": role,
            "AGAIN": str(AGAIN),
            "QUEUE_S": str(_QUEUE_S),
            "FORMAT": SQUEUE_FORMAT,
            "RUN": shlex.quote(str(self.jobs.root)),
            "CWD": shlex.quote(str(self.cwd)),
        }
        for mark, text in marks.items():
            body = body.replace(f"@{mark}@", text)
        options = "".join(f"#SBATCH {_worded(option)}\n" for option in self._options(role))
        return f"#!/bin/bash\n{options}# Made by: {self.command}\n{body}"

    @property
    def python(self) -> str:
        """What runs Python in a job: what the setup lines or the prefix bring, else this very one."""
        prefix = self.file.prefix
        own = "python" if prefix or self.file.setup else shlex.quote(sys.executable)
        return f"{prefix} {own}" if prefix else own

    def _size(self) -> Iterator[str]:
        """What a worker's node is to have, as options."""
        workers, own = self.file.workers, {one.name: one for one in self.file.options("workers")}
        yield f"--cpus-per-task={workers.cpus}"
        given = [own[name] for name in GPU_OPTIONS if name in own]
        yield from (map(str, given) if given else [f"--gres=gpu:{workers.gpus}"] * bool(workers.gpus))

    def _options(self, role: str) -> Iterator[str]:
        file, drives = self.file, role == "driver"
        part = file.driver if drives else file.workers
        yield f"--job-name=haan-{self.name}" + ("-workers" if role == "workers" else "")
        yield f"--output={self.jobs.root / 'workers-%A_%a.out' if role == 'workers' else self.jobs.out}"
        yield "--open-mode=append"
        yield f"--nodes={file.workers.most if role == 'together' else 1}"
        yield "--ntasks-per-node=1"
        yield from [f"--cpus-per-task={part.cpus}"] if drives else self._size()
        yield f"--mem={part.memory}"
        yield f"--time={part.time}"
        partition = file.driver_partition if drives else part.partition
        yield from [f"--partition={partition}"] * bool(partition)
        yield from [f"--account={file.account}"] * bool(file.account)
        yield f"--signal=B:USR1@{file.notice}"
        yield "--requeue"
        yield from [f"--array=1-{file.workers.most}"] * (role == "workers")
        own = file.options("driver" if drives else "workers")
        yield from (str(one) for one in own if one.name not in GPU_OPTIONS or (drives and one in file.driver.sbatch))


def _set_up(index: int, line: str) -> str:
    """A line of `setup:` at the top of a script: in a function `declare` would be lost, and what is sourced would take
    its arguments for its own.
    """
    quoted = shlex.quote(line)
    return f"eval {quoted} || unmet $? 'setup[{index}]' {quoted}"


def _worded(option: str) -> str:
    """An option as a line of a script has it."""
    name, equals, value = option.partition("=")
    return f"{name}{equals}{shlex.quote(value)}" if value else option
