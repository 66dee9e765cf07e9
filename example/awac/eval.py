"""Evaluates a trained checkpoint; the flags are those of `awac eval`."""

import sys

from awac.cli import main

if __name__ == "__main__":
    sys.exit(main(["eval", *sys.argv[1:]]))
