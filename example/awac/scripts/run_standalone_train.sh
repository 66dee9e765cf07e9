#!/usr/bin/env bash
# scripts/run_standalone_train.sh of the repository; a file and not a link, since copies and archives would lose a link.
exec bash "$(dirname -- "$(readlink -f -- "$0")")/../../../scripts/run_standalone_train.sh" "$@"
