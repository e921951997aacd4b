"""What a library computes between kernels: products of rows with a matrix, sums over time, and all that no kernel is
written for, by its own function.
"""

from __future__ import annotations

import functools
import math

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tinygrad_rnn.autograd.arrays import Array, full, xp
from tinygrad_rnn.compiler.cuda.graphs import Fixed
from tinygrad_rnn.compiler.cuda.products import Matrix, matrix, multiply, product, rows, rows_of
from tinygrad_rnn.compiler.ir.infer import stand_in
from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.compiler.runtime.buffers import Buffers
from tinygrad_rnn.compiler.runtime.layouts import Layouts
from tinygrad_rnn.compiler.runtime.memory import address

Step = Callable[[int], Any]  # does what is to be done at a step; any step, of what is done once
Ready = Callable[[], Step | Fixed]
Outputs = dict[Value, tuple]  # of operations with several, which no buffer has


class Views:
    """A value as an array: of each step, of all steps, or the only one there is.

    loop  is it read at each step?
    kept  is it made once for so many steps? Else for each call
    """

    def __init__(self, v: Value, buffers: Buffers, loop: bool, kept: bool = True):
        self.v, self.buffers = v, buffers
        self.place = None if v.op == "zeros" else buffers.s.where(v).buffer
        self.each = loop and self.place is not None and self.place.time
        self.kept = kept and not (self.place is not None and self.place.bound)
        self.made: Any = None
        if self.kept:
            buffers.steps.depends(self._make, functools.partial(setattr, self, "made"))

    def _make(self) -> Any:
        buffers, v = self.buffers, self.v
        if self.place is None:
            return stand_in(v.shape, v.dtype, buffers.device)
        if self.each:
            return [buffers.view(v, t) for t in range(buffers.steps.T)]
        return buffers.view(v, "all" if self.place.time else None)

    def now(self) -> Any:
        """An array, or a list of them, one for each step."""
        return self.made if self.kept else self._make()

    def getter(self) -> Callable[[int], Array]:
        """A function of the step, for this call."""
        found = self.now()
        return found.__getitem__ if self.each else lambda t: found


@dataclass(frozen=True)
class Site:
    """Where something is called.

    loop     at each step, or once?
    outputs  what operations with several outputs returned last
    """

    buffers: Buffers
    layouts: Layouts
    loop: bool
    outputs: Outputs

    def view(self, v: Value, kept: bool = True) -> Views:
        """A value as an array."""
        return Views(v, self.buffers, self.loop, kept)

    def moves(self, v: Value) -> bool:
        """Does it differ from step to step?"""
        return self.buffers.s.flow.moves(v)


def call(v: Value, site: Site) -> Ready:
    """A function that is called once the arrays of a call are bound, and returns what computes v at a step."""
    if v.op == "tsum":
        return _over_time(v, site)
    if v.op == "pick":
        return _picked(v, site)
    if v.op == "matmul" and len(v.values) == 2:
        return _product(v, site)
    if not site.loop and site.moves(v):
        return _step_by_step(v, site)
    return _by_itself(v, site)


def _product(v: Value, site: Site) -> Ready:
    """Rows times a matrix; for all steps at once, all rows times a matrix that is the same at all steps."""
    a, b = v.args
    at_once = not site.loop
    if len(b.shape) == 2 and not (at_once and site.moves(b)):
        return _by_cublas(a, b, v, site, [(a, at_once), (b, False), (v, at_once)])
    return _by_numbers(a, b, v, site)


def _by_cublas(
    a: Value, b: Value, v: Value, site: Site, how: Sequence[tuple[Value, bool]], turned: bool = False
) -> Ready:
    """a @ b, or aᵀ @ b if turned, of matrices in memory. how: each of a, b, v, and is it read for all steps?"""
    if not a.dtype == b.dtype == v.dtype:
        return _by_numbers(a, b, v, site, turned)
    made: list[Ready] = []

    def make() -> Ready:
        left, right, out = (matrix(u, site.buffers, site.layouts, every) for u, every in how)
        if left is None or right is None or out is None or not out.across:
            return _by_numbers(a, b, v, site, turned, kept=False)  # one of so many steps: of others it may be none
        return product(left.transposed if turned else left, right, out, v.dtype)

    site.buffers.steps.depends(make, lambda ready: made.__setitem__(slice(None), [ready]))
    return lambda: made[0]()


def _by_numbers(a: Value, b: Value, v: Value, site: Site, turned: bool = False, kept: bool = True) -> Ready:
    """The same of any arrays."""
    views = [site.view(u, kept) for u in (a, b, v)]

    def ready() -> Step:
        left, right, out = (view.getter() for view in views)
        if turned:
            return lambda t: multiply(rows_of(left(t)).T, rows_of(right(t)), out(t))
        return lambda t: multiply(left(t), right(t), out(t))

    return ready


