"""Optimisers: how parameters follow from their gradients, step by step.

Letters: p a parameter, g its gradient, η the learning rate. `lr` is a number or a schedule: a function from the number
of steps made so far to η. Parameters without a gradient stay as they are.
"""

from __future__ import annotations

import copy
import functools
import math

from collections.abc import Iterable, Mapping
from types import CodeType
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.arrays import Array, move, to_numpy, xp
from tinygrad_rnn.autograd.tensor import Parameter, Tensor
from tinygrad_rnn.compiler import engines
from tinygrad_rnn.ops.formulas import FUNCTIONS
from tinygrad_rnn.optim import kernels, one_pass
from tinygrad_rnn.optim.schedules import Schedule, checked_number


class Optimizer:
    """What all optimisers share: the parameters, the learning rate, the number of steps made, and arrays of state.

    A parameter without a gradient sits a step out: `steps` counts all of them, `counts` those that each has made.

    Parameters come as they are, or in groups, dicts of "params" and of what is otherwise for these, as PyTorch has it:

        optim.AdamW([{"params": matrices}, {"params": biases, "weight_decay": 0, "lr": schedule}], lr=1e-3)

    A subclass says how p follows from g, in one of two ways:

    formula    lines of maths, on p, g, the arrays of state named in `memory` (0 at first) and what `numbers(lr)`
               returns by name; beside the compiled engine "llvm" they are one pass over all parameters, and on a GPU
               one kernel for each. In `numbers`, `t` is how many steps the parameters in question have made, the one
               under way included
    update     a method `update(p, g, state, lr)`: it returns the new values of a parameter, and may change `state`, a
               dict of arrays that starts empty

    What else it is given by name it hands on to `Optimizer.__init__`, which makes attributes of it that a group may
    have otherwise; `check` says what must hold of them.
    """

    formula: Any = ""
    memory: Any = ()
    t = 0

    def __init__(self, parameters: Iterable[Any], lr: float | Schedule, **options: Any):
        who = type(self).__name__
        self.__dict__.update(options)
        found, self.groups = self._grouped(several(parameters, who), ["lr", *options])
        self.parameters = leaves([p for p, _ in found.values()], who)  # one that comes twice is updated once
        self.group_of = [group for _, group in found.values()]
        self._lr = lr
        self.steps = 0
        self.counts = [0] * len(self.parameters)
        self.states: list[dict[str, Array]] = [{} for _ in self.parameters]
        self._addresses: dict[int, one_pass.Addresses] = {}  # by the parameters' ids
        for number in range(len(self.groups)):
            self.in_group(number).check()

    def _grouped(
        self, given: list[Any], known: list[str]
    ) -> tuple[dict[int, tuple[Parameter, int]], list[dict[str, Any]]]:
        """By id, each parameter and the number of its group; for each group what is otherwise for it, by name."""
        who, groups = type(self).__name__, [dict[str, Any]()]
        found: dict[int, tuple[Parameter, int]] = {}
        for one in given:
            number, of = 0, [one]
            if isinstance(one, Mapping):
                options = dict(one)
                if "params" not in options:
                    raise ValueError(f'{who}: a group must be a dict with "params", got one of {sorted(options)}')
                of = options.pop("params")
                of = [of] if isinstance(of, Tensor) else list(of)
                if unknown := options.keys() - known:
                    raise ValueError(f"{who}: a group may have {', '.join(known)}, got {sorted(unknown)[0]!r}")
                number = len(groups)
                groups.append(options)
            for p in of:
                if found.setdefault(id(p), (p, number))[1] != number:
                    raise ValueError(f"{who}: a parameter must be in one group, one of shape {np.shape(p)} is in two")
        return found, groups

    def in_group(self, number: int) -> Optimizer:
        """This optimiser with what is otherwise for a group; the states are the same."""
        options = self.groups[number]
        if not options:
            return self
        other = copy.copy(self)
        other.__dict__.update({"_lr" if name == "lr" else name: value for name, value in options.items()})
        other._addresses = self._addresses  # a copy has none
        return other

    @property
    def lr(self) -> float:
        """The learning rate of the next step, but of groups that have one of their own."""
        return float(self._lr(self.steps) if callable(self._lr) else self._lr)

    @lr.setter
    def lr(self, lr: float | Schedule) -> None:
        if not callable(lr):
            self._check(lr=lr)
        self._lr = lr

    def check(self) -> None:
        """ValueError if a number is none that it can have; asked of each group."""
        if not callable(self._lr):
            self._check(lr=self._lr)

    def _check(self, below: float = math.inf, **numbers: float) -> None:
        """Numbers by name must be from 0 to less than `below`."""
        for name, value in numbers.items():
            if not 0 <= checked_number(value, f"{type(self).__name__}: {name}") < below:
                end = "at least 0" if below == math.inf else f"from 0 to less than {below:g}"
                raise ValueError(f"{type(self).__name__}: {name} must be {end}, got {value}")

    def step(self) -> None:
        """Update every parameter that has a gradient; call it after the backward pass, and `zero_grad` after it."""
        found = self._by_group()
        groups = {group: self.in_group(group) for group, _ in found}
        rates = {group: of.lr for group, of in groups.items()}
        self.steps += 1
        for (group, t), pairs in found.items():
            of, lr = groups[group], rates[group]
            of.t, of.steps = t, self.steps
            for parameter, state in of._in_one_pass(pairs, lr):
                new = of.update(parameter.array, parameter.grad.array, state, lr)
                parameter.array = xp(parameter.array).asarray(new, dtype=parameter.dtype)

    def _by_group(self) -> dict[tuple[int, int], list[tuple]]:
        """The parameters that make this step and their states, by the number of their group and by how many steps each
        has made with this one; it is counted."""
        found: dict[tuple[int, int], list[tuple]] = {}
        for i, pair in enumerate(zip(self.parameters, self.states, strict=True)):
            if pair[0].grad is not None:
                self.counts[i] += 1
                found.setdefault((self.group_of[i], self.counts[i]), []).append(pair)
        return found

    def _in_one_pass(self, pairs: list[tuple], lr: float) -> list[tuple]:
        """Update by machine code what it can; returns the rest: all of them if the formula is not all there is."""
        formula = self.formula
        if not formula or type(self).update is not Optimizer.update:
            return pairs
        numbers = self.numbers(lr)
        if engines.has_formula(formula):
            pairs = one_pass.update(formula, self.memory, numbers, pairs, self._addresses)
        return kernels.update(formula, self.memory, numbers, pairs)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_addresses": {}}  # a copy has arrays elsewhere

    def numbers(self, lr: float) -> dict[str, float]:
        """The numbers in the formula, for the step under way."""
        return {"lr": lr}

    def update(self, p: Array, g: Array, state: dict[str, Array], lr: float) -> Array:
        """The new values of p: an array of its own, p itself stays as it is."""
        if not self.formula:
            raise NotImplementedError(f"{type(self).__name__}: must have a formula, or define update(p, g, state, lr)")
        names = {**FUNCTIONS, **self.numbers(lr), **{k: state.get(k, 0.0) for k in self.memory}, "p": p, "g": g}
        exec(_compiled(self.formula), names)
        state.update({k: names[k] for k in self.memory})
        return names["p"]

    def zero_grad(self) -> None:
        """Set the gradient of every parameter to None, so that the next backward pass begins anew."""
        for parameter in self.parameters:
            parameter.grad = None

    def state_dict(self) -> dict[str, np.ndarray]:
        """The number of steps ("steps"), of those of each parameter ("counts"), and the state arrays ("0.m": of
        parameter 0), in host memory."""
        arrays = {f"{i}.{k}": to_numpy(a) for i, s in enumerate(self.states) for k, a in s.items()}
        counts = np.array(self.counts, np.int64)
        return {"steps": np.array(self.steps), "counts": counts, **{k: a.copy() for k, a in arrays.items()}}

    def load_state_dict(self, values: Mapping[str, np.ndarray]) -> None:
        """Go on where `state_dict` was taken, with the same parameters.

        One of an older version has no counts: then each parameter that has a state is taken to have made all steps.
        """
        who = f"{type(self).__name__}.load_state_dict"
        if not (isinstance(values, Mapping) and "steps" in values):
            raise ValueError(f"{who}: values must be what state_dict returns, got {type(values).__name__}")
        states: list[dict[str, Array]] = [{} for _ in self.parameters]
        for key, value in values.items():
            if key in ("steps", "counts"):
                continue
            number, _, name = key.partition(".")
            if not number.isdecimal() or int(number) >= len(states):
                raise ValueError(f"{who}: no parameter for {key!r}, there are {len(states)}")
            parameter = self.parameters[int(number)]
            if value.shape != parameter.shape:
                raise ValueError(f"{who}: {key} must have shape {parameter.shape}, got {value.shape}")
            states[int(number)][name] = move(np.array(value, parameter.dtype, order="C"), parameter.device)
        steps = int(values["steps"])
        counts = values.get("counts", [steps if state else 0 for state in states])
        if len(counts) != len(states):
            raise ValueError(f"{who}: counts must be of {len(states)} parameters, got {len(counts)}")
        for state, n, group in zip(states, counts, self.group_of, strict=True):
            memory = self.in_group(group).memory
            if n and self.formula and state.keys() != set(memory):  # of another kind of optimiser
                raise ValueError(
                    f"{who}: the state must be {list(memory)}, got {sorted(state)}: that of another optimiser"
                )
        self.steps, self.counts, self.states = steps, [int(n) for n in counts], states


