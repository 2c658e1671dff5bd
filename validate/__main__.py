"""python -m waterlevel.validate, and the command `waterlevel` itself."""

import sys

INTERRUPTED = 130


def main() -> int:
    """The command; an interrupt while it is still being imported ends as quietly as a later one."""
    try:
        from .cli.main import main as command

        return command()
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
