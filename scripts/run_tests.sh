#!/usr/bin/env bash
# Lints, type-checks and tests; see --help.
set -uo pipefail

usage() {
    cat <<'USAGE'
Usage: bash run_tests.sh [PYTEST ARGUMENTS...]

Runs ruff, mypy and pytest in the environment of scripts/setup.sh, made first if it is not there. Apart from that it
needs no network. PYTEST ARGUMENTS go to pytest: paths from the root of the repository, -k NAME, -x, or -m nightly for
the tests that take minutes. The exit code is 0 only if all of them pass.
USAGE
}

if [[ ${1:-} == -h || ${1:-} == --help ]]; then
    usage
    exit 0
fi

scripts=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
source "$scripts/setup.sh" || exit 1
cd -- "$scripts/.." || exit 1

for tool in ruff mypy pytest; do
    if ! "$AWAC_PYTHON" -c "import importlib.util as u, sys; sys.exit(u.find_spec('$tool') is None)"; then
        echo "run_tests.sh: the active environment lacks $tool; add it, or leave the environment and .venv is used" >&2
        exit 1
    fi
done

failed=()
step() {
    echo "== $*"
    "$AWAC_PYTHON" -m "$@" </dev/null || failed+=("$1${2:+ $2}")
}
export MPLBACKEND=Agg OMP_NUM_THREADS=1 # one thread a process: two run at a time
workers=()
"$AWAC_PYTHON" -c "import xdist" 2>/dev/null && workers=(-n 2)
step ruff check .
step ruff format --check .
step mypy
echo "== pytest $*"
"$AWAC_PYTHON" -m pytest ${workers[@]+"${workers[@]}"} "$@" </dev/null
rc=$?
if [[ ${#failed[@]} -gt 0 ]]; then
    (IFS=, && echo "run_tests.sh: failed before pytest: ${failed[*]}" >&2)
    [[ $rc -ne 0 ]] || rc=1
fi
exit "$rc"
