"""`python -m tinygrad_rnn` is `tinygrad-rnn`."""

import sys

if not sys.flags.safe_path:
    del sys.path[0]  # the user's folder, which comes last (see named_cells): a viz.py there is nobody's but theirs

from tinygrad_rnn.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
