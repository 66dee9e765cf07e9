#!/usr/bin/env bash
# Stops training runs in every way there is and compares what they become; see --help.
set -uo pipefail

usage() {
    cat <<'USAGE'
Usage: bash fault_injection.sh [--times N] [--row N] [--seed N] [--faults NAME...]

Trains a tiny AWAC on tests/data/ant_recorded.hdf5 once without a fault. Then, N times for each fault (default 5), trains
it again, strikes at a random instant, goes on with --resume and compares: parameters, optimiser moments and generators
byte by byte, train.csv (but for the step time) and eval.csv row by row. --row strikes one run N times in a row (default
24). Prints a table; the exit code is 0 if nothing was lost and nothing differs. Takes some seconds for each strike.

Faults: SIGKILL, SIGTERM, SIGINT; truncate (SIGKILL, then a file written last is cut short, as a power loss may do);
disk_full (no file may grow beyond a few kB); row (SIGKILL, again and again).
USAGE
}

for argument in "$@"; do
    if [[ $argument == -h || $argument == --help ]]; then
        usage
        exit 0
    fi
done
scripts=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
source "$scripts/setup.sh" || exit 1
exec "$AWAC_PYTHON" "$scripts/fault_injection.py" "$@"
