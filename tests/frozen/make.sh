#!/bin/bash
# Makes the folders beside it, which tests/test_frozen.py goes on with: what was run with the code of one commit must be
# resumed, reported, exported and drawn by every later one. Run it again only to add a folder that an old version made:
#
#   git worktree add /tmp/frozen-code 6b42604
#   PATH=/opt/venv/bin:$PATH tests/frozen/make.sh /tmp/frozen-code
#
# The argument is a checkout of that commit; the `python` on the PATH has its dependencies. It takes a minute or three.
#
#   finished              a search with its confirmation, run to the end
#   interrupted           a search that was interrupted: trials have ended, others are under way and have checkpoints
#   table                 a table
#   training              a training of what `finished` exported
#   training-interrupted  one with more epochs, interrupted
#
# The features are not kept: planting gives the same bytes again. Nor are the log, the report and TensorBoard's files,
# which nothing reads, and Ray Tune's own snapshots, but those of `interrupted`: none may ever be restored from them.
set -euo pipefail
set -m # a background job without job control ignores SIGINT, and what is interrupted here must not

commit=6b42604
code=$(realpath "$1")
git -C "$code" describe --always --dirty --abbrev=40 | grep -qx "$commit[0-9a-f]*" || {
    echo "$code: must be an unchanged checkout of $commit" >&2
    exit 2
}
export PYTHONPATH=$code PYTHONDONTWRITEBYTECODE=1 RAY_ADDRESS=local
cd "$(dirname "$0")"
made=(finished interrupted table training training-interrupted)
rm -rf data "${made[@]}"

# Interrupts the last background job, as Ctrl-C does, once the command given succeeds; the job must say that it was.
interrupt_once() {
    local job=$! code=0
    until "$@"; do
        kill -0 "$job"
        sleep 0.05
    done
    kill -INT "$job"
    wait "$job" || code=$?
    test "$code" = 130
}

count() { find "$1" -path "$2" | wc -l; }

under_way() { # two trials have ended with all their epochs, and two have a checkpoint, not their first, to go on from
    test -d interrupted/trials &&
        test "$(count interrupted/trials '*/checkpoint_*/best.safetensors')" -ge 2 &&
        test "$(count interrupted/trials '*/checkpoint_*[1-9]/state.safetensors')" -ge 2
}

trained_five_epochs() { # and the head of the table
    test -f training-interrupted/metrics.csv && test "$(wc -l < training-interrupted/metrics.csv)" -ge 6
}

python "$code/search/run.py" space.yaml --name finished --out .

# The pruner ends no trial before four are complete: those under way are there to be interrupted.
python "$code/search/run.py" space.yaml --name interrupted --out . --trials 5 --set optim.epochs=24 \
    --set data.validation=official --set search.confirm=null --set search.pruner.n_startup_trials=4 &
interrupt_once under_way

python "$code/search/table.py" table.yaml --name table --out .

python -m haan train finished/best.yaml --out training

python -m haan train finished/best.yaml --out training-interrupted --set optim.epochs=30 &
interrupt_once trained_five_epochs

rm -rf data ./*/log ./*/report.html
rm -rf finished/confirm/trial-0000[0-5] # the repeats with new seeds: only what is trained on all videos is exported
find "${made[@]}" -name 'events.out.tfevents.*' -delete
find finished table \( -name 'experiment_state-*' -o -name 'search_gen_state-*' -o -name 'tuner.pkl' \
    -o -name '.validate_storage_marker' \) -delete
find "${made[@]}" -type d -empty -delete
du -sh --apparent-size "${made[@]}"
