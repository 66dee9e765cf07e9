"""Trains AWAC on Ant data, offline and then online; the flags are those of `awac train`."""

import sys

from awac.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
