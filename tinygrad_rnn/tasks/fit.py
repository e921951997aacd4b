"""The fit loop: batches, progress bar, validation, metrics, checkpoints. What is learned is a `Task`."""

from __future__ import annotations

import math
import sys
import time
import warnings

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tinygrad_rnn import optim, parallel
from tinygrad_rnn.autograd import nest, random
from tinygrad_rnn.autograd.arrays import move, to_numpy
from tinygrad_rnn.autograd.gradients import no_grad
from tinygrad_rnn.autograd.tensor import Parameter, Tensor
from tinygrad_rnn.autograd.transfers import Reading
from tinygrad_rnn.nn import Module
from tinygrad_rnn.nn.module import in_evaluation
from tinygrad_rnn.nn.state_dicts import prefixed, without_prefix
from tinygrad_rnn.tasks.bar import progress_bar, tqdm
from tinygrad_rnn.tasks.checkpoint import load_checkpoint, save_checkpoint
from tinygrad_rnn.tasks.log import Log
from tinygrad_rnn.tasks.run_folder import RunFolder
from tinygrad_rnn.tasks.stopping import AGAIN, stopping

WORTH_OVERLAPPING = 8 << 20  # bytes of gradients
WORTH_CHOOSING = 1 << 20  # bytes of an embedding, from which on it is looked which of its rows are read


class Task(Protocol):
    """What a `Trainer` needs to know of what it trains; `SupervisedTask` is one for examples with targets.

    One that several processes can learn has besides: `world`, the processes that share its batches, and `rows`, from a
    batch the rows of a parameter that are read in it. One that measures more has `scores`, by name, of the last
    validation.
    One that learns a batch in parts, one after the other, to need less memory, has `parts`, their number: `loss` is
    called with the numbers batch · parts to batch · parts + parts - 1 then.
    """

    unit: str  # what a token is called in the progress bar
    metric: str  # what the loss is reported as beside nats

    def __len__(self) -> int:
        """The number of batches in an epoch."""

    def start(self, epoch: int) -> Any:
        """Begin an epoch, from 0; returns what is carried into its first batch: a nest of tensors, or None."""

    def loss(self, batch: int, carry: Any) -> tuple[Tensor, int, Any]:
        """Of this process's part of a batch: the loss in nats (summed); the number of tokens in the whole batch, that
        of all processes; and what is carried into the next batch."""

    def tokens(self) -> int:
        """The number of tokens in an epoch."""

    def validate(self) -> float:
        """Nats per token on held-out data, that of all processes; called after each epoch."""

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

    @property
    def waited(self) -> int:
        """The epochs since the loss on held-out data was last lower than in all before."""
        losses = [row["valid_loss"] for row in self.rows]
        return len(losses) - 1 - losses.index(min(losses)) if losses else 0


