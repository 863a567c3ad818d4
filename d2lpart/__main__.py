"""`python -m d2lpart`: the command line."""

import sys

from d2lpart.commands.cli import main

if __name__ == "__main__":
    sys.exit(main())
