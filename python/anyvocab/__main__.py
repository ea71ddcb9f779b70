"""`python -m anyvocab`: the command line."""

import sys

from anyvocab.cli import main

if __name__ == "__main__":
    sys.exit(main())
