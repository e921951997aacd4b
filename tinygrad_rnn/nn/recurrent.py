"""Recurrent: runs any cell over time."""

from __future__ import annotations

import warnings

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from weakref import WeakSet

import numpy as np

from tinygrad_rnn.autograd import arrays, nest, random
from tinygrad_rnn.autograd.arrays import xp
from tinygrad_rnn.autograd.gradients import no_grad
from tinygrad_rnn.autograd.graph import Constant, FirstState, Shown, Step, StepBack, context, scope
from tinygrad_rnn.autograd.tensor import Tensor, tensor
from tinygrad_rnn.compiler import engines
from tinygrad_rnn.compiler.ir.value import Unsupported
from tinygrad_rnn.compiler.runtime.plan import Plan
from tinygrad_rnn.compiler.runtime.programs import NoEngine
from tinygrad_rnn.nn.cells import Cell
from tinygrad_rnn.nn.entrance import Entrance, is_plain, levels_inside
from tinygrad_rnn.nn.layer_by_layer import LayerByLayer
from tinygrad_rnn.nn.lengths import mask_of_lengths, mask_there
from tinygrad_rnn.nn.module import Module
from tinygrad_rnn.nn.recording import RunOptions
from tinygrad_rnn.nn.recordings import Recordings
from tinygrad_rnn.nn.several import Form, form_of
from tinygrad_rnn.nn.state_hooks import Hook, StateGradients, copied_if_shared, followed
from tinygrad_rnn.nn.variable_names import unwatched
from tinygrad_rnn.ops import stack, unbind, where

_told: WeakSet[type] = WeakSet()  # the classes of cells that a slower way was told of
LEAST_COMPILED_STEPS = 4  # for fewer the engine "auto" runs step by step: recording would cost more than it saves


