"""`tinygrad-rnn`, but that something happens in one process at a batch: `python parallel_run.py 1:40:raise train lm …`.

what: raise, nan, kill, sleep, drift, a TypeError (type), a full disk (disk), or an error when validating (valid)
"""

import importlib.util
import os
import signal
import sys
import time
import warnings

import numpy as np

from tinygrad_rnn import parallel
from tinygrad_rnn.cli import main
from tinygrad_rnn.parallel import failures, waiting
from tinygrad_rnn.tasks import fit, language_model

steps = 0


def happens():
    return parallel.world().rank == int(rank) and steps == int(at)


def loss(self, batch, carry):
    global steps
    steps += 1
    if happens():
        if what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "raise":
            raise ValueError("the data are bad")
        if what == "sleep":
            time.sleep(3)
        if what == "drift":
            p = self.model.output.b
            p.array = p.array + np.float64(1e-9)
    found, n, carry = loss_of(self, batch, carry)
    return (found * float("nan") if happens() and what == "nan" else found), n, carry


def fails_to_write(*_):
    raise OSError(28, "No space left on device", "last.safetensors")


def fails_to_validate(self):
    if parallel.world().rank == int(rank):
        raise {"type": TypeError, "valid": ValueError}[what]("not what it should be")
    return validate(self)


if __name__ == "__main__":
    rank, at, what = sys.argv.pop(1).split(":")
    if what == "gpu" and importlib.util.find_spec("cupy") is None:
        import strict_cupy

        sys.modules.update(strict_cupy.modules())
    loss_of, validate = language_model.LanguageTask.loss, language_model.LanguageTask.validate
    if what == "sleep":
        waiting.PATIENCE, waiting.LOOK = 1.0, 0.1
    failures.PATIENCE = 1.0
    language_model.LanguageTask.loss = loss
    if what == "disk" and parallel.world().rank == 0:
        fit.save_checkpoint = fails_to_write
    if what in ("type", "valid"):
        language_model.LanguageTask.validate = fails_to_validate
    if what == "overlap":
        init = fit.Trainer.__post_init__
        fit.Trainer.__post_init__ = lambda self: (init(self), setattr(self, "overlap", True))[0]
    if what == "rows":
        fit.WORTH_CHOOSING = 0
    warnings.simplefilter("always")
    sys.exit(main.main())
