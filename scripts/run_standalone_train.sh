#!/usr/bin/env bash
# Trains AWAC; see --help.
set -uo pipefail

usage() {
    cat <<'USAGE'
Usage: bash run_standalone_train.sh [EPISODE] [DEVICE_TARGET] [FLAGS...]

Trains for EPISODE episodes (default 500; with --resume those of the run) on DEVICE_TARGET (CPU, GPU, Ascend or Auto;
default CPU). Writes, where it is called, awac_train_log.txt and the checkpoints in ./ckpt; the log is shown on the
terminal as well. The exit code is that of the training. The first run makes the Python environment (see scripts/setup.sh --help).

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

scripts=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
source "$scripts/run_common.sh"
answer_help "$@"
read_episode_and_device "$@"
source "$scripts/setup.sh" || exit 1

train_logged awac_train_log.txt "$AWAC_PYTHON" -u -m awac.cli train "${flags[@]}"
