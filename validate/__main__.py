"""python -m waterlevel.validate: the command `waterlevel`."""

import sys

from .cli.main import main

sys.exit(main())
