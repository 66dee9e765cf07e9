#!/usr/bin/env bash
# Trains AWAC; see --help.
set -uo pipefail

usage() {
    cat <<'USAGE'
Usage: bash run_standalone_train.sh [EPISODE] [DEVICE_TARGET] [FLAGS...]

Trains for EPISODE episodes (default 500) on DEVICE_TARGET (CPU, GPU, Ascend or Auto; default CPU). Writes, where it is
called, awac_train_log.txt and the checkpoints in ./ckpt; the log is shown on the terminal as well. The exit code is
that of the training. The first run makes the Python environment (see scripts/setup.sh --help).

FLAGS go to `awac train`, for example:
  --resume              continue the run in ./ckpt; the log is continued too
  --overwrite           start over although ./ckpt holds a run
  --seed 1              another seed
  --preset paper        another recipe
`awac train --help` lists them all.

Without --resume an earlier awac_train_log.txt is kept as awac_train_log.txt.1, .2, and so on. If the new run stops with
an error before its first episode, the earlier log stays and that run's output is in awac_train_log.txt.failed.
USAGE
}

fail() {
    echo "run_standalone_train.sh: $*" >&2
    usage >&2
    exit 2
}

for argument in "$@"; do
    if [[ $argument == -h || $argument == --help ]]; then
        usage
        exit 0
    fi
done
episode=500 device=CPU
if [[ $# -gt 0 && $1 != -* ]]; then
    episode=$1
    shift
    [[ $episode =~ ^[1-9][0-9]{0,8}$ ]] || fail "EPISODE is '$episode', not a positive whole number"
    if [[ $# -gt 0 && $1 != -* ]]; then
        device=$1
        shift
        [[ $device =~ ^(CPU|GPU|Ascend|Auto)$ ]] || fail "DEVICE_TARGET is '$device', not one of CPU, GPU, Ascend, Auto"
    fi
fi
[[ $# -eq 0 || $1 == --* ]] || fail "unexpected argument '$1'"

scripts=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
source "$scripts/setup.sh" || exit 1
source "$scripts/run_logged.sh"

resumes=$([[ " $* " != *" --resume "* ]] || echo yes)
train_logged "$resumes" awac_train_log.txt "$AWAC_PYTHON" -u -m awac.cli train --episode "$episode" \
    --device_target "$device" --ckpt_path ./ckpt "$@"