class Recurrent(Module):
    """A cell unrolled over the first axis.

        for t in range(T): ys[t], state = cell(xs[t], state)

    xs: (T, B, …), a tensor or whatever `tensor` takes: (T, B, I), of images (T, B, C, H, W), of numbers or ids (T, B)
    state: as the cell's; None for its initial state
    Several inputs come as a tuple or a dict of tensors (T, B, …) of one dtype; the cell's x is such a nest of (B, …)
    then. A list is one input, step by step. The engine "llvm" takes parts (T, B) and (T, B, I)
    lengths: (B,) integers from 0 to T, any order
    returns: ys (T, B, H), and the state after the last step; with all_states=True the state after each step, built
    alike, with leaves (T, B, ...). Where the cell returns a nest of tensors as y, ys is one with leaves (T, B, ...)

    With lengths, ys is 0 from each sequence's end on, and the state is each sequence's own last one; what xs holds
    behind an end changes nothing.

    Floating-point xs (and a given state) of another dtype than the cell's parameters become theirs, with one warning;
    their gradients are in the dtype that came. Parameters of several dtypes, or none, change nothing. Integers and
    booleans are for the cell to read, as ids for example; RNNCell, LSTMCell and the like take them as numbers.

    A state keeps its structure, and each leaf its shape; the first step may make more of it: an initial (1, H) or a
    number is repeated, and it takes the precision that the step gives it. Each step gets containers of its own, into
    which it may write. Without lengths and all_states a state may also grow, as a memory by a row a step; it then runs
    step by step, as one does that holds Python numbers. With lengths such a number must not change.

    engine: "eager" runs the cell step by step; each step is a scope in the graph, numbered from 0. The others record
    one step and compile it, forward and backward, and the layer is one node in the graph: "numpy" and "llvm" (with the
    extra "fast", which names the engine too) on the CPU, "cuda" on a GPU, "compiled" (the fastest of those at hand that
    can run the step), "auto" (that one, or "eager" where a step cannot be compiled). An engine asked for by its name
    that cannot run a step says why, and names the line of the cell; "auto" warns, once for each class of cells, if it
    takes a slower way. `plan` tells which, and why.
    checkpoint_every: keep the state of every k-th step only, and compute the rest again for the backward pass: memory
    for T / k states and k steps. Compiled engines only.
    reverse: from the last step to the first, so that ys[t] tells of xs[t], xs[t + 1], …; the last state is then the one
    after step 0. Each sequence starts at its own end.

    A compiled step is recorded anew when something changes that the cell's code can reach: the attributes of its
    modules and of the objects in them; what its functions name in their modules (`ALPHA`, `config.ALPHA`), in classes,
    in outer functions and in default arguments; and so on through the functions, methods and properties that they
    call, other than those of this library, of Python and of installed packages. Tensors are not what it is recorded
    for: each call reads those that are there by then. A step that sets anything but its state, draws random numbers
    by itself (not by ops.uniform or nn.Dropout), makes a generator, or reads an iterator, a clock, a file, what
    functools caches or a tensor's bare array, is not recorded; nothing that recording it has moved stays moved.

    TypeError if a compiled step reads a value (`if tensor`, `.item()`), which would be recorded once and for all.
    """

    def __init__(self, cell: Cell, *, engine: str = "auto", checkpoint_every: int | None = None, reverse: bool = False):
        if not isinstance(cell, Cell):
            raise TypeError(f"Recurrent: cell must be an nn.Cell, got {type(cell).__name__}")
        engine = engines.named(engine)
        if checkpoint_every is not None and (checkpoint_every < 1 or engine == "eager"):
            raise ValueError(
                "Recurrent: checkpoint_every must be a positive number of steps, and the engine a compiled one, got "
                f"{checkpoint_every} and {engine!r}"
            )
        self.cell, self.engine, self.checkpoint_every, self.reverse = cell, engine, checkpoint_every, reverse
        self._recordings, self._entrance = Recordings(), Entrance("Recurrent")
        self._hooks: tuple[Hook, ...] = ()
        self._layers = LayerByLayer()

    def forward(self, xs: Any, state: Any = None, lengths: Any = None, *, all_states: bool = False) -> tuple[Any, Any]:
        if context.early and not self._hooks and self._layers.can_run(self.cell):
            options: Any = {"checkpoint_every": self.checkpoint_every, "reverse": self.reverse}
            make = partial(Recurrent, engine=self.engine, **options)
            return self._layers.run(self, make, xs, state, lengths, all_states)
        xs, state = self._entrance(self.cell, xs, state)
        T, B = xs.shape[:2]
        form = form_of(xs)
        alive = mask_of_lengths(lengths, T, B, self._entrance.who)
        there = None if alive is None else mask_there(lengths, T)
        device = xs.device
        if not self._why_eager(xs, device):
            try:
                options = self._run_options(device, all_states, form)
                return unwatched(self._recordings, self.cell, options, xs, state, alive, there)
            except Unsupported as reason:
                self._refuse(reason)
                self._tell(f"step by step, because it cannot be compiled: {reason}")
        if not len(xs):
            return self._empty_results(xs, state, all_states, form)
        ys, states = unwatched(self._eager, xs, state, alive, None, all_states, there, form)
        new = nest.map_leaves(_over_time, *states) if all_states else states[0 if self.reverse else -1]
        return nest.map_leaves(_plain, ys), nest.map_leaves(_plain, new)

    def call_it(self, who: str) -> None:
        """Have error messages and warnings call the layer so: the class that its user knows."""
        self._entrance.who = who

    def taken(self, xs: Any) -> Tensor:
        """xs as a tensor in the cell's dtype, checked."""
        return self._entrance.sequence(self.cell, xs)

    def register_state_hook(self, hook: Hook) -> Callable[[], None]:
        """Show hook the gradients ∂L/∂sₜ of the state after each step, in each backward pass through a later call.

        They come as a nest built like the state, with leaves (T, B, ...): all ways from the state to the loss count, by
        yₜ and by the later steps. Behind a sequence's end they are 0. Returns a function that removes the hook.
        """
        shown = (lambda grads: hook(nest.map_leaves(lambda g: g.flip(0), grads))) if self.reverse else hook
        self._hooks = (*self._hooks, shown)

        def remove() -> None:
            self._hooks = tuple([h for h in self._hooks if h is not shown])

        return remove

    def _run_options(self, device: str, all_states: bool = False, form: Form | None = None) -> RunOptions:
        engine, step = engines.find(self.engine, device), partial(self._masked_step, strict=all_states, form=form)
        eager, every, hooks = partial(self._eager, form=form), self.checkpoint_every, self._hooks
        return RunOptions(step, eager, engine, every, all_states, hooks, self.reverse, self._tell, device, form)

    def _refuse(self, reason: Unsupported) -> None:
        """ValueError if the step cannot be compiled but must be."""
        who, cell = self._entrance.who, type(self.cell).__name__
        if isinstance(reason, NoEngine):
            raise ValueError(f'{who}: "{self.engine}" cannot run {cell}: {reason}; use engine="auto"') from None
        if self.engine != "auto":
            raise ValueError(f'{who}: {cell} cannot be compiled: {reason}; use engine="eager"') from None

    def _tell(self, how: str) -> None:
        """A warning, once for each class of cells, that the engine "auto" takes a slower way."""
        kind = type(self.cell)
        if self.engine == "auto" and kind not in _told:
            _told.add(kind)
            warnings.warn(
                f"{self._entrance.who}: {kind.__name__} runs slower than it might, {how}; engines asked for by name do "
                "not warn",
                stacklevel=levels_inside(),
            )

    def plan(self, xs: Any, state: Any = None, lengths: Any = None) -> Plan:
        """How a call with these arguments would run: by which engine, and why not by a faster one; what is done at each
        step and what once for all; the memory that it takes. Print it. Nothing is run, and no random number is drawn.
        """
        with random.untouched():
            xs, state = self._entrance(self.cell, xs, state)
        T, B = xs.shape[:2]
        title = f"{type(self.cell).__name__}, {T} step{'s' * (T != 1)} of x {xs.shape[1:]}: engine "
        why = self._why_eager(xs, xs.device)
        if not why:
            try:
                masked = mask_of_lengths(lengths, T, B, self._entrance.who) is not None
                options = self._run_options(xs.device, form=form_of(xs))
                step, lines, nbytes, source = self._recordings.plan(self.cell, options, xs, state, masked)
                name = step.engine.name
                reason = engines.why(self.engine, name, step.slower)
                text = "\n".join([title + repr(name), *reason, *lines])
                return Plan(name, nbytes, step.circuit, text, source)
            except Unsupported as reason:
                self._refuse(reason)
                why = str(reason)
        return Plan("eager", 0, None, f"{title}'eager'\n  {why}")

    def _why_eager(self, xs: Tensor, device: str) -> str:
        """Why a call runs step by step, or nothing."""
        if self.engine == "eager":
            return 'engine="eager"'
        if context.trace is not None or context.random_numbers is not None:
            return "it is a part of a step that is recorded or repeated itself"
        if 0 in xs.shape:
            return "there is nothing to run" if 0 in xs.shape[:2] else "x has no features"
        if not engines.find(self.engine, device):
            return engines.elsewhere(self.engine)
        if self.engine == "auto" and self.checkpoint_every is None and len(xs) < LEAST_COMPILED_STEPS:
            return f"for {len(xs)} steps recording would cost more than it saves"
        return ""

    def _eager(
        self, xs: Tensor, state: Any, alive: np.ndarray | None, steps: Sequence[int] | None = None,
        strict: bool = False, there: Any = None, form: Form | None = None,
    ) -> tuple[Any, list[Any]]:  # fmt: skip
        """Step by step: ys, and the state after each step, both in the order of xs. steps: those to run, numbered from
        the first one that runs, for a drawing that leaves others out  strict: must the state keep its shapes?
        there: `alive` where xs is, if it is there already  form: of several inputs"""
        masks: Any = None
        if alive is not None:
            # As a tensor it is kept for the backward pass without a copy at each step.
            masks = Tensor(arrays.move(alive, xs.device) if there is None else there)
            # What stands behind an end may be NaN: 0 times that would be too.
            xs = where(masks.reshape((*masks.shape, *(1,) * (xs.ndim - 2))), xs, 0)
            masks = unbind(masks)
        ys: list[Any] = []
        states: list[Any] = []
        watch = StateGradients(self._hooks) if self._hooks and context.recording else None
        state = state if watch is None else followed(state)
        wanted = None if steps is None else {0, *steps}
        if context.recording and context.trace is None:
            state = nest.map_leaves(_shown, state)
        parts, way, kind = unbind(xs), -1 if self.reverse else 1, StepBack if self.reverse else Step
        for number, t in enumerate(range(len(xs))[::way]):
            if wanted is not None and number not in wanted:
                ys.append(ys[-1])
                states.append(state)
                continue
            x = parts[t]
            with scope(kind(number)):
                y, new = self._step(x, state, not states, strict, alive is not None, form)
                if watch is not None:
                    new = copied_if_shared(new, (x, state))
                    watch.add(new)
                if alive is not None and not alive[t].all():
                    y, new = self._masked(masks[t], y, new, state)
            state = new
            ys.append(y)
            states.append(state)
        return self._stacked(ys[::way]), states[::way]

    def _step(
        self, x: Tensor, state: Any, first: bool = True, strict: bool = False, ragged: bool = False,
        form: Form | None = None,
    ) -> tuple[Any, Any]:  # fmt: skip
        """y and the new state, each in containers of its own. first: is it the first step of a sequence?  strict: must
        the state keep its structure and shapes?  ragged: do sequences have lengths of their own?  form: of several
        inputs"""
        given = x if form is None else form.apart(x)
        result = self.cell(given, state if is_plain(state) else nest.copied(state))
        who = type(self.cell).__name__
        if not (isinstance(result, tuple) and len(result) == 2):
            raise TypeError(f"{who}: forward(x, state) must return (y, state), got {nest.describe(result)}")
        y, new = result
        if not (isinstance(y, Tensor) and y.shape[:1] == x.shape[:1]):
            y = _checked(who, y, x)
        if not ragged and _is_steady(new, state):
            return y, new
        rows = len(x) if ragged else None
        return y, nest.checked(who, new, state, first=first, strict=strict or ragged, rows=rows)

    def _stacked(self, ys: list[Any]) -> Any:
        """What the steps returned, over time."""
        if isinstance(ys[0], Tensor):
            return stack(ys)
        return nest.map_leaves(lambda *each: stack(each), *ys)

    def _masked_step(
        self, x: Tensor, state: Any, alive: Any = None, *, strict: bool = False, form: Form | None = None
    ) -> tuple[Any, Any]:
        """A step in which some sequences may have ended. alive: (B,) of bool, or None"""
        x = x if alive is None else _where(alive, x, 0)
        y, new = self._step(x, state, True, strict, alive is not None, form)
        if self._hooks:
            new = copied_if_shared(new, (x, state))
            context.trace.watch(nest.leaves(new))
        return (y, new) if alive is None else self._masked(alive, y, new, state)

    @staticmethod
    def _masked(alive: Any, y: Any, new: Any, old: Any) -> tuple[Any, Any]:
        """What a step makes of the sequences that go on, and 0 and the old state for those that have ended."""
        return nest.map_leaves(lambda y: _where(alive, y, False if y.dtype == bool else 0), y), nest.map_leaves(
            partial(_where, alive), new, old
        )

    def _empty_results(self, xs: Tensor, state: Any, all_states: bool, form: Form | None) -> tuple[Any, Any]:
        """The results of no steps: a step on zeros tells their sizes."""
        with no_grad():
            y, new = self._step(Tensor(xp(xs.array).zeros(xs.shape[1:], xs.dtype)), state, form=form)
        none = lambda s: Tensor(xp(s.array).zeros((0, *s.shape), s.dtype)) if isinstance(s, Tensor) else s
        return nest.map_leaves(none, y), nest.map_leaves(none, new) if all_states else state


