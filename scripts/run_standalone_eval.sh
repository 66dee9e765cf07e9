#!/usr/bin/env bash
# Evaluates a checkpoint; see --help.
set -uo pipefail

usage() {
    cat <<'USAGE'
Usage: bash run_standalone_eval.sh CKPT_PATH [DEVICE_TARGET] [FLAGS...]

Evaluates the newest complete checkpoint in CKPT_PATH (the folder ./ckpt of a training run) on DEVICE_TARGET (CPU,
GPU, Ascend or Auto; default CPU). Writes awac_eval_log.txt where it is called, anew each time; it is shown on the
terminal as well. The exit code is that of the evaluation. The first run makes the Python environment (see
scripts/setup.sh --help).

FLAGS go to `awac eval`, for example:
  --episode 40          the checkpoint of episode 40
  --seed 1              other start states
`awac eval --help` lists them all.
USAGE
}

scripts=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
source "$scripts/run_common.sh"
answer_help "$@"
ckpt_path=${1:-}
[[ -n $ckpt_path && $ckpt_path != -* ]] || fail "CKPT_PATH is missing"
read_device "${@:2}"
source "$scripts/setup.sh" || exit 1

log=awac_eval_log.txt
lock_log "$log" && make_pipe || exit 1
: >"$log" || { rm -rf -- "$pipe"; exit 1; }
run_logged "$log" "$AWAC_PYTHON" -u -m awac.cli eval --ckpt_path "$ckpt_path" "${flags[@]}"
