#!/usr/bin/env bash
# Breaks training runs off in every way there is and compares what they become; see --help.
set -uo pipefail
scripts=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
source "$scripts/setup.sh" || exit 1
exec "$AWAC_PYTHON" "$scripts/fault_injection.py" "$@"