@functools.lru_cache(64)
def _compiled(formula: str) -> CodeType:
    return compile(formula, "formula", "exec")


def several(parameters: Any, who: str) -> list[Any]:
    """Parameters, or groups of them, as a list; TypeError for one alone."""
    if isinstance(parameters, Tensor) or not isinstance(parameters, Iterable):
        got = type(parameters).__name__
        raise TypeError(f"{who}: must get several parameters, such as model.parameters(), got a {got}")
    return list(parameters)


def leaves(parameters: list[Any], who: str) -> list[Parameter]:
    """The parameters; an error unless they are leaf tensors, and there are some."""
    if not parameters:
        raise ValueError(f"{who}: there must be at least one parameter, got none")
    for p in parameters:
        if not (isinstance(p, Tensor) and p.is_leaf):
            got = "a tensor that was computed" if isinstance(p, Tensor) else type(p).__name__
            raise TypeError(f"{who}: parameters must be leaf tensors, such as model.parameters(), got {got}")
    return parameters


class SGD(Optimizer):
    """Stochastic gradient descent.

        g ← g + weight_decay p
        v ← momentum v + g            (v = g at the first step)
        p ← p - η v                   with nesterov: p ← p - η (g + momentum v)

    Sutskever et al. (2013); the form is PyTorch's.
    """

    momentum: float
    nesterov: bool
    weight_decay: float

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float | Schedule,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ):
        super().__init__(parameters, lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)

    def check(self) -> None:
        super().check()
        self._check(momentum=self.momentum, weight_decay=self.weight_decay)
        if self.nesterov and not self.momentum > 0:
            raise ValueError("SGD: nesterov needs a momentum greater than 0")

    @property
    def memory(self) -> tuple[str, ...]:
        return ("v",) if self.momentum else ()

    @property
    def formula(self) -> str:
        lines = ["g = g + weight_decay * p"] if self.weight_decay else []
        lines += ["v = momentum * v + g"] if self.momentum else []
        step = "g" if not self.momentum else "(g + momentum * v)" if self.nesterov else "v"
        return "\n".join([*lines, f"p = p - lr * {step}"])

    def numbers(self, lr: float) -> dict[str, float]:
        return {"lr": lr, "momentum": self.momentum, "weight_decay": self.weight_decay}


