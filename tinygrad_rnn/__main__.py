"""`python -m tinygrad_rnn` is `tinygrad-rnn`."""

import sys

if not sys.flags.safe_path:
    sys.path.append(sys.path.pop(0))  # the user's folder last: a viz.py or tqdm.py there is nobody's but theirs

from tinygrad_rnn.cli import main

if __name__ == "__main__":
    sys.exit(main())
