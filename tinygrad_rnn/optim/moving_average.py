"""A moving average of weights, which often does better than the last ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from tinygrad_rnn.autograd.arrays import Array, move, to_numpy
from tinygrad_rnn.autograd.tensor import Parameter
from tinygrad_rnn.optim.optimizers import leaves, several
from tinygrad_rnn.optim.schedules import checked_number


class ExponentialMovingAverage:
    """a ← decay a + (1 - decay) p after each step; a = p at first.

        average = optim.ExponentialMovingAverage(model.parameters(), 0.999)
        optimizer.step()
        average.update()
        with average.applied():
            validate(model)

    parameters: those that are averaged  decay: from 0, the last ones, to less than 1
    Polyak and Juditsky (1992), for the decay Tarvainen and Valpola (2017), arXiv:1703.01780.
    """

    def __init__(self, parameters: Iterable[Parameter], decay: float = 0.999):
        if not 0 <= checked_number(decay, "ExponentialMovingAverage: decay") < 1:
            raise ValueError(f"ExponentialMovingAverage: decay must be from 0 to less than 1, got {decay}")
        who = type(self).__name__
        self.parameters, self.decay = leaves(several(parameters, who), who), decay
        self.averages: list[Array] = [p.array.copy() for p in self.parameters]

    def update(self) -> None:
        """Take the values of now into the averages; call it after each step of the optimiser."""
        self._follow()
        for a, p in zip(self.averages, self.parameters, strict=True):
            a += (p.array - a) * p.dtype.type(1 - self.decay)

    def _follow(self) -> None:
        """Bring averages to the dtype and the device of their parameters, which may have got others."""
        self.averages = [
            move(a.astype(p.dtype, copy=False), p.device) for a, p in zip(self.averages, self.parameters, strict=True)
        ]

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside the block the parameters are their averages."""
        was = [p.array for p in self.parameters]
        self.copy_to_parameters()
        try:
            yield
        finally:
            for p, a in zip(self.parameters, was, strict=True):
                p.array = a

    def copy_to_parameters(self) -> None:
        """The parameters become their averages, for good."""
        self._follow()
        for p, a in zip(self.parameters, self.averages, strict=True):
            p.array = a.copy()

    def state_dict(self) -> dict[str, np.ndarray]:
        """The averages by the number of their parameter, in host memory."""
        return {str(i): to_numpy(a).copy() for i, a in enumerate(self.averages)}

    def load_state_dict(self, values: Mapping[str, np.ndarray]) -> None:
        """Go on where `state_dict` was taken. ValueError if the parameters are others."""
        shapes = {str(i): p.shape for i, p in enumerate(self.parameters)}
        got = {name: np.shape(a) for name, a in values.items()}
        if got != shapes:
            wrong = next(i for i in sorted({*got, *shapes}) if got.get(i) != shapes.get(i))
            raise ValueError(
                f"ExponentialMovingAverage.load_state_dict: {wrong!r} must be {shapes.get(wrong)}, got {got.get(wrong)}"
            )
        self.averages = [
            move(np.array(values[str(i)], p.dtype, order="C"), p.device) for i, p in enumerate(self.parameters)
        ]
