#!/usr/bin/env bash
# Builds the documentation site into build/site, strictly: a broken link or an unknown name fails. Makes .venv-docs once.
set -euo pipefail
cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/.."
unset PYTHONHOME # another Python's
if [[ ${1:-} == -h || ${1:-} == --help ]]; then
    echo "Usage: bash scripts/build_docs.sh    (needs Python 3.10 or newer and, the first time, PyPI)"
    exit 0
fi
mapfile -t pins < <(sed -n 's/^docs = //p' pyproject.toml | grep -o '"[^"]*"' | tr -d '"') # the extra docs
if [[ ! -f .venv-docs/.done || $(<.venv-docs/.done) != "${pins[*]}" ]]; then
    "${PYTHON:-python3}" -m venv .venv-docs
    .venv-docs/bin/python -m pip install -q --disable-pip-version-check "${pins[@]}"
    echo "${pins[*]}" >.venv-docs/.done
fi
export NO_MKDOCS_2_WARNING=1 # the pins stay on MkDocs 1
exec .venv-docs/bin/python -m mkdocs build --strict --quiet --config-file scripts/mkdocs.yml
