"""`python -m generate`: see terminal/commands.py."""

import sys

from generate.terminal.commands import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
