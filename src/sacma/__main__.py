"""``python -m sacma``: the command line."""

import sys

from sacma.cli import main

sys.exit(main())
