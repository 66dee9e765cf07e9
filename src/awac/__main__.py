"""`python -m awac` is the command `awac`."""

from awac.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
