#!/usr/bin/env bash
# Makes .venv-bench with what `awac bench` compares this package to: PyTorch and JAX on a CPU.
set -euo pipefail

root=$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")
venv=$root/.venv-bench

if [[ $# -gt 0 ]]; then
    echo "usage: scripts/bench_setup.sh
Makes .venv-bench from scripts/bench_requirements.txt. Set PYTHON to choose its Python (3.11 or newer)." >&2
    [[ $1 == -h || $1 == --help ]] && exit 0 || exit 2
fi

unset PYTHONHOME # another Python's
if [[ ! -x $venv/bin/python ]]; then
    while read -r python; do # names on PATH can be shims that fail
        "$python" -I -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break
        python=
    done < <(if [[ -n ${PYTHON:-} ]]; then echo "$PYTHON"; else type -aP python3.1{1,2,3} python3; fi)
    [[ -n $python ]] || {
        echo "bench_setup.sh: ${PYTHON:+PYTHON=$PYTHON is not it: }needs Python 3.11 or newer; set PYTHON=/path/to/python3.11" >&2
        exit 1
    }
    "$python" -m venv "$venv"
fi
"$venv/bin/python" -m pip install --disable-pip-version-check -q -r "$root/scripts/bench_requirements.txt"
"$venv/bin/python" -c 'import jax, optax, torch; print("ready: torch", torch.__version__, "and jax", jax.__version__)'
