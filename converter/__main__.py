"""``python -m converter``."""

import sys

from converter.cli.command_line import main

if __name__ == "__main__":
    sys.exit(main())
