#!/usr/bin/env bash
# Trains AWAC with one learner over several processes; see --help.
set -uo pipefail

usage() {
    cat <<'USAGE'
Usage: bash run_distribute_train.sh WORKERS [EPISODE] [DEVICE_TARGET] [FLAGS...]

Trains as run_standalone_train.sh does, with WORKERS processes on this machine that divide each batch among them (MindSpore's
msrun starts them; batch_size must be a multiple of WORKERS). Log, checkpoints, FLAGS and exit code are the same, and
so is the result, apart from rounding. It is for GPU and Ascend, one device per worker; on a CPU one process is faster.

If a worker ends early the others are stopped; --resume continues from the last checkpoint, with any number of workers.
USAGE
}

scripts=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
source "$scripts/run_common.sh"
answer_help "$@"
workers=${1:-}
[[ $workers =~ ^[1-9][0-9]{0,3}$ ]] || fail "WORKERS is '$workers', not a positive whole number"
read_episode_and_device "${@:2}"
source "$scripts/setup.sh" || exit 1

# Starts msrun with `awac ARGUMENTS` and waits for it; the output is worker 0's. msrun has no graceful stop, so signals
# go to worker 0, which saves its state and ends; then msrun ends the others.
launch() { # FOLDER ARGUMENT...
    local folder=$1 self=$BASHPID msrun port rc
    shift
    # msrun runs the `python` on PATH: this one records its pid, and keeps worker 0's output out of msrun's log.
    mkdir "$folder/bin"
    cat >"$folder/bin/python" <<PYTHON
#!/usr/bin/env bash
if [[ \$MS_ROLE == MS_WORKER ]]; then
    echo \$\$ >"$folder/pid_\$MS_NODE_ID"
    # MindSpore's own lines about its network are printed at the end, at any log level.
    [[ \$MS_NODE_ID != 0 ]] || exec > >(exec grep --line-buffered -v '^\[INFO\] PS(' >"/proc/$self/fd/1") 2>&1
fi
exec "$AWAC_PYTHON" "\$@"
PYTHON
    chmod +x "$folder/bin/python"
    "$folder/bin/python" -c '' 2>/dev/null || { # msrun would take another python on PATH, and say nothing
        echo "run_distribute_train.sh: programs in ${TMPDIR:-/tmp} can't be run (mounted noexec?); set TMPDIR to another folder"
        return 1
    }
    port=$("$AWAC_PYTHON" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    set -m # else worker 0 would be started with SIGINT ignored
    for signal in INT TERM HUP; do
        # shellcheck disable=SC2064
        trap "kill -$signal \"\$(<'$folder/pid_0')\" 2>/dev/null" $signal
    done
    PATH=$folder/bin:$PATH "$AWAC_PYTHON" -m mindspore.parallel.cluster.run --worker_num="$workers" \
        --local_worker_num="$workers" --master_addr=127.0.0.1 --master_port="$port" --log_dir="$folder" --join=True \
        python -u -m awac.cli "$@" >"$folder/msrun.log" 2>&1 &
    msrun=$!
    until [[ -s $folder/pid_$((workers - 1)) ]] || ! kill -0 "$msrun" 2>/dev/null; do sleep 0.1; done
    renice -n 19 -p "$msrun" >/dev/null 2>&1 # msrun 2.7 polls its workers without a pause
    while :; do
        wait "$msrun" 2>/dev/null
        rc=$?
        kill -0 "$msrun" 2>/dev/null || break # else a signal ended the wait
    done
    [[ $rc -ne 0 ]] || return 0
    explain "$folder"
}

# Says in one line which worker ended the run, unless worker 0 has printed it; returns its exit code.
explain() { # FOLDER
    local pid code rank words=
    read -r pid code < <(sed -nE 's/.*Worker process ([0-9]+) exit with exception. Error code: (-?[0-9]+).*/\1 \2/p' "$1/msrun.log")
    if [[ -z ${code:-} ]]; then
        echo "run_distribute_train.sh: msrun failed: $(tail -n 1 "$1/msrun.log")"
        return 1
    fi
    rank=$(grep -slx "$pid" "$1"/pid_* | sed 's/.*_//')
    if [[ $code -lt 0 ]]; then
        words="killed by signal $((-code))" code=$((128 - code))
    elif [[ $rank != 0 ]]; then
        words="exit code $code: $(tail -qn 1 "$1/worker_"${rank:-*}.log | tail -n 1)" # without a rank, of any worker
    fi
    if [[ -n $words ]]; then
        echo "run_distribute_train.sh: worker${rank:+ $rank} ended ($words); all are stopped, --resume goes on from the last checkpoint"
    fi
    return "$code"
}

folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
train_logged awac_train_log.txt launch "$folder" train "${flags[@]}"
