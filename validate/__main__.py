"""python -m waterlevel.validate: the command `waterlevel`."""

import sys

from .command_line import main

sys.exit(main())
