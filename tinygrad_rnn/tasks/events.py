"""A run's numbers for TensorBoard."""

from __future__ import annotations

import time
import weakref

from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Events:
    """Writes numbers by step into event files; `tensorboard --logdir FOLDER` shows them.

    What a call writes is on disk when it returns, which the writer of tensorboardX that is meant for people does not
    promise: a run may be killed at any moment. RuntimeError if that library is not installed (the extra "tensorboard").
    """

    def __init__(self, folder: Path):
        try:
            from tensorboardX import event_file_writer, proto, summary  # noqa: PLC0415 (an extra)
        except ImportError:
            raise RuntimeError(
                '--tensorboard: tensorboardX is not installed; pip install "tinygrad-rnn[tensorboard]"'
            ) from None
        self.folder, self._made_by = folder, (event_file_writer.EventsWriter, proto.event_pb2, summary.scalar)
        self._writer: Any = None

    def __call__(self, step: int, numbers: Mapping[str, float]) -> None:
        """Write numbers of a step. What an earlier process wrote of the first step or later ones, before it was
        stopped, counts no more."""
        make, events, scalar = self._made_by
        if self._writer is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._writer = make(str(self.folder / "events"), f".{step}")  # two in one second are two files
            weakref.finalize(self, self._writer.close)
            self._write(step, session_log=events.SessionLog(status=events.SessionLog.START))
        for name, number in numbers.items():
            self._write(step, summary=scalar(name, number))
        self._writer.flush()

    def _write(self, step: int, **what: Any) -> None:
        self._writer.write_event(self._made_by[1].Event(wall_time=time.time(), step=step, **what))
