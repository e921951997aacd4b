"""What a run says while an epoch goes on."""

from __future__ import annotations

import sys
import time

from collections.abc import Callable
from dataclasses import dataclass, field

MINUTE = 60.0  # seconds between lines where nobody sees a progress bar


@dataclass
class Log:
    """Lines between epochs: after every so many batches, and every minute where standard output is no terminal.

    every: batches; 0: none for their number
    line: what was learned since the last line, from nats, tokens and seconds
    """

    every: int
    line: Callable[[float, int, float], str]
    nats: float = 0.0
    tokens: int = 0
    began: float = field(default_factory=lambda: time.monotonic())

    def told(self, batch: int, nats: float, tokens: int) -> str:
        """A line, if there is one to say after so many batches of the epoch, of which the last taught this; else ""."""
        self.nats, self.tokens = self.nats + nats, self.tokens + tokens
        seconds = time.monotonic() - self.began
        late = seconds >= MINUTE and not (sys.stdout is not None and sys.stdout.isatty())
        if not self.tokens or not (late or (self.every and batch % self.every == 0)):
            return ""
        said = self.line(self.nats, self.tokens, seconds)
        self.nats, self.tokens, self.began = 0.0, 0, time.monotonic()
        return said