class RMSprop(Optimizer):
    """Steps divided by a running root mean square of the gradient.

        s ← α s + (1 - α) g²
        p ← p - η g / (√s + eps)      with momentum: v ← momentum v + g / (√s + eps); p ← p - η v

    Hinton (2012), lecture 6e of "Neural networks for machine learning".
    """

    alpha: float
    eps: float
    momentum: float

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float | Schedule = 1e-2,
        *,
        alpha: float = 0.99,
        eps: float = 1e-8,
        momentum: float = 0.0,
    ):
        super().__init__(parameters, lr, alpha=alpha, eps=eps, momentum=momentum)

    def check(self) -> None:
        super().check()
        self._check(eps=self.eps, momentum=self.momentum)
        self._check(1, alpha=self.alpha)

    @property
    def memory(self) -> tuple[str, ...]:
        return ("s", "v") if self.momentum else ("s",)

    @property
    def formula(self) -> str:
        lines = ["s = alpha * s + (1 - alpha) * g * g", "g = g / (sqrt(s) + eps)"]
        lines += ["v = momentum * v + g", "p = p - lr * v"] if self.momentum else ["p = p - lr * g"]
        return "\n".join(lines)

    def numbers(self, lr: float) -> dict[str, float]:
        return {"lr": lr, "alpha": self.alpha, "eps": self.eps, "momentum": self.momentum}


class Adam(Optimizer):
    """Adaptive moments. Kingma and Ba (2015), arXiv:1412.6980.

    m ← β₁ m + (1 - β₁) g         s ← β₂ s + (1 - β₂) g²
    p ← p - η (m / (1 - β₁ᵗ)) / (√(s / (1 - β₂ᵗ)) + eps)      at the parameter's step t = 1, 2, …
    """

    betas: tuple[float, float]
    eps: float
    memory = ("m", "s")
    formula = """
m = beta1 * m + (1 - beta1) * g
s = beta2 * s + (1 - beta2) * g * g
p = p - rate * m / (scale * sqrt(s) + eps)
"""

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float | Schedule = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ):
        super().__init__(parameters, lr, betas=betas, eps=eps)

    def check(self) -> None:
        super().check()
        self._check(eps=self.eps)
        if not (isinstance(self.betas, (tuple, list)) and len(self.betas) == 2):
            raise TypeError(f"{type(self).__name__}: betas must be a pair of numbers, got {self.betas!r}")
        beta1, beta2 = self.betas
        self._check(1, beta1=beta1, beta2=beta2)

    def numbers(self, lr: float) -> dict[str, float]:
        beta1, beta2 = self.betas
        rate, scale = lr / (1 - beta1**self.t), 1 / math.sqrt(1 - beta2**self.t)
        return {"beta1": beta1, "beta2": beta2, "eps": self.eps, "rate": rate, "scale": scale}


class AdamW(Adam):
    """Adam with decay of the weights apart from the gradient: p ← (1 - η weight_decay) p, then Adam's step.

    Loshchilov and Hutter (2019), arXiv:1711.05101.
    """

    weight_decay: float
    formula = "p = p - decay * p\n" + Adam.formula

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float | Schedule = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ):
        Optimizer.__init__(self, parameters, lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def check(self) -> None:
        super().check()
        self._check(weight_decay=self.weight_decay)

    def numbers(self, lr: float) -> dict[str, float]:
        return {**super().numbers(lr), "decay": lr * self.weight_decay}
