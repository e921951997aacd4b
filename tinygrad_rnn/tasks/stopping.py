"""Ctrl-C, and the signal with which a machine or a cluster ends a process: wishes, heard between two batches."""

from __future__ import annotations

import signal
import threading
import time

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

DEFAULT: dict[int, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
AGAIN = 0.5  # seconds: a terminal and the launcher of several processes may both tell them of one Ctrl-C


@contextmanager
def stopping(again: float = 0.0) -> Iterator[Callable[[], bool]]:
    """Has somebody asked to stop? Meanwhile a signal interrupts nothing, so that no `__del__` swallows it and no array
    is half updated; but given again it does. Only in the main thread, and where nobody else sees to a signal.

    again: seconds after which another one counts as given again
    """
    asked: list[float] = []

    def handler(number: int, _: Any) -> None:
        asked.append(time.monotonic())
        if len(asked) > 1 and asked[-1] - asked[0] >= again:
            raise KeyboardInterrupt

    ours = threading.current_thread() is threading.main_thread()
    taken = [n for n, default in DEFAULT.items() if ours and signal.getsignal(n) is default]
    for number in taken:
        signal.signal(number, handler)
    try:
        yield lambda: bool(asked)
    finally:
        for number in taken:
            signal.signal(number, DEFAULT[number])
