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

[[ -x $venv/bin/python ]] || "${PYTHON:-python3.11}" -m venv "$venv"
"$venv/bin/python" -m pip install --disable-pip-version-check -q -r "$root/scripts/bench_requirements.txt"
"$venv/bin/python" -c 'import jax, optax, torch; print("ready: torch", torch.__version__, "and jax", jax.__version__)'
