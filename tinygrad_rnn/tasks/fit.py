"""The fit loop: batches, progress bar, validation, metrics, checkpoints. What is learned is a `Task`."""

from __future__ import annotations

import math
import signal
import threading
import time

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from tinygrad_rnn import optim
from tinygrad_rnn.autograd import nest, random
from tinygrad_rnn.autograd.arrays import move, to_numpy
from tinygrad_rnn.autograd.gradients import no_grad
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.autograd.transfers import Reading
from tinygrad_rnn.nn import Module
from tinygrad_rnn.state_dicts import prefixed, without_prefix
from tinygrad_rnn.tasks.checkpoint import load_checkpoint, save_checkpoint
from tinygrad_rnn.tasks.run_folder import RunFolder


class Task(Protocol):
    """What `fit` needs to know of what it trains."""

    unit: str  # what a token is called in the progress bar
    metric: str  # what the loss is reported as beside nats

    def __len__(self) -> int:
        """The number of batches in an epoch."""

    def start(self, epoch: int) -> Any:
        """Begin an epoch, from 0; returns what is carried into its first batch: a nest of tensors, or None."""

    def loss(self, batch: int, carry: Any) -> tuple[Tensor, int, Any]:
        """Of one batch: the loss in nats (summed), the number of tokens, and what is carried into the next batch."""

    def tokens(self) -> int:
        """The number of tokens in an epoch."""

    def validate(self) -> float:
        """Nats per token on held-out data; called after each epoch."""

    def measure(self, nats: float) -> float:
        """Nats per token as `metric`: bits per character, say."""


@dataclass
class Progress:
    """How far a run has come: `epoch` (from 0) and the next `batch` in it; the epoch's sums so far; a row per epoch."""

    epoch: int = 0
    batch: int = 0
    nats: float = 0.0
    tokens: int = 0
    seconds: float = 0.0
    best: float | None = None
    rows: list[dict[str, float]] = field(default_factory=list)


