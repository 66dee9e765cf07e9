"""`python -m awac.cli`."""

import sys

from awac.cli import main

sys.exit(main())
