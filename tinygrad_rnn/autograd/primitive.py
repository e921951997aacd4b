"""Primitive: an operation and its derivative rule; the one place where computing becomes recording.

    @primitive
    def cube(x):                            # a function of arrays, NumPy's or CuPy's
        return x * x * x

    cube.vjp(x=lambda g, x: g * 3 * x * x)  # d loss / dx, given g = d loss / dy

A rule is written in operators and ops, so it runs on plain arrays (the ordinary backward pass) and on tensors (then
it is itself recorded, and second derivatives need nothing more).
"""

from __future__ import annotations

import functools
import weakref

from collections.abc import Callable
from typing import Any

import numpy as np

from numpy import ndarray

from tinygrad_rnn.autograd.arrays import is_array, same_device
from tinygrad_rnn.autograd.dtypes import FLOAT
from tinygrad_rnn.autograd.graph import Chosen, Constant, Copied, Node, Shown, context
from tinygrad_rnn.autograd.operands import NUMBERS, agreed, alike, do_agree, floating, plain_arguments
from tinygrad_rnn.autograd.rules import PICK, Primitive, picked
from tinygrad_rnn.autograd.tensor import Tensor

KEEPS = {"cast", "reshape", "permute", "broadcast_to", "transfer", "getitem", "where"}  # positions what they are
NO_STATIC: dict[str, Any] = {}
ONE, BOTH, LEFT, RIGHT = (True,), (True, True), (True, False), (False, True)  # which arguments a gradient flows to

# From here on, each line is paid at every operation of every time step.


def primitive(forward: Callable) -> Any:
    """Make a function of arrays an operation: on arrays it computes, on tensors it records too.

    Positional parameters are what gradients flow to, keyword-only ones are static. A tuple of arrays as result makes an
    operation with several outputs (its rule then gets a tuple of gradients). Give it its derivative with `.vjp`.
    """
    return operation(forward)


def operation(forward: Callable, formula: str | None = None, **dtypes: Any) -> Any:
    """The callable operation of a forward function; `formula` and `dtypes` (mixes, floats, …) as in Primitive."""
    op = Primitive(forward, formula, **dtypes)
    special = None if op.defaults or op.variadic else {1: _unary, 2: _binary}.get(len(op.args))
    call: Any = functools.wraps(forward)((special or _general)(op, forward))
    call.op, call.vjp = op, op.vjp
    return call


def _unary(op: Primitive, forward: Callable) -> Callable:
    floats = op.floats

    def call(x: Any) -> Any:
        if not isinstance(x, Tensor):
            plain = type(x) is ndarray and (not floats or x.dtype.kind == "f")
            return forward(x) if plain else forward(*plain_arguments(op, (x,)))
        if context.trace is not None:
            return context.trace(op, (floating(x) if floats else x,), NO_STATIC)
        array, node = x.array, x.node
        if floats and array.dtype is not FLOAT and array.dtype.kind != "f":
            return call(floating(x))
        try:
            y = forward(array)
        except Exception as error:
            raise _explained(op, [array], error) from None
        if type(y) is not ndarray:
            if type(y) is tuple:
                return general(x)
            y = _as_array(y)
        if node is None or not node.tracked or not context.recording or op.flat:
            return Tensor(y) if node is None or not node.shown else _show(op, (x,), y, NO_STATIC)
        edges, save = op.patterns.get(ONE) or op.edges_for(ONE)
        return Tensor(y, Node(op, (node,), NO_STATIC, edges, save((array,), y, NO_STATIC), y.shape, y.dtype))

    general = _general(op, forward)
    return call


def _binary(op: Primitive, forward: Callable) -> Callable:
    floats = op.floats

    def call(a: Any, b: Any) -> Any:
        is_a, is_b = isinstance(a, Tensor), isinstance(b, Tensor)
        if not (is_a or is_b):
            return forward(a, b) if type(a) is ndarray or type(b) is ndarray else forward(*plain_arguments(op, (a, b)))
        if context.trace is not None:
            return context.trace(op, agreed(op, (a, b)), NO_STATIC)
        left, right = a.array if is_a else a, b.array if is_b else b
        unlike = (
            left.dtype is not right.dtype or (floats and left.dtype is not FLOAT)
            if is_a and is_b
            else type(right if is_a else left) not in NUMBERS or (left if is_a else right).dtype is not FLOAT
        )
        if unlike and not do_agree(op, left, right):
            a, b = agreed(op, (a, b))
            left, right = a.array if is_a else a, b.array if is_b else b
        try:
            y = forward(left, right)
        except Exception as error:
            raise _explained(op, [left, right], error) from None
        if type(y) is tuple:
            return general(a, b)
        y = y if type(y) is ndarray else _as_array(y)
        p, q = a.node if is_a else None, b.node if is_b else None
        u, v = p is not None and p.tracked, q is not None and q.tracked
        if not (u or v) or not context.recording or op.flat:
            shown = (p is not None and p.shown) or (q is not None and q.shown)
            return _show(op, (a, b), y, NO_STATIC) if shown else Tensor(y)
        if p is None:
            p, left = _input(a, left)
        elif q is None:  # one of them is tracked
            q, right = _input(b, right)
        pattern = BOTH if u and v else LEFT if u else RIGHT
        edges, save = op.patterns.get(pattern) or op.edges_for(pattern)
        return Tensor(y, Node(op, (p, q), NO_STATIC, edges, save((left, right), y, NO_STATIC), y.shape, y.dtype))

    general = _general(op, forward)
    return call


