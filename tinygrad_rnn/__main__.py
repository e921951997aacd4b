"""`python -m tinygrad_rnn` is `tinygrad-rnn`."""

import sys

if not sys.flags.safe_path:
    del sys.path[0]  # the user's folder: it comes last (tasks.cells_by_name), a viz.py there is but theirs

from tinygrad_rnn.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
