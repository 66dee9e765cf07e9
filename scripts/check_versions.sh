#!/usr/bin/env bash
# Runs the tests and times training on several versions of MindSpore and Python; see --help.
set -uo pipefail
cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/.." || exit 1
unset PYTHONHOME # another Python's
if [[ ${1:-} == -h || ${1:-} == --help ]]; then
    cat <<'USAGE'
Usage: bash scripts/check_versions.sh [MINDSPORE/PYTHON ...]

Makes .venv-MINDSPORE-PYTHON for each pair (default: 2.7.0/3.10 2.7.0/3.11 2.10.0/3.11 2.10.0/3.12) from requirements.lock
with that MindSpore in place of the lock's, runs the tests in it, times `awac bench`, and prints a table in Markdown. An
environment takes 3 GB, the tests some minutes. What the tests print goes to .venv-MINDSPORE-PYTHON/tests.log, the pair's line
of the table to .venv-MINDSPORE-PYTHON/result as soon as it is there. A pair that passed is not run again for the same code, so
the same command goes on where an interrupted one stopped. Failed tests are run once more by themselves, and both results are
in the table. The exit code is 0 only if all pairs pass. Pythons are looked for
on PATH and among pyenv's.
USAGE
    exit 0
fi
[[ $# -gt 0 ]] || set -- 2.7.0/3.10 2.7.0/3.11 2.10.0/3.11 2.10.0/3.12
say() { echo "check_versions.sh: $*" >&2; }

# Prints the interpreter of a version; names on PATH can be shims that fail, so each is tried.
find_python() { # VERSION
    local python
    while read -r python; do
        "$python" -I -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$1')" 2>/dev/null && echo "$python" && return
    done < <(type -aP "python$1" python3; ls -d "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python 2>/dev/null)
    say "needs Python $1"
    return 1
}

make_environment() { # FOLDER MINDSPORE PYTHON
    local python stamp pip
    stamp="$2 $(cat requirements.lock pyproject.toml | sha256sum)"
    [[ -f $1/.done && $(<"$1/.done") == "$stamp" ]] && return
    python=$(find_python "$3") || return 1
    rm -rf "$1"
    "$python" -m venv "$1" || return 1
    # As in setup.sh: the lock is complete, so nothing is resolved, and gym is built with the lock's setuptools.
    pip=("$1/bin/python" -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation)
    "${pip[@]}" --require-hashes -r <(sed -n '/^setuptools==/,/[^\\]$/p' requirements.lock) &&
        "${pip[@]}" --require-hashes -r requirements.lock && "${pip[@]}" "mindspore==$2" -e . && echo "$stamp" >"$1/.done"
}

run_tests() { # FOLDER LOG [ARGUMENT ...]
    "$1/bin/python" -m pytest -q -o cache_dir="$PWD/$1/pytest_cache" "${@:3}" tests >"$1/$2.log" 2>&1 </dev/null
}

last_line() { tail -n 1 "$1" | sed -E 's/^=* ?//; s/ in .*//; s/ ?=*$//'; }

export PYTHONPATH=$PWD/src MPLBACKEND=Agg OMP_NUM_THREADS=1
code=$(find src tests scripts example ckpt *.toml *.lock -name __pycache__ -prune -o -type f -print0 | sort -z | xargs -0 cat | sha256sum)
rows=() failed=0
for pair in "$@"; do
    mindspore=${pair%/*} version=${pair#*/} folder=.venv-${pair/\//-} passed=1
    if [[ -f $folder/result && $(head -n 1 "$folder/result") == "passed $code" ]]; then
        rows+=("$(tail -n 1 "$folder/result")")
        say "MindSpore $mindspore, Python $version: passed before with this code"
        continue
    fi
    if ! make_environment "$folder" "$mindspore" "$version"; then
        rows+=("| $mindspore | $version | not installed | – |") failed=1
        continue
    fi
    say "MindSpore $mindspore, Python $version: tests, in $folder/tests.log"
    if run_tests "$folder" tests; then
        result=$(last_line "$folder/tests.log")
    else # a limit of time may have been too short for a busy machine
        run_tests "$folder" again --lf || passed=0
        result="$(last_line "$folder/tests.log"); the failed ones again: $(last_line "$folder/again.log")"
    fi
    speed=$("$folder/bin/python" -m awac.cli bench --implementation awac --workload default --rounds 3 --seconds 1 |
        awk -F '|' '$2 ~ /awac/ { gsub(/ /, "", $3); print $3 }')
    [[ -n $speed ]] || passed=0
    [[ $passed == 1 ]] && word=passed || word=failed failed=1
    rows+=("| $mindspore | $version | $result | ${speed:-failed} |")
    printf '%s\n' "$word $code" "${rows[-1]}" >"$folder/result"
    say "${rows[-1]}"
done
printf '%s\n' "| MindSpore | Python | tests | steps/s (\`default\`) |" "|---|---|---|---|" "${rows[@]}"
exit $failed