@dataclass
class Trainer:
    """Everything that a run changes while it goes on; `save` and `restore` put all of it into a file and back."""

    model: Module
    optimizer: optim.Optimizer
    task: Task
    folder: RunFolder
    clip: float = 0.0
    save_every: float = 10.0  # seconds
    progress: Progress = field(default_factory=Progress)
    carry: Any = None
    losses: deque[tuple[Reading, int]] = field(default_factory=deque)  # on their way, with their numbers of tokens

    def save(self, path: Path) -> None:
        """Write the run as it is after the last whole batch into a file, from which `restore` goes on.

        ValueError, and no file, where a loss was not finite.
        """
        self._read_losses()
        arrays = {
            **prefixed("model", self.model.state_dict()),
            **prefixed("optimizer", self.optimizer.state_dict()),
            **prefixed("carry", {str(i): to_numpy(t.array) for i, t in enumerate(nest.leaves(self.carry))}),
        }
        save_checkpoint(path, arrays, {**vars(self.progress), "generator": random.get_rng_state()})

    def restore(self, path: Path) -> None:
        """Go on where `save` was called: from here on, every number is the same as if nothing had happened."""
        arrays, progress = load_checkpoint(path)
        try:
            self.model.load_state_dict(without_prefix("model", arrays))
            self.optimizer.load_state_dict(without_prefix("optimizer", arrays))
            self.losses.clear()
            self.carry = self.task.start(progress["epoch"])
            random.set_rng_state(progress.pop("generator"))  # after `start`, which may draw
            self.progress = Progress(**progress)
            saved = without_prefix("carry", arrays)
            if saved:
                values = iter(saved[str(i)] for i in range(len(saved)))
                self.carry = nest.map_leaves(lambda t: Tensor(move(next(values), t.device)), self.carry)
        except (KeyError, TypeError, ValueError, StopIteration) as error:
            raise ValueError(f"checkpoint: {str(path)!r} does not fit this run ({error})") from None

    def fit(self, epochs: int, report: Callable[[str], None]) -> None:
        """Train up to `epochs` epochs, counted from the start of the run. RuntimeError if another process does.

        ValueError where a loss is not finite: on the CPU before its step is made, on a GPU one step later, where losses
        are read when the next step is under way; in any case before anything is saved.
        Ctrl-C stops between two batches, in a checkpoint from which the run can go on; a second one stops at once.
        """
        self.model.train()
        with self.folder.locked(), _stopping() as stopped:
            while self.progress.epoch < epochs and not stopped():
                with _bar(self.task, f"epoch {self.progress.epoch + 1}/{epochs}", self.progress.tokens) as bar:
                    self._epoch(bar, stopped)
                if not stopped():
                    report(self._finish_epoch(self.task.validate(), epochs))
            if stopped():
                raise KeyboardInterrupt

    def _epoch(self, bar: tqdm, stopped: Callable[[], bool]) -> None:
        """The batches that are left of the epoch, saved every now and then, and when it is stopped."""
        progress = self.progress
        if progress.batch == 0:
            self.carry = self.task.start(progress.epoch)
        saved = clock = time.monotonic()
        while progress.batch < len(self.task) and not stopped():
            nats, tokens = progress.nats, progress.tokens
            self._batch(progress.batch)
            progress.batch += 1
            now = time.monotonic()
            progress.seconds, clock = progress.seconds + now - clock, now
            self._show(bar, progress.nats - nats, progress.tokens - tokens)
            if now - saved >= self.save_every:
                self.save(self.folder.last)
                saved = time.monotonic()
        self._read_losses()
        progress.seconds += time.monotonic() - clock
        if stopped():
            self.save(self.folder.last)

    def _show(self, bar: tqdm, nats: float, n: int) -> None:
        """What was learned of n more tokens."""
        if n:
            bar.update(n)
            loss = f"loss {nats / n:.3f}, {self.task.metric} {self.task.measure(nats / n):.3f}"
            bar.set_postfix_str(loss, refresh=False)

    def _batch(self, batch: int) -> None:
        """One step of the optimiser. Its loss is added up, on a GPU at the next step, which is begun meanwhile."""
        loss, n, carry = self.task.loss(batch, self.carry)
        reading = Reading(loss.array)
        self.losses.append((reading, n))
        self._read_losses(leave=0 if reading.at_hand else 1)
        (loss / n).backward()
        if self.clip:
            optim.clip_grad_norm_(self.optimizer.parameters, self.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.carry = carry

    def _read_losses(self, leave: int = 0) -> None:
        """Add up the losses of all steps but the last few. ValueError for one that is not finite."""
        while len(self.losses) > leave:
            reading, n = self.losses.popleft()
            nats = float(reading.get())
            if not math.isfinite(nats):
                raise ValueError(
                    f"train: the loss must stay finite, got {nats}; start again with a smaller --lr or --clip"
                )
            self.progress.nats += nats
            self.progress.tokens += n

    def _finish_epoch(self, valid: float, epochs: int) -> str:
        """Write down the epoch; returns it in a line."""
        progress, task = self.progress, self.task
        train, metric = progress.nats / progress.tokens, task.metric.replace(" ", "_")
        speed = progress.tokens / max(progress.seconds, 1e-9)
        row = {
            "epoch": progress.epoch + 1,
            "steps": self.optimizer.steps,
            "learning_rate": self.optimizer.lr,
            "train_loss": train,
            "valid_loss": valid,
            f"train_{metric}": task.measure(train),
            f"valid_{metric}": task.measure(valid),
            f"{task.unit}s_per_second": round(speed, 1),
        }
        best = progress.best is None or not valid >= progress.best
        self.progress = Progress(progress.epoch + 1, best=valid if best else progress.best, rows=[*progress.rows, row])
        self.carry = None
        self.folder.write_metrics(self.progress.rows)
        if best:
            self.save(self.folder.best)
        self.save(self.folder.last)
        return (
            f"epoch {progress.epoch + 1}/{epochs}: {task.metric} {task.measure(train):.3f} in training, "
            f"{task.measure(valid):.3f} on held-out data, {speed:,.0f} {task.unit}s/s"
        )


@contextmanager
def evaluating(model: Module) -> Iterator[None]:
    """Meanwhile a model that is being trained runs without dropout, and nothing is recorded; then it trains again."""
    model.eval()
    with no_grad():
        yield
    model.train()


def perplexity(nats: float) -> float:
    """exp of nats per token; finite, also of a model that has diverged."""
    return math.exp(min(nats, 700.0))


@contextmanager
def _stopping() -> Iterator[Callable[[], bool]]:
    """Has Ctrl-C been pressed? Meanwhile it interrupts nothing, so that no `__del__` swallows it and no array is half
    updated; but pressed again it does. Only in the main thread, and if nobody else has seen to it."""
    pressed: list[int] = []

    def handler(number: int, _: Any) -> None:
        pressed.append(number)
        if len(pressed) > 1:
            raise KeyboardInterrupt

    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield lambda: False
        return
    signal.signal(signal.SIGINT, handler)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _bar(task: Task, title: str, done: int) -> tqdm:
    """The progress bar of an epoch, where there is a terminal to show it."""
    return tqdm(
        total=task.tokens(), initial=done, desc=title, unit=task.unit, unit_scale=True, leave=False, disable=None
    )
