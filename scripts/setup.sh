#!/usr/bin/env bash
# Finds or makes the Python environment of this repository. Run it, or source it and read AWAC_PYTHON. See --help.

_awac_root=$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")
_awac_lock=$_awac_root/requirements.lock
_awac_venv=$_awac_root/.venv
_awac_stamp=$_awac_venv/.awac-stamp # "started", then the checksum of what was installed; "updating" while that changes
unset PYTHONHOME # another Python's; with it .venv would not start

_awac_say() { printf 'setup: %s\n' "$*" >&2; }

_awac_usage() {
    cat <<'USAGE'
Usage: bash scripts/setup.sh
       source scripts/setup.sh && "$AWAC_PYTHON" ...

Finds or makes the environment that the other scripts run in, and prints its interpreter:
  1. the active environment (virtualenv or conda), if it is Python 3.10 to 3.12 and has the dependencies in
     pyproject.toml; nothing is installed into it;
  2. else .venv at the root of the repository, made from requirements.lock (about 1 GB to download) if it is not there.
A second run installs nothing. Set PYTHON=/path/to/python to choose the Python that .venv is made with.
USAGE
}

# Prints in one line the project's dependencies that the environment lacks.
_awac_lacks() { # PYTHON
    "$1" -I - "$_awac_root/pyproject.toml" 2>/dev/null <<'PY' || echo "a Python that has the package packaging"
import re, sys
from importlib.metadata import PackageNotFoundError, version
from packaging.requirements import Requirement

def has(wanted):
    try:
        return wanted.specifier.contains(version(wanted.name), prereleases=True)
    except PackageNotFoundError:
        return False

listed = re.search(r"^dependencies = \[$(.*?)^\]", open(sys.argv[1], encoding="utf-8").read(), re.M | re.S)[1]
wanted = [Requirement(text) for text in re.findall(r'^ *"(.+?)"', listed, re.M)]
needs = [w for w in wanted if w.name == "mindspore-rl" or w.marker is None or w.marker.evaluate()]  # on 3.12 as well
lacks = [w.name + str(w.specifier) for w in needs if not has(w)]
print(", ".join(["Python 3.10 to 3.12"] * (not (3, 10) <= sys.version_info[:2] <= (3, 12)) + lacks))
PY
}

_awac_sum() { { cat "$_awac_lock" "$_awac_root/pyproject.toml" && echo "$_awac_root"; } | cksum; }

_awac_is_current() {
    [[ -f $_awac_stamp && $(<"$_awac_stamp") == "$(_awac_sum)" ]] && "$_awac_venv/bin/python" -I -c '' 2>/dev/null
}

# Prints the Python to build with; names on PATH can be shims that fail, so each is tried.
_awac_base() {
    local python
    while read -r python; do
        "$python" -I -c 'import ensurepip, sys, venv; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' \
            >/dev/null 2>&1 && echo "$python" && return
    done < <(if [[ -n ${PYTHON:-} ]]; then echo "$PYTHON"; else type -aP python3.1{1,0,2} python3 python; fi)
    _awac_say "${PYTHON:+PYTHON=$PYTHON is not it: }needs Python 3.10 to 3.12 with its venv module (on Debian and Ubuntu" \
        "the package python3-venv); install it, or set PYTHON=/path/to/python3.11"
    return 1
}

# The user's index, proxy and certificates count; settings that keep the lock from being installed don't.
_awac_pip() {
    PIP_USER=0 PIP_CONSTRAINT=/dev/null PIP_ONLY_BINARY=:none: PIP_NO_BINARY=:none: \
        "$_awac_venv/bin/python" -I -m pip $([[ -t 2 ]] || echo -q) --disable-pip-version-check --no-input \
        install --no-deps --no-build-isolation "$@" </dev/null >&2
}