def _general(op: Primitive, forward: Callable) -> Callable:
    defaults = op.defaults

    def call(*args: Any, **static: Any) -> Any:
        if context.trace is not None and any(isinstance(a, Tensor) for a in args):
            return context.trace(op, agreed(op, args), static)
        arrays: list[Any] = []
        tracks: list[bool] = []
        none = True
        for a in args:
            if isinstance(a, Tensor):
                arrays.append(a.array)
                tracks.append(a.node is not None and a.node.tracked)
                none = False
            else:
                arrays.append(a)
                tracks.append(False)
        if op.mixes is not None and not none and not alike(arrays, op.mixes):
            args = agreed(op, args)
            arrays = [a.array if isinstance(a, Tensor) else a for a in args]
        static = {**defaults, **static} if len(static) < len(defaults) else static
        try:
            y = forward(*arrays, **static)
        except Exception as error:
            raise _explained(op, arrays, error) from None
        if none:
            return y
        if isinstance(y, np.generic):
            y = np.asarray(y)
        if True not in tracks or not context.recording or op.flat:
            return _show(op, args, y, static)
        return _record(op, args, arrays, y, static, tuple(tracks))

    return call


def _record(op: Primitive, args: tuple, arrays: list, y: Any, static: dict, tracked: tuple[bool, ...]) -> Any:
    """The result of a call as a tensor in the graph, or as several."""
    nodes: list[Any] = []
    for i, a in enumerate(args):
        node, arrays[i] = (a.node, arrays[i]) if tracked[i] else _input(a, arrays[i])
        nodes.append(node)
    edges, save = op.patterns.get(tracked) or op.edges_for(tracked)
    saved = save(arrays, y, static)
    if type(y) is not tuple:
        return Tensor(y, Node(op, tuple(nodes), static, edges, saved, y.shape, y.dtype))
    # One node for the operation, and one that picks each output from it.
    shapes = tuple([each.shape for each in y])
    whole = (Node(op, tuple(nodes), static, edges, saved, shapes, y[0].dtype if y else None),)
    found = []
    for i, each in enumerate(y):
        node = picked(whole, i, each)
        found.append(Tensor(np.asarray(each) if isinstance(each, np.generic) else each, node))
    return tuple(found)


def _show(op: Primitive, args: tuple, y: Any, static: dict) -> Any:
    """The result of a call that no gradient flows through; of a state it is recorded, to be drawn; nothing is kept."""
    several, shown = type(y) is tuple, False
    for a in args if context.recording else ():
        node = a.node if isinstance(a, Tensor) else None
        if type(node) is Chosen and op.name in KEEPS and not several:
            return Tensor(y, node.like(y.shape, y.dtype))
        shown = shown or (node is not None and node.shown and type(node) is not Chosen)
    if not shown:
        return tuple([Tensor(_as_array(each)) for each in y]) if several else Tensor(y)
    nodes = tuple([_input(a, getattr(a, "array", a))[0] for a in args])
    if not several:
        return Tensor(y, Shown(op, nodes, static, (), (), y.shape, y.dtype))
    whole = (Shown(op, nodes, static, (), (), tuple([each.shape for each in y]), y[0].dtype if y else None),)
    each = [(_as_array(part), {"index": i}) for i, part in enumerate(y)]
    return tuple([Tensor(part, Shown(PICK, whole, at, (), (), part.shape, part.dtype)) for part, at in each])


def _input(a: Any, value: Any) -> tuple[Any, Any]:
    """For an argument that no gradient flows to: what the graph shows of it, and a value that is safe to keep."""
    if isinstance(a, Tensor):
        if a.node is None:
            # Made once: the same input is drawn as one node.
            a.node = Constant(value.shape, value.dtype, "", weakref.ref(value))
        return a.node, value
    if is_array(value):
        data = None if isinstance(value, np.generic) else weakref.ref(value)
        return Copied(value.shape, value.dtype, "", data), value.copy()  # its owner may write into it before backward
    return a, value


def _as_array(y: Any) -> Any:
    """NumPy's reductions of everything, and its arithmetic without axes, return scalars."""
    return np.asarray(y) if isinstance(y, np.generic) else y


def _explained(op: Primitive, arrays: list[Any], error: Exception) -> Exception:
    """The error with the operation's name, and with the devices where these are the reason."""
    devices = same_device(arrays)
    if len(devices) > 1:
        return ValueError(
            f"{op.name}: operands must be on one device, got {' and '.join(devices)}; move one with .to(…)"
        )
    kind = next((k for k in (IndexError, ValueError, TypeError, OverflowError) if isinstance(error, k)), None)
    if kind is None:
        return error
    shapes = " and ".join(str(np.shape(a)) for a in arrays)
    reason = str(error).partition("\n")[0].removeprefix(f"{op.name}: ")
    return kind(f"{op.name}: operands of shape {shapes} do not fit: {reason}")