@dataclass
class Trainer:
    """Everything that a run changes while it goes on; `save` and `restore` put all of it into a file and back.

        trainer = Trainer(model, optim.Adam(model.parameters()), task, "runs/mine")
        trainer.fit(10)

    `fit` writes last.safetensors (every `save_every` seconds and after each epoch), best.safetensors (that with the
    lowest loss on held-out data) and metrics.csv into the folder; `restore(trainer.folder.last)` before it goes on from
    there, bit for bit as if it had not been interrupted.

    model, optimizer, task: what learns, how, and what  folder: a RunFolder, or its path
    clip: the largest norm of a step's gradients; 0: any
    Several processes, each with a trainer, make the same run together: its file is one, and does not tell how many.
    seed: of what each of several processes draws
    overlap: add up gradients during the backward pass? None: if there are enough of them, on their way between machines
    plateau: a schedule that is told the held-out losses
    patience: epochs without a lower loss on held-out data after which a run ends; 0: it does not
    log_every: batches between lines; 0: see `Log`
    events: gets the step and the numbers of each line and each epoch; see `tinygrad_rnn.tasks.events`
    """

    model: Module
    optimizer: optim.Optimizer | optim.ZeroRedundancyOptimizer
    task: Task
    folder: Any  # a RunFolder from then on
    clip: float = 0.0
    save_every: float = 10.0  # seconds
    progress: Progress = field(default_factory=Progress)
    carry: Any = None
    losses: deque[tuple[Reading, int]] = field(default_factory=deque)  # on their way, with their numbers of tokens
    seed: int = 0
    world: parallel.World = field(default_factory=parallel.world)
    overlap: bool | None = None
    plateau: optim.Plateau | None = None
    patience: int = 0
    log_every: int = 0
    events: Callable[[int, Mapping[str, float]], None] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.folder, (str, Path)):
            self.folder = RunFolder(self.folder)
        if self.world.size > 1 and getattr(self.task, "world", None) is not self.world:
            raise ValueError(
                f"{type(self.task).__name__}: a task that {self.world.size} processes share must know of them, got one "
                "that each would learn as a whole; let it keep parallel.world() as its attribute `world`, and compute "
                "the loss of its own part of a batch"
            )
        self.world.broadcast(self.optimizer.parameters)
        if self.overlap is None:
            nbytes = sum(p.array.nbytes for p in self.optimizer.parameters)
            self.overlap = self.world.size > self.world.local_size and nbytes >= WORTH_OVERLAPPING
        self.overlap = self.overlap and not self._shared

    @property
    def _shared(self) -> bool:
        """Does each process update a part of the parameters?"""
        return isinstance(self.optimizer, optim.ZeroRedundancyOptimizer)

    @property
    def exhausted(self) -> bool:
        """Has the run waited for a lower loss on held-out data as long as it may?"""
        return 0 < self.patience <= self.progress.waited

    def save(self, path: Path) -> None:
        """Write the run as it is after the last whole batch into a file, from which `restore` goes on.

        ValueError, and no file, where a loss was not finite.
        """
        self._read_losses()
        self._mend()
        carry = self.world.joined([to_numpy(t.array) for t in nest.leaves(self.carry)])
        memory = self.optimizer.state_dict() if self._shared or self.world.rank == 0 else {}

        def write() -> None:
            arrays = {
                **prefixed("model", self.model.state_dict()),
                **prefixed("optimizer", memory),
                **prefixed("carry", {str(i): a for i, a in enumerate(carry)}),
            }
            save_checkpoint(path, arrays, {**vars(self.progress), "generator": random.get_rng_state()})

        self.world.first(write)

    def _mend(self) -> None:
        """Processors of different kinds may compute different last digits, which grow: then all go on as rank 0 is."""
        world, parameters = self.world, self.optimizer.parameters
        if world.same(parameters):
            return
        world.broadcast(parameters)
        if not self._shared:
            self.optimizer.load_state_dict(world.first(self.optimizer.state_dict))
        if world.rank == 0:
            warnings.warn(
                "train: the parameters were no longer the same in all processes, and are those of rank 0 now; it is "
                "looked at whenever the run is saved",
                stacklevel=2,
            )

    def _part(self, whole: np.ndarray) -> np.ndarray:
        """What this process carries on of what all carried."""
        return np.ascontiguousarray(whole[self.world.part(len(whole))])

    def restore(self, path: Path) -> None:
        """Go on where `save` was called: from here on, every number is the same as if nothing had happened."""
        arrays, progress = self.world.first(lambda: load_checkpoint(path))
        try:
            self.model.load_state_dict(without_prefix("model", arrays))
            self.optimizer.load_state_dict(without_prefix("optimizer", arrays))
            self.losses.clear()
            self.carry = self.task.start(progress["epoch"])
            random.set_rng_state(progress.pop("generator"))  # after `start`, which may draw
            self.progress = Progress(**progress)
            self._tell_plateau()
            saved = without_prefix("carry", arrays)
            if saved:
                values = iter(self._part(saved[str(i)]) for i in range(len(saved)))
                self.carry = nest.map_leaves(lambda t: Tensor(move(next(values), t.device)), self.carry)
        except (KeyError, TypeError, ValueError, StopIteration) as error:
            raise ValueError(f"checkpoint: {str(path)!r} does not fit this run ({error})") from None

    def fit(
        self, epochs: int, report: Callable[[str], None] = print, on_epoch: Callable[[Trainer], Any] | None = None
    ) -> None:
        """Train up to `epochs` epochs, counted from the start of the run, or until `exhausted`. RuntimeError if another
        process does.

        report: gets a line after each epoch, and in between (see `Log`)
        on_epoch: called after each epoch, once it is saved; `trainer.progress.rows[-1]` tells of it. True ends the run

        ValueError where a loss is not finite: on the CPU before its step is made, on a GPU one step later, where losses
        are read when the next step is under way; in any case before anything is saved.
        Ctrl-C and SIGTERM stop between two batches, in a checkpoint from which the run can go on; once more, at once.
        """
        self.model.train()
        stop = False
        with self._locked(), stopping(again=AGAIN if self.world.size > 1 else 0) as asked:
            enough = False
            while self.progress.epoch < epochs and not (stop or self.exhausted or enough):
                title = f"epoch {self.progress.epoch + 1}/{epochs}"
                total, done = self.task.tokens(), self.progress.tokens
                with progress_bar(total, done, title, self.task.unit, hidden=self.world.rank > 0) as bar:
                    stop = self._epoch(bar, asked, self._log(title, report))
                if not stop:
                    line = self._finish_epoch(self.task.validate(), epochs)
                    if self.world.rank == 0:
                        report(line)
                    enough = on_epoch is not None and self._agreed(lambda: bool(on_epoch(self)))
                    stop = self._agreed(asked)
            if stop:
                raise KeyboardInterrupt

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Nobody else trains in the folder meanwhile; of several processes, that of rank 0 sees to it."""
        with ExitStack() as stack:
            self.world.first(lambda: stack.enter_context(self.folder.locked()))
            yield

    def _agreed(self, asked: Callable[[], bool]) -> bool:
        """Has any process been asked to stop?"""
        return self.world.total(asked())[0] > 0

    def _tell_plateau(self) -> None:
        if self.plateau:
            self.plateau.report(row["valid_loss"] for row in self.progress.rows)

    def _log(self, title: str, report: Callable[[str], None]) -> Callable[[int, float, int], None]:
        """What one process says in an epoch, given after each batch what it taught."""
        task, unit = self.task, self.task.unit

        def line(nats: float, tokens: int, seconds: float) -> str:
            if self.events:
                self.events(self.optimizer.steps, {"train_loss": nats / tokens, "learning_rate": self.optimizer.lr})
            learned = f"{task.metric} {task.measure(nats / tokens):.3f}, learning rate {self.optimizer.lr:.3g}"
            return f"{learned}, {tokens / max(seconds, 1e-9):,.0f} {unit}s/s"

        log = Log(self.log_every, line)

        def tell(batch: int, nats: float, tokens: int) -> None:
            said = log.told(batch, nats, tokens) if self.world.rank == 0 else ""
            if said:
                with tqdm.external_write_mode(file=sys.stdout):
                    report(f"{title}, batch {batch} of {len(task)}: {said}")

        return tell

    def _epoch(self, bar: tqdm, asked: Callable[[], bool], tell: Callable[[int, float, int], None]) -> bool:
        """The batches that are left of the epoch, saved every now and then, and when it is stopped: is it?

        By whose clock it is saved, and who was asked to stop, all processes learn with the sums of a batch.
        """
        progress, stop = self.progress, self._agreed(asked)
        if progress.batch == 0:
            self.carry = self.task.start(progress.epoch)
        saved = clock = time.monotonic()
        late = lambda: self.world.rank == 0 and time.monotonic() - saved >= self.save_every
        while progress.batch < len(self.task) and not stop:
            nats, tokens = progress.nats, progress.tokens
            due, stop = map(bool, self._batch(progress.batch, late, asked))
            progress.batch += 1
            now = time.monotonic()
            progress.seconds, clock = progress.seconds + now - clock, now
            self._show(bar, progress.nats - nats, progress.tokens - tokens)
            tell(progress.batch, progress.nats - nats, progress.tokens - tokens)
            if due:
                self.save(self.folder.last)
                saved = time.monotonic()
        self._read_losses()
        progress.seconds += time.monotonic() - clock
        if stop:
            self.save(self.folder.last)
        return stop

    def _show(self, bar: tqdm, nats: float, n: int) -> None:
        """What was learned of n more tokens."""
        if n:
            bar.update(n)
            loss = f"loss {nats / n:.3f}, {self.task.metric} {self.task.measure(nats / n):.3f}"
            bar.set_postfix_str(loss, refresh=False)

    def _batch(self, batch: int, *asked: Callable[[], bool]) -> list[float]:
        """One step of the optimiser. Its loss is added up, on a GPU at the next step, which is begun meanwhile.

        asked: what all must know of each after this batch  returns: of how many processes each holds
        """
        world, parameters, optimizer = self.world, self.optimizer.parameters, self.optimizer
        shared = optimizer if isinstance(optimizer, optim.ZeroRedundancyOptimizer) else None
        loss, n, carry, error = Tensor(np.float32(0)), 1, self.carry, None
        rows: Mapping[Parameter, np.ndarray] = {}
        if world.size > 1:  # anew in each step: nothing to save, whatever the number of processes
            random.manual_seed([self.seed, optimizer.steps, world.rank])
            rows = self.task.rows(batch)  # type: ignore[attr-defined]
        parts = getattr(self.task, "parts", 1)
        losses = []
        try:
            for part in range(batch * parts, batch * parts + parts):
                last = part == batch * parts + parts - 1  # in which gradients become complete
                with world.overlapping(parameters, rows) if self.overlap and last else nullcontext():
                    loss, n, carry = self.task.loss(part, carry)
                    losses.append(loss.detach())
                    if loss.requires_grad and (loss.device != "cpu" or math.isfinite(loss.item())):
                        (loss / n).backward()
            loss = sum(losses[1:], losses[0])
        except Exception as caught:
            error = caught
        add_up = shared.all_reduce if shared else partial(world.all_reduce, parameters)
        total, *found = add_up(loss, *(ask() for ask in asked), rows=rows, error=error)
        reading = Reading(total.array)
        self.losses.append((reading, n))
        self._read_losses(leave=0 if reading.at_hand else 1)
        if self.clip:
            clip: Any = shared.clip_grad_norm_ if shared else partial(optim.clip_grad_norm_, parameters)
            clip(self.clip)
        optimizer.step()
        optimizer.zero_grad()
        self.carry = carry
        return found

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
        progress, task, scores = self.progress, self.task, getattr(self.task, "scores", {})
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
            **{f"valid_{name}": score for name, score in scores.items()},
            f"{task.unit}s_per_second": round(speed, 1),
        }
        best = progress.best is None or not valid >= progress.best
        self.progress = Progress(progress.epoch + 1, best=valid if best else progress.best, rows=[*progress.rows, row])
        self.carry = None
        self._tell_plateau()
        row["learning_rate"] = self.optimizer.lr  # of the next step
        self.world.first(lambda: self.folder.write_metrics(self.progress.rows))
        if best:
            self.save(self.folder.best)
        self.save(self.folder.last)
        if self.events and self.world.rank == 0:
            self.events(self.optimizer.steps, {k: v for k, v in row.items() if k not in ("epoch", "steps")})
        more = "".join(f"{name} {score:.3f}, " for name, score in scores.items())
        return (
            f"epoch {progress.epoch + 1}/{epochs}: {task.metric} {task.measure(train):.3f} in training, "
            f"{task.measure(valid):.3f} on held-out data, {more}{speed:,.0f} {task.unit}s/s"
        )


@contextmanager
def evaluating(model: Module) -> Iterator[None]:
    """Meanwhile a model runs without dropout, and nothing is recorded."""
    with in_evaluation(model), no_grad():
        yield


def rows_read(E: Parameter, read: Callable[[], np.ndarray]) -> dict[Parameter, np.ndarray]:
    """For `Task.rows`: an embedding, if it is large, and less than half of its rows are read. read: makes their ids"""
    if E.array.nbytes < WORTH_CHOOSING:
        return {}
    ids = read()
    return {E: ids} if 2 * len(ids) < len(E) else {}


def perplexity(nats: float) -> float:
    """exp of nats per token; finite, also of a model that has diverged."""
    return math.exp(min(nats, 700.0))
