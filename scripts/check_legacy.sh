#!/usr/bin/env bash
# Tests awac against the packages that D4RL was recorded with: gym 0.23, mujoco-py on MuJoCo 2.1.0, and d4rl 1.1.
set -euo pipefail
cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/.."
unset PYTHONHOME # another Python's
if [[ ${1:-} == -h || ${1:-} == --help ]]; then
    cat <<'USAGE'
Usage: bash scripts/check_legacy.sh [PYTEST_ARGUMENT ...]

Makes .venv-legacy with Python 3.10 from scripts/legacy.lock (once, three minutes) and runs the tests marked `legacy` in it.
Needs a C compiler and the Debian packages libosmesa6-dev, libgl1-mesa-dev and patchelf. PYTHON chooses the Python 3.10.
USAGE
    exit 0
fi
python=${PYTHON:-}
if [[ -z $python ]]; then
    while read -r candidate; do # names on PATH can be shims that fail
        "$candidate" -I -c 'import sys; sys.exit(sys.version_info[:2] != (3, 10))' 2>/dev/null && python=$candidate && break
    done < <(type -aP python3.10 python3 python; ls -d "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.10.*/bin/python 2>/dev/null)
fi
[[ -n $python ]] || { echo "check_legacy.sh: needs Python 3.10; set PYTHON=/path/to/python3.10" >&2; exit 1; }
for tool in gcc patchelf; do
    command -v $tool >/dev/null || {
        echo "check_legacy.sh: $tool is missing; on Debian: apt-get install gcc patchelf libosmesa6-dev libgl1-mesa-dev" >&2
        exit 1
    }
done
stamp=$(sha256sum scripts/legacy.lock | cut -d' ' -f1)
if [[ ! -f .venv-legacy/.done || $(<.venv-legacy/.done) != "$stamp" ]]; then
    rm -rf .venv-legacy
    "$python" -m venv .venv-legacy
    pip=(.venv-legacy/bin/python -m pip install -q --disable-pip-version-check)
    "${pip[@]}" "setuptools<66" "wheel<0.40" "cython<3" "pip<24.1" # gym 0.23 and mujoco_py build only with these
    # The lock is complete; d4rl's own mujoco-py would overwrite free-mujoco-py's folder, so nothing is resolved.
    "${pip[@]}" --no-deps --no-build-isolation -r scripts/legacy.lock
    echo "mujoco_py compiles itself at its first import: about a minute"
    D4RL_SUPPRESS_IMPORT_ERROR=1 .venv-legacy/bin/python -c 'import mujoco_py' >/dev/null 2>&1
    echo "$stamp" >.venv-legacy/.done
fi
export PYTHONPATH=$PWD/src D4RL_SUPPRESS_IMPORT_ERROR=1 MPLBACKEND=Agg
exec .venv-legacy/bin/python -m pytest -m legacy -s -q tests/test_legacy.py "$@"
