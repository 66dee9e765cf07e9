#!/usr/bin/env bash
# Finds or makes the Python environment of this repository. Run it, or source it and read AWAC_PYTHON. See --help.

awac_setup_usage() {
    cat <<'USAGE'
Usage: bash scripts/setup.sh
       source scripts/setup.sh && "$AWAC_PYTHON" ...

Finds or makes the environment that the other scripts run in, and prints its interpreter:
  1. the active environment (virtualenv or conda), if it is Python 3.10 or 3.11 and holds the pins of requirements.lock
     for mindspore, mindspore-rl, numpy, gymnasium, mujoco, h5py and threadpoolctl; nothing is installed into it;
  2. else .venv at the root of the repository, made from requirements.lock (about 1 GB to download) if it is not there.
A second run installs nothing. Set PYTHON=/path/to/python to choose the Python that .venv is made with.
USAGE
}

_awac_root=$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")
_awac_venv=$_awac_root/.venv
_awac_key_pins="mindspore mindspore-rl numpy gymnasium mujoco h5py threadpoolctl"
_awac_build_tools="setuptools wheel hatchling editables packaging pathspec pluggy trove-classifiers"

_awac_say() { printf 'setup: %s\n' "$*" >&2; }

_awac_is_supported() { # PYTHON
    "$1" -I -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 11))' >/dev/null 2>&1
}

# Prints what the environment lacks of the key pins, in one line; nothing if it has them all.
_awac_lacks() { # PYTHON
    "$1" -I - "$_awac_root/requirements.lock" $_awac_key_pins 2>/dev/null <<'PY' || echo "a Python that runs"
import sys
from importlib.metadata import PackageNotFoundError, version

pins = dict(line.split(";")[0].strip().split("==") for line in open(sys.argv[1]) if "==" in line)
lacks = []
if not (3, 10) <= sys.version_info[:2] <= (3, 11):
    lacks.append("Python 3.10 or 3.11")
for name in sys.argv[2:]:
    try:
        found = version(name)
    except PackageNotFoundError:
        found = None
    if found != pins[name]:
        lacks.append(f"{name} {pins[name]}")
print(", ".join(lacks))
PY
}

# Lets PYTHON import this checkout's awac: through PYTHONPATH if it is not what the environment has installed.
_awac_use() { # PYTHON
    export AWAC_PYTHON=$1
    if ! "$1" - "$_awac_root/src" 2>/dev/null <<'PY'; then
import importlib.util
import pathlib
import sys

spec = importlib.util.find_spec("awac")
origin = pathlib.Path(spec.origin).resolve() if spec and spec.origin else None
sys.exit(origin is None or pathlib.Path(sys.argv[1]).resolve() not in origin.parents)
PY
        export PYTHONPATH=$_awac_root/src${PYTHONPATH:+:$PYTHONPATH}
    fi
}

_awac_hash() {
    { cat "$_awac_root/requirements.lock" "$_awac_root/pyproject.toml"; echo "$_awac_root"; } |
        { sha256sum 2>/dev/null || shasum -a 256; } | cut -d' ' -f1
}

_awac_is_current() {
    [[ -f $_awac_venv/.awac-stamp && $(<"$_awac_venv/.awac-stamp") == "$(_awac_hash)" ]] &&
        _awac_is_supported "$_awac_venv/bin/python"
}

# Sets _awac_base to the Python to build with; names on PATH can be shims that fail, so each is tried.
_awac_find_python() {
    local candidates=() python found=""
    if [[ -n ${PYTHON:-} ]]; then
        candidates=("$PYTHON")
    else
        while read -r python; do candidates+=("$python"); done < <(type -aP python3.11 python3.10 python3 python)
    fi
    for python in ${candidates[@]+"${candidates[@]}"}; do
        _awac_is_supported "$python" || continue
        if "$python" -I -c 'import ensurepip, venv' >/dev/null 2>&1; then
            _awac_base=$python
            return 0
        fi
        found=$python
    done
    if [[ -n $found ]]; then
        _awac_say "$found has no venv module; install it (on Debian and Ubuntu: the package python3-venv)"
    elif [[ -n ${PYTHON:-} ]]; then
        _awac_say "PYTHON=$PYTHON is not a Python 3.10 or 3.11 that runs"
    else
        _awac_say "needs Python 3.10 or 3.11, and none is on PATH; install one or set PYTHON=/path/to/python3.11"
    fi
    return 1
}

