"""When one process fails, so do all: none waits for one that is gone, and one line says why."""

from __future__ import annotations

import sys
import time
import traceback

from collections.abc import Callable
from typing import Any

from tinygrad_rnn.parallel.world import Failed

PATIENCE = 5.0  # seconds that the other processes have to fail as well
TO_BE_READ = 0.5  # seconds for a launcher to pass on what was said, before it ends


class Failures:
    """comm: a communicator for this alone"""

    def __init__(self, mpi: Any, comm: Any):
        self.mpi, self.comm = mpi, comm

    def tell(self, error: BaseException, line: str, say: Callable[[str], None]) -> None:
        """Say a line about an error: once, if all processes have failed. If some have not, end them."""
        rank, size = self.comm.rank, self.comm.size
        everybody, end = self.comm.Ibarrier(), time.monotonic() + PATIENCE
        while not everybody.Test():
            if time.monotonic() > end:
                say(f"rank {rank} of {size}: {line}")
                sys.stderr.flush()
                time.sleep(TO_BE_READ)
                self.mpi.COMM_WORLD.Abort(2)
            time.sleep(0.02)
        speaker = self.comm.allreduce(size if isinstance(error, Failed) else rank, op=self.mpi.MIN)
        if speaker == rank:
            say(line if rank == 0 else f"rank {rank} of {size}: {line}")

    def watch(self) -> None:
        """From now on an error that nobody catches is told, too."""
        before = sys.excepthook

        def hook(kind: Any, error: BaseException, trace: Any) -> None:
            def say(line: str) -> None:
                sys.stderr.write(f"{line}\n")

            if before is not sys.__excepthook__:
                before(kind, error, trace)
            self.tell(error, "".join(traceback.format_exception(kind, error, trace)).rstrip(), say)

        sys.excepthook = hook