def _over_time(v: Value, site: Site) -> Ready:
    """Σₜ g: for the gradient of a weight, one product over time and batch."""
    g, flow = v.args[0], site.buffers.s.flow
    if flow.contracted(g) and g.op == "correlate":
        return _correlated(v, g, site)
    product = flow.contracted(g) and g.op == "matmul"
    if product and len(g.args[0].shape) == 2:
        a, b = g.args[0].args[0], g.args[1]
        return _by_cublas(a, b, v, site, [(a, True), (b, True), (v, False)], turned=True)
    out = site.view(v)
    if product:
        left, right = map(site.view, g.args)
        return lambda: lambda t: _contraction(left.now(), right.now(), out.now())
    summed = site.view(g.args[0] if flow.contracted(g) else g)
    if flow.moves(g):
        return _rows_summed(summed, 2 if flow.contracted(g) else 1, out, site)
    return lambda: lambda t: xp(out.now()).multiply(summed.now(), site.buffers.steps.T, out=out.now())


def _correlated(v: Value, g: Value, site: Site) -> Ready:
    """The gradient of a convolution's weight, of the images of all steps."""
    assert g.primitive is not None, g
    forward, (x, y), out = functools.partial(g.primitive.forward, **g.static), map(site.view, g.args), site.view(v)
    images = lambda a: a.reshape(a.shape[0] * a.shape[1], *a.shape[2:])
    return lambda: lambda t: out.now().__setitem__(..., forward(images(x.now()), images(y.now())))


def _rows_summed(summed: Views, lead: int, out: Views, site: Site) -> Ready:
    """The sum over the first axes, of which time is one: ones times a matrix, which cuBLAS does in a tenth of the time
    that CuPy's own sum takes."""
    made: list[Ready] = []

    def make() -> Ready:
        a, b = rows(summed.v, lead, site.buffers, site.layouts), rows(out.v, 0, site.buffers, site.layouts)
        if a is None or b is None or summed.v.dtype != out.v.dtype:
            return lambda: lambda t: _sum_rows(summed.now(), lead, out.now())
        ones = full((a.rows,), 1, summed.v.dtype, site.buffers.device)
        return product(Matrix(lambda: address(ones), 0, 1, a.rows, True, a.rows), a, b, out.v.dtype)

    site.buffers.steps.depends(make, lambda ready: made.__setitem__(slice(None), [ready]))
    return lambda: made[0]()


def _contraction(a: Array, b: Array, out: Array) -> None:
    """Σₜ a[t] @ b[t], as one product a matrix. a: (T, …, M, K)  b: (T, …, K, N)"""
    axes = range(1, a.ndim - 2)
    left = a.transpose(*axes, a.ndim - 2, 0, a.ndim - 1).reshape(*a.shape[1:-1], len(a) * a.shape[-1])
    right = b.transpose(*axes, 0, b.ndim - 2, b.ndim - 1).reshape(*b.shape[1:-2], len(b) * b.shape[-2], b.shape[-1])
    out[...] = left @ right


def _sum_rows(a: Array, lead: int, out: Array) -> None:
    """The sum over the first axes."""
    a.reshape(math.prod(a.shape[:lead]), *a.shape[lead:]).sum(axis=0, out=out)


# ---- by its own function --------------------------------------------------------------------------------------------


def _by_itself(v: Value, site: Site) -> Ready:
    """The operation's own function, of this step's arrays; its result is copied to where it belongs."""
    assert v.primitive is not None, v
    forward, outputs = functools.partial(v.primitive.forward, **v.static), site.outputs
    args = [site.view(a) if isinstance(a, Value) else a for a in v.args]
    out = None if v.several else site.view(v)

    def ready() -> Step:
        get = [a.getter() if isinstance(a, Views) else (lambda t, a=a: a) for a in args]
        if out is None:
            return lambda t: outputs.__setitem__(v, forward(*[g(t) for g in get]))
        result = out.getter()
        return lambda t: result(t).__setitem__(..., forward(*[g(t) for g in get]))

    return ready


def _picked(v: Value, site: Site) -> Ready:
    whole, index, out, outputs = v.args[0], v.static["index"], site.view(v), site.outputs

    def ready() -> Step:
        result = out.getter()
        return lambda t: result(t).__setitem__(..., outputs[whole][index])

    return ready


def _step_by_step(v: Value, site: Site) -> Ready:
    """What is computed for all steps at once, one after the other."""
    made = call(v, replace(site, loop=True))

    def ready() -> Step | Fixed:
        step, T = made(), site.buffers.steps.T
        one = step.run if isinstance(step, Fixed) else step

        def run(t: int) -> None:
            for each in range(T):
                one(each)

        return Fixed(run, step.where, T) if isinstance(step, Fixed) else run

    return ready
