"""A task of one's own: examples of inputs and targets, a loss, and what is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.tensor import Parameter, Tensor
from tinygrad_rnn.nn import Module
from tinygrad_rnn.parallel import World, world
from tinygrad_rnn.tasks.fit import evaluating

Examples = tuple[Any, Any] | Sequence[Any]


def stacked(examples: Sequence[tuple[Any, Any]]) -> tuple[Any, Any]:
    """The inputs of examples in one array, and their targets in another; the examples are along the first axis."""
    xs, ys = zip(*examples, strict=True)
    for what, parts in ("inputs", xs), ("targets", ys):
        shapes = sorted({np.shape(part) for part in parts})
        if len(shapes) > 1:
            raise ValueError(
                f"SupervisedTask: the {what} of a batch must be of one shape, got {shapes[0]} and {shapes[1]}; give "
                "collate=, a function that pads them, as data.padded does"
            )
    return np.stack(xs), np.stack(ys)


class SupervisedTask:
    """Regression, classification, or whatever a loss of outputs and targets says; for a `Trainer`.

        task = SupervisedTask(model, nn.cross_entropy, (xs, ys), (valid_xs, valid_ys), metrics={"accuracy": accuracy})
        Trainer(model, optim.Adam(model.parameters()), task, "runs/mine").fit(10)

    model: called with the inputs of a batch; with several, if they are a tuple
    loss: (outputs, targets) -> the mean over the batch's examples, a tensor without axes
    train, valid: examples to learn from, and held-out ones: a pair of arrays, inputs and targets, with examples along
    the first axis; or a sequence of whatever `collate` takes
    collate: several examples -> (inputs, targets) of a batch; by default pairs of arrays are stacked. Sequences are put
    side by side and padded here
    metrics: by name, (outputs, targets) -> a number, the mean over the batch's examples; they are computed on held-out
    examples and stand in metrics.csv as valid_…
    seed: of the order, which is another one in each epoch  batch_size: of all processes together

    ValueError if there are no examples.
    """

    unit, metric = "example", "loss"

    def __init__(
        self, model: Module, loss: Callable[[Any, Any], Tensor], train: Examples, valid: Examples, *,
        batch_size: int = 32, collate: Callable[[Sequence[Any]], tuple[Any, Any]] = stacked,
        metrics: Mapping[str, Callable[[Any, Any], Any]] | None = None, seed: int = 0, processes: World | None = None,
    ):  # fmt: skip
        self.model, self._loss, self.collate, self.metrics = model, loss, collate, dict(metrics or {})
        self.train, self.valid = (_examples(part, name) for part, name in ((train, "train"), (valid, "valid")))
        if "loss" in self.metrics:
            raise ValueError("SupervisedTask: metrics must have other names than 'loss', which is that of the loss")
        if batch_size < 1:
            raise ValueError(f"SupervisedTask: batch_size must be at least 1, got {batch_size}")
        self.batch_size, self.seed, self.world = batch_size, seed, processes or world()
        self.order = np.arange(len(self.train))
        self.scores: dict[str, float] = {}

    def __len__(self) -> int:
        return -(-len(self.train) // self.batch_size)

    def tokens(self) -> int:
        """The number of examples in an epoch."""
        return len(self.train)

    def start(self, epoch: int) -> None:
        """Put the examples into the order of an epoch."""
        self.order = np.random.default_rng([self.seed, epoch]).permutation(len(self.train))

    def loss(self, batch: int, carry: Any) -> tuple[Tensor, int, None]:
        """The loss of this process's part of a batch, times its number of examples; that of the whole batch."""
        whole = self.order[batch * self.batch_size : (batch + 1) * self.batch_size]
        mine = [self.train[int(i)] for i in whole[self.world.rank :: self.world.size]]
        if not mine:  # the last batch may have fewer examples than there are processes
            like = next(iter(self.model.parameters()))
            return Tensor(np.zeros((), like.dtype)), len(whole), None
        outputs, targets = self._outputs(mine)
        return self._mean("loss", self._loss(outputs, targets)) * len(mine), len(whole), None

    def _mean(self, name: str, x: Any) -> Any:
        """What a loss or a metric returned; ValueError if it is no number."""
        if np.shape(x):
            raise ValueError(
                f"SupervisedTask: {name} must return the mean over the examples, without axes, got shape {np.shape(x)}"
            )
        return x

    def _outputs(self, examples: Sequence[Any]) -> tuple[Any, Any]:
        inputs, targets = self.collate(examples)
        return self.model(*inputs) if isinstance(inputs, tuple) else self.model(inputs), targets

    def rows(self, batch: int) -> Mapping[Parameter, np.ndarray]:
        """All rows of all parameters are read."""
        return {}

    def validate(self) -> float:
        """The mean loss over held-out examples; the means of what else is measured are in `scores` then."""
        sums = np.zeros(1 + len(self.metrics))
        mine = range(self.world.rank, len(self.valid), self.world.size)
        with evaluating(self.model):
            for at in range(0, len(mine), self.batch_size):
                some = [self.valid[i] for i in mine[at : at + self.batch_size]]
                outputs, targets = self._outputs(some)
                measures = {"loss": self._loss, **self.metrics}
                found = [self._mean(name, f(outputs, targets)) for name, f in measures.items()]
                sums += len(some) * np.array([float(getattr(x, "numpy", partial(np.asarray, x))()) for x in found])
        loss, *scores = (x / len(self.valid) for x in self.world.total(*sums.tolist()))
        self.scores = dict(zip(self.metrics, scores, strict=True))
        return loss

    def measure(self, nats: float) -> float:
        """The loss as it is."""
        return nats


def _examples(given: Examples, name: str) -> Sequence[Any]:
    """As a sequence of examples."""
    several = isinstance(given, tuple) and all(hasattr(part, "shape") for part in given)
    arrays = several and len(given) == 2
    if several > arrays or (isinstance(given, tuple) and any(isinstance(part, list) for part in given)):
        kinds = ", ".join(type(part).__name__ for part in given)
        raise ValueError(f"SupervisedTask: {name} must be a pair of arrays or a list of examples, got ({kinds})")
    if arrays and len(given[0]) != len(given[1]):
        raise ValueError(
            f"SupervisedTask: {name} must have a target for each input, got {len(given[0])} inputs and {len(given[1])} "
            "targets"
        )
    found: Sequence[Any] = list(zip(*given, strict=True)) if arrays else given
    if not len(found):
        raise ValueError(f"SupervisedTask: {name} must have examples, it has none")
    return found
