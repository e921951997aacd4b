"""What a part of gpu.py is told and what it says: results as lines of JSON, until its time is over."""

from __future__ import annotations

import json
import sys
import time

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Site:
    """Where a part runs.

    part   its name
    dry    without a GPU: the strict stand-in for CuPy, PyTorch on the CPU, and tiny sizes
    until  when its time is over, by time.monotonic
    """

    part: str
    dry: bool
    until: float

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self.until - time.monotonic()

    def say(self, name: str, **found: Any) -> None:
        """A result."""
        print(json.dumps({"part": self.part, "name": name, **found}, default=str), flush=True)

    def attempt(self, name: str, make: Callable[..., dict[str, Any]], *args: Any) -> None:
        """What a function finds, or its error in one line: what comes after it is tried all the same."""
        if self.left < 1:
            self.say(name, skipped="the part's time was over")
            return
        try:
            self.say(name, **make(*args))
        except Exception as error:
            self.say(name, error=one_line(error))

    def choose(self, real: Any, dry: Any) -> Any:
        """A size for a GPU, or for a dry run."""
        return dry if self.dry else real

    def enter(self) -> str:
        """Make the GPU the default device; returns why that cannot be, or nothing."""
        if self.dry:
            use_stand_in()
        import tinygrad_rnn as tg

        try:
            tg.set_default_device("gpu")
        except RuntimeError as error:
            return one_line(error)
        return ""

    @property
    def pytorch_device(self) -> str:
        """Where PyTorch computes."""
        return self.choose("cuda", "cpu")

    def pytorch(self) -> str:
        """Have PyTorch compute products in full float32; returns why it cannot compute on the GPU, or nothing."""
        try:
            import torch
        except ImportError:
            return "PyTorch is not installed"
        if self.dry:
            torch.set_num_threads(1)
            return ""
        if not torch.cuda.is_available():
            return f"PyTorch {torch.__version__} sees no GPU: it may be a build without CUDA"
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        return ""


def use_stand_in() -> None:
    """Let `import cupy` mean the stand-in of the tests."""
    sys.path.append(str(ROOT / "tests"))  # behind this folder: both have a module cells
    import strict_cupy

    sys.modules.update(strict_cupy.modules())


def one_line(error: Exception) -> str:
    """An error as it is told."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:400]


def synchronize() -> None:
    """Wait for all that the GPU has been given, by whatever library."""
    import cupy

    cupy.cuda.Device().synchronize()