# bin/activate and the commands of bin/ name their folder: in a copy of the repository, the original's.
_awac_place() {
    "$_awac_venv/bin/python" -I -m venv --without-pip "$_awac_venv" >&2 && {
        "$_awac_venv/bin/python" -I - "$_awac_venv/bin" 2>/dev/null ||
            _awac_say "what lies in .venv/bin may lead to another folder: start it with python -m"
    } <<'PY'
import sys
from importlib.metadata import entry_points
from pip._vendor.distlib.scripts import ScriptMaker  # what pip writes them with

maker = ScriptMaker(None, sys.argv[1])
maker.clobber, maker.set_mode, maker.variants = True, True, {""}
maker.make_multiple([f"{entry.name} = {entry.value}" for entry in entry_points(group="console_scripts")])
PY
}

_awac_build() {
    local base fault then="starts over"
    _awac_is_current && return # another set-up was faster
    if [[ -f $_awac_stamp && $(<"$_awac_stamp") != started ]]; then # whole once, and perhaps in use: nothing is deleted
        fault=$(env "$_awac_venv/bin/python" -I -c '' 2>&1) || {
            _awac_say ".venv does not run on this machine (${fault%%$'\n'*}); where it is not needed any more, delete" \
                "$_awac_venv and start again"
            return 1
        }
        _awac_say "brings .venv up to date with requirements.lock"
        then="tries again"
        echo updating >"$_awac_stamp.new" && mv "$_awac_stamp.new" "$_awac_stamp" && _awac_place || return 1
    else
        base=$(_awac_base) || return 1
        if [[ -f $_awac_stamp ]]; then
            rm -rf "$_awac_venv"
        elif [[ -e $_awac_venv ]]; then
            _awac_say ".venv is not from this script and lacks packages: moved to .venv.old-$$"
            mv "$_awac_venv" "$_awac_venv.old-$$" || return 1
        fi
        _awac_say "makes .venv with $("$base" -V) from requirements.lock: once, about 1 GB, some minutes"
        mkdir "$_awac_venv" && echo started >"$_awac_stamp" && "$base" -I -m venv "$_awac_venv" >&2 || return 1
    fi
    # The lock is complete and has hashes, so pip resolves nothing; gym is source, built with the lock's setuptools.
    _awac_pip --require-hashes -r <(sed -n '/^setuptools==/,/[^\\]$/p' "$_awac_lock") &&
        _awac_pip --require-hashes -r "$_awac_lock" && _awac_pip -e "$_awac_root" &&
        _awac_sum >"$_awac_stamp.new" && mv "$_awac_stamp.new" "$_awac_stamp" && _awac_say "done: .venv is ready" && return
    _awac_say "failed, see the lines above; the next run $then"
    return 1
}

awac_setup() {
    local active=${VIRTUAL_ENV:-${CONDA_PREFIX:-}} lacks=unknown
    export AWAC_PYTHON=$_awac_venv/bin/python PYTHONPATH=$_awac_root/src${PYTHONPATH:+:$PYTHONPATH}
    if [[ -n $active && ! $active -ef $_awac_venv ]]; then
        lacks=$(_awac_lacks "$active/bin/python")
        [[ -n $lacks ]] || { AWAC_PYTHON=$active/bin/python && return; }
        _awac_say "the active environment $active lacks $lacks; uses .venv instead"
    fi
    _awac_is_current && return
    if [[ -x $AWAC_PYTHON && ! -f $_awac_stamp ]]; then # somebody's own .venv
        lacks=$(_awac_lacks "$AWAC_PYTHON")
        [[ -n $lacks ]] || return 0
    fi
    (
        if ! { exec 9>"$_awac_venv.lock"; } 2>/dev/null; then
            _awac_say "$_awac_root can't be written to, so .venv can't be made there; have its owner run" \
                "bash scripts/setup.sh, or activate an environment that has the dependencies"
            exit 1
        fi
        # 1 is another's lock; without the command, or in a file system without locks, it goes on.
        flock -n 9 2>/dev/null || [[ $? -ne 1 ]] || { _awac_say "waits for another set-up" && flock 9; }
        _awac_build
    )
}

case $([[ ${BASH_SOURCE[0]} == "$0" ]] && echo "run $*") in
    "") awac_setup ;;
    "run ") awac_setup && echo "$AWAC_PYTHON" ;;
    "run -h" | "run --help") _awac_usage ;;
    *) _awac_usage >&2 && exit 2 ;;
esac