def _is_steady(new: Any, old: Any) -> bool:
    """Is a state one of tensors in tuples, of the shapes that it had? Then there is nothing to check, nor to copy."""
    if isinstance(new, Tensor):
        return isinstance(old, Tensor) and new.shape == old.shape
    if type(new) is not type(old) or not isinstance(new, tuple) or len(new) != len(old):
        return False
    for a, b in zip(new, old, strict=True):
        quick = type(a) is Tensor and type(b) is Tensor and a.array.shape == b.array.shape
        if not quick and not _is_steady(a, b):
            return False
    return True


def _shown(s: Any) -> Any:
    """An initial state, such that what is computed from it alone is recorded too, for drawings."""
    if not isinstance(s, Tensor) or not (s.node is None or type(s.node) is Constant):
        return s
    return Tensor(s.array, FirstState(s.shape, s.dtype, s.name))


def _plain(s: Any) -> Any:
    """The same outside of the layer: what no gradient flows to has no graph."""
    known = context.trace is None and isinstance(s, Tensor)
    return s.detach() if known and isinstance(s.node, (FirstState, Shown)) else s


def _checked(who: str, y: Any, x: Tensor) -> Any:
    """y in containers of its own, if it holds tensors (B, ...)."""
    found = nest.leaves(y)
    if not found or not all(isinstance(leaf, Tensor) for leaf in found):
        raise TypeError(f"{who}: y must be a tensor, or a nest of tensors, got {nest.describe(y)}")
    for leaf in found:
        if leaf.shape[:1] != x.shape[:1]:
            raise ValueError(
                f"{who}: y must be (B, …) for the B = {len(x)} sequences of x, got {leaf.shape}; has the state this B?"
            )
    return nest.copied(y)


def _over_time(*each: Any) -> Any:
    """One leaf of the states after all steps: (T, ...); numbers as a tensor, what is the same at each step as it is."""
    if isinstance(each[0], Tensor):
        return stack(each)
    return tensor(each) if isinstance(each[0], (int, float, np.ndarray)) else each[-1]


def _where(mask: Any, new: Any, old: Any) -> Any:
    """new (B, ...) for the sequences that go on, old for those that have ended. mask: (B,)"""
    if not hasattr(new, "shape"):  # a number, the same as before
        return new
    if new is old:
        return new.detach() if isinstance(new, Tensor) and not (context.recording or context.trace is not None) else new
    if new.shape[:1] != mask.shape:  # none of its rows is a sequence's: it is what it was, shown to a hook
        return new
    return where(mask.reshape(-1, *(1,) * (new.ndim - 1)), new, old)
