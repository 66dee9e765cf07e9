# Sourced by the run scripts, which define usage: their arguments, and one command in the foreground whose output goes to
# the terminal and a log.

fail() { # MESSAGE
    echo "$(basename -- "$0"): $*" >&2
    usage >&2
    exit 2
}

# Prints the usage if an argument asks for it.
answer_help() { # ARGUMENT...
    local argument
    for argument in "$@"; do
        [[ $argument != -h && $argument != --help ]] || { usage && exit 0; }
    done
}

# [DEVICE_TARGET] [FLAGS...]: sets flags, the options for awac.
read_device() { # ARGUMENT...
    local device=CPU
    if [[ $# -gt 0 && $1 != -* ]]; then
        device=$1
        shift
        [[ $device =~ ^(CPU|GPU|Ascend|Auto)$ ]] || fail "DEVICE_TARGET is '$device', not one of CPU, GPU, Ascend, Auto"
    fi
    [[ $# -eq 0 || $1 == --* ]] || fail "unexpected argument '$1'"
    flags=(--device_target "$device" "$@")
}

# [EPISODE] [DEVICE_TARGET] [FLAGS...]: the same, for a training in ./ckpt.
read_episode_and_device() { # ARGUMENT...
    local episode=
    if [[ $# -gt 0 && $1 != -* ]]; then
        episode=$1
        shift
        [[ $episode =~ ^[1-9][0-9]{0,8}$ ]] || fail "EPISODE is '$episode', not a positive whole number"
    fi
    read_device "$@"
    if [[ -z $episode && " $* " != *" --resume "* ]]; then # a resumed run knows its own number
        episode=500
    fi
    flags=(--ckpt_path ./ckpt ${episode:+--episode "$episode"} "${flags[@]}")
}

# lock_log LOG  keeps other run scripts from writing to LOG until this script ends; returns 1 if one is writing.
lock_log() {
    local self rc=0
    self=$(basename -- "$0")
    if ! { exec 8>>"$1"; } 2>/dev/null; then
        echo "$self: $1 can't be written here; start in a folder that you may write to" >&2
        return 1
    fi
    command -v flock >/dev/null || return 0
    flock -n 8 2>/dev/null || rc=$?
    [[ $rc -ne 0 ]] || return 0
    if [[ $rc -ne 1 ]]; then # 1 is another's lock
        echo "$self: this file system has no locks, so two runs in this folder would mix their logs: start one only" >&2
        return 0
    fi
    echo "$self: $1 is being written by another run in this folder; start this one in a folder of its own" >&2
    return 1
}

# Sets pipe, the folder of run_logged's pipe; it comes before a log is emptied or moved, as $TMPDIR may be full or gone.
make_pipe() {
    pipe=$(mktemp -d 2>/dev/null) && mkfifo "$pipe/output" 2>/dev/null && return 0
    echo "$(basename -- "$0"): no pipe can be made in ${TMPDIR:-/tmp}; set TMPDIR to another folder" >&2
    [[ -z $pipe ]] || rm -rf -- "$pipe"
    return 1
}

# run_logged LOG COMMAND...  appends stdout and stderr of COMMAND to LOG and shows them; returns COMMAND's exit code.
# SIGINT, SIGTERM and SIGHUP are passed on to COMMAND once, and the log includes what it prints until it ends.
run_logged() {
    local log=$1 tee_pid pid rc passed_on
    shift
    set -m # a process group each: a Ctrl-C does not cut the log off, and reaches COMMAND through the trap
    tee -a "$log" <"$pipe/output" &
    tee_pid=$!
    "$@" >"$pipe/output" 2>&1 </dev/null &
    pid=$!
    trap 'passed_on=1; kill -INT "$pid" 2>/dev/null' INT
    trap 'passed_on=1; kill -TERM "$pid" 2>/dev/null' TERM
    trap 'passed_on=1; kill -HUP "$pid" 2>/dev/null' HUP
    while :; do
        passed_on=
        wait "$pid" 2>/dev/null
        rc=$?
        [[ -n $passed_on ]] || break # else a signal ended the wait, not COMMAND
    done
    while kill -0 "$tee_pid" 2>/dev/null; do wait "$tee_pid" 2>/dev/null; done
    trap - INT TERM HUP
    set +m
    rm -rf -- "$pipe"
    return "$rc"
}

# train_logged LOG COMMAND...  run_logged; unless --resume is in COMMAND an earlier LOG is kept as LOG.1, LOG.2 and so on,
# and if COMMAND then fails before its first episode, the earlier LOG stays and the new one is LOG.failed.
train_logged() {
    local log=$1 earlier= n=1 rc
    shift
    lock_log "$log" && make_pipe || return 1
    if [[ -s $log && " $* " != *" --resume "* ]]; then
        while [[ -e $log.$n ]]; do n=$((n + 1)); done
        earlier=$log.$n
        mv -- "$log" "$earlier" && lock_log "$log" || { rm -rf -- "$pipe"; return 1; } # the lock went along with the file
    fi
    run_logged "$log" "$@"
    rc=$?
    if [[ $rc -ne 0 && -n $earlier ]] && ! grep -q '^Episode ' "$log"; then
        mv -- "$log" "$log.failed" && mv -- "$earlier" "$log"
    fi
    return "$rc"
}
