"""``python -m kvorum.sim``."""

import sys

from kvorum.sim.cli import main

sys.exit(main(sys.argv[1:]))
