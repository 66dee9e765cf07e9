#!/usr/bin/env bash
# Stops training runs in every way there is and compares what they become; see --help.
set -uo pipefail

faults='SIGKILL|SIGTERM|SIGINT|truncate|disk_full|row'

usage() {
    cat <<'USAGE'
Usage: bash fault_injection.sh [--times N] [--row N] [--seed N] [--faults NAME...]

Trains a tiny AWAC on tests/data/ant_recorded.hdf5 once without a fault. Then, N times for each fault (default 5), trains
it again, strikes at a random instant, goes on with --resume and compares: parameters, optimiser moments and generators
byte by byte, train.csv (but for the step time) and eval.csv row by row. --row strikes one run N times in a row (default
24). Prints a table; the exit code is 0 if nothing was lost and nothing differs, 1 if something did, 2 for a wrong
argument. Takes some seconds for each strike.

Faults: SIGKILL, SIGTERM, SIGINT; truncate (SIGKILL, then a file written last is cut short, as a power loss may do; if
it hit the only checkpoint so far, the run is started over); disk_full (no file may grow beyond a few kB); row (SIGKILL,
again and again).
USAGE
}

for argument in "$@"; do
    if [[ $argument == -h || $argument == --help ]]; then
        usage
        exit 0
    fi
done
fail() {
    echo "fault_injection.sh: $*" >&2
    usage >&2
    exit 2
}

given=("$@")
while [[ $# -gt 0 ]]; do
    option=$1
    shift
    case $option in
        --times | --row) [[ ${1:-} =~ ^[1-9][0-9]{0,5}$ ]] || fail "$option takes a positive whole number, not '${1:-}'" ;;
        --seed) [[ ${1:-} =~ ^[0-9]{1,9}$ ]] || fail "--seed takes a whole number, not '${1:-}'" ;;
        --faults)
            [[ $# -gt 0 && $1 != --* ]] || fail "--faults takes one or more names"
            while [[ $# -gt 1 && $2 != --* ]]; do
                [[ $1 =~ ^($faults)$ ]] || fail "unknown fault '$1'"
                shift
            done
            [[ $1 =~ ^($faults)$ ]] || fail "unknown fault '$1'"
            ;;
        *) fail "unexpected argument '$option'" ;;
    esac
    shift
done

scripts=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
source "$scripts/setup.sh" || exit 1
exec "$AWAC_PYTHON" "$scripts/fault_injection.py" ${given[@]+"${given[@]}"}