_awac_pip() { "$_awac_venv/bin/python" -I -m pip --disable-pip-version-check --no-input "$@" </dev/null >&2; }

# Makes .venv, or brings one that this script finished earlier up to date. The stamp is removed first and written last,
# so a set-up that was cut short is started over by the next one.
_awac_build() {
    local names quiet=(-q) tools
    _awac_is_current && return 0 # another set-up was faster
    if [[ -f $_awac_venv/.awac-stamp ]] && _awac_is_supported "$_awac_venv/bin/python"; then
        _awac_say "brings .venv up to date with requirements.lock"
        rm -f "$_awac_venv/.awac-stamp"
        touch "$_awac_venv/.awac-started"
    else
        _awac_find_python || return 1
        if [[ -f $_awac_venv/.awac-started || -f $_awac_venv/.awac-stamp ]]; then
            rm -rf "$_awac_venv"
        elif [[ -e $_awac_venv ]]; then
            local aside=$_awac_venv.old-$$
            _awac_say ".venv is not from this script and lacks packages: moved to $(basename "$aside")"
            mv "$_awac_venv" "$aside" || return 1
        fi
        _awac_say "makes .venv with $("$_awac_base" -V) from requirements.lock: once, about 1 GB, some minutes"
        mkdir "$_awac_venv" && touch "$_awac_venv/.awac-started" || return 1
        "$_awac_base" -I -m venv "$_awac_venv" >&2 || return 1
    fi
    [[ -t 2 ]] && quiet=()
    names=${_awac_build_tools// /|}
    tools=$(grep -E "^($names)==" "$_awac_root/requirements.lock")
    # The lock is complete, so pip has nothing to resolve; gym comes as source and is built with the pinned tools.
    _awac_pip install ${quiet[@]+"${quiet[@]}"} --no-deps $tools &&
        _awac_pip install ${quiet[@]+"${quiet[@]}"} --no-deps --no-build-isolation -r "$_awac_root/requirements.lock" &&
        _awac_pip install ${quiet[@]+"${quiet[@]}"} --no-deps --no-build-isolation -e "$_awac_root" &&
        _awac_hash >"$_awac_venv/.awac-stamp.new" && mv "$_awac_venv/.awac-stamp.new" "$_awac_venv/.awac-stamp" &&
        rm -f "$_awac_venv/.awac-started" && _awac_say "done: .venv is ready" && return 0
    _awac_say "failed, see the lines above; the next run starts over"
    return 1
}

awac_setup() {
    local active=${VIRTUAL_ENV:-${CONDA_PREFIX:-}} lacks
    if [[ -n $active && ! $active -ef $_awac_venv ]]; then
        lacks=$(_awac_lacks "$active/bin/python")
        if [[ -z $lacks ]]; then
            _awac_use "$active/bin/python"
            return 0
        fi
        _awac_say "the active environment $active lacks $lacks; uses .venv instead"
    fi
    if ! _awac_is_current; then
        if [[ ! -f $_awac_venv/.awac-started && ! -f $_awac_venv/.awac-stamp && -x $_awac_venv/bin/python &&
            -z $(_awac_lacks "$_awac_venv/bin/python") ]]; then
            _awac_use "$_awac_venv/bin/python" # somebody's own .venv, complete: left as it is
            return 0
        fi
        if command -v flock >/dev/null; then
            (
                flock -n 9 || { _awac_say "waits for another set-up" && flock 9; }
                _awac_build
            ) 9>"$_awac_root/.venv.lock"
        else
            (_awac_build)
        fi || return 1
    fi
    _awac_use "$_awac_venv/bin/python"
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
    case ${1:-} in
        "") awac_setup && echo "$AWAC_PYTHON" ;;
        -h | --help) awac_setup_usage ;;
        *)
            awac_setup_usage >&2
            exit 2
            ;;
    esac
else
    awac_setup
fi
