"""Which operations have a kernel of their own on a GPU: here they are named, and nowhere else.

`on_gpu` puts a kernel in the place of a function of arrays, an operation's or its rule's. `fused` puts one in the place
of a function of tensors that takes several operations. Host arrays, and what is recorded for a compiler or for second
derivatives, never get here.
"""

from __future__ import annotations

import functools

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.autograd.arrays import Array, same_device, xp
from tinygrad_rnn.autograd.devices import load_cupy
from tinygrad_rnn.autograd.gradients import partials
from tinygrad_rnn.autograd.graph import Node, context
from tinygrad_rnn.autograd.primitive import operation
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.ops.row_kernels import CrossEntropy, LayerNorm, by_rows, logsumexp


class Elementwise(NamedTuple):
    """A kernel that computes y from arrays of one dtype; None for arrays of several.

    text  C, with R for the type that it computes in, and f for what names of functions and numbers of it end with
    """

    name: str
    inputs: str
    text: str

    def __call__(self, *arrays: Array) -> Array | None:
        dtype = arrays[0].dtype
        return _made(self, dtype)(*arrays) if all(a.dtype == dtype for a in arrays) else None

    def of(self, dtype: np.dtype) -> tuple[str, str, str]:
        """Inputs, output and body as CuPy takes them."""
        real, f, largest = ("double", "", "709.0") if dtype.itemsize == 8 else ("float", "f", "88.0f")
        inputs = ", ".join(f"{dtype} {name}" for name in self.inputs.split())
        return inputs, f"{dtype} y", self.text.format(R=real, f=f, largest=largest)


@functools.cache
def _made(kernel: Elementwise, dtype: np.dtype) -> Any:
    return load_cupy().ElementwiseKernel(*kernel.of(dtype), kernel.name)


# exp(x) / (1 + exp(x)), as in host memory: 1 / (1 + exp(-x)) is 0 where exp(-x) overflows.
SIGMOID = Elementwise("sigmoid", "x", "{R} v = x, e = exp{f}(v > {largest} ? {largest} : v); y = e / (e + 1.0{f});")
SIGMOID_RULE = Elementwise("sigmoid_rule", "g s", "{R} v = s, d = g; y = d * (v - v * v);")
TANH_RULE = Elementwise("tanh_rule", "g t", "{R} v = t, d = g; y = d - d * v * v;")


def _sigmoid(x: Array) -> Array | None:
    return SIGMOID(x if x.dtype.kind == "f" else x.astype(np.float64))


# By the functions' names: kernels that take their arguments, and return None where there is none for these
IN_PLACE_OF: dict[str, Any] = {
    "_sigmoid": _sigmoid,
    "_sigmoid_rule": SIGMOID_RULE,
    "_tanh_rule": TANH_RULE,
    "_softmax": by_rows("softmax"),
    "_softmax_rule": by_rows("softmax_rule"),
    "_log_softmax": by_rows("log_softmax"),
    "_log_softmax_rule": by_rows("log_softmax_rule"),
    "_logsumexp": logsumexp,
}

# What computes the value and the gradients, made for each call from its static arguments
FUSED: dict[str, Callable[..., Any]] = {"nll_of_logits": CrossEntropy, "layer_norm": LayerNorm}


def on_gpu(function: Callable) -> Callable:
    """The function, but its kernel for arrays of a GPU."""
    kernel, code = IN_PLACE_OF[function.__name__], function.__code__
    few = 0 if code.co_kwonlyargcount else code.co_argcount
    return functools.wraps(function)(_EITHER.get(few, _any_either)(function, kernel))


# Paid in host memory too: functions of one or two arrays do not pay for arguments that they have not.


def _unary_either(function: Callable, kernel: Callable) -> Callable:
    def either(x: Any) -> Any:
        return function(x) if type(x) is np.ndarray or xp(x) is np else kernel(x)

    return either


def _binary_either(function: Callable, kernel: Callable) -> Callable:
    def either(x: Any, y: Any) -> Any:
        if type(x) is np.ndarray or xp(x) is np:
            return function(x, y)
        found = kernel(x, y)
        return function(x, y) if found is None else found

    return either


def _any_either(function: Callable, kernel: Callable) -> Callable:
    def either(x: Any, *args: Any, **static: Any) -> Any:
        if type(x) is np.ndarray or xp(x) is np:
            return function(x, *args, **static)
        found = kernel(x, *args, **static)
        return function(x, *args, **static) if found is None else found

    return either


_EITHER = {1: _unary_either, 2: _binary_either}


def fused(plain: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The function of tensors, but on a GPU one operation; its keyword arguments are static."""
    make = FUSED[plain.__name__]
    op = _one_operation(plain)

    @functools.wraps(plain)
    def either(*xs: Any, **static: Any) -> Tensor:
        if context.trace is not None:
            return plain(*xs, **static)
        arrays = [getattr(x, "array", x) for x in xs]
        if type(arrays[0]) is np.ndarray or xp(arrays[0]) is np:
            return plain(*xs, **static)
        kernel = make(**static)
        taken = kernel.takes(*arrays) and len(same_device(arrays)) == 1
        return op(*xs, call=_Call(kernel, static)) if taken else plain(*xs, **static)

    return either


class _Call:
    """A call of a fused operation: what computes it, and its static arguments."""

    def __init__(self, kernel: Any, static: dict[str, Any]):
        self.kernel, self.static = kernel, static


def _one_operation(plain: Callable[..., Tensor]) -> Any:
    """The operation that a kernel computes; in second derivatives, and in drawings, it is what `plain` records."""

    def forward(*xs: Array, call: _Call) -> Array:
        return call.kernel.forward(*xs)

    def rule(g: Any, xs: tuple, call: _Call, tracked: tuple[bool, ...]) -> Sequence[Any]:
        if not isinstance(g, Tensor):
            return call.kernel.backward(g, *xs, tracked=tracked)
        tensors = [x if isinstance(x, Tensor) else Tensor(x) for x in xs]
        return partials(lambda xs: [plain(*xs, **call.static)], tensors, [g], tracked)[0]

    def unrolled(node: Node, _: Any) -> list[Node]:
        lib = load_cupy()
        tensors = [Tensor(lib.zeros(i.shape, i.dtype), i) for i in node.inputs]
        made = plain(*tensors, **node.static["call"].static).node
        assert made is not None
        return [made]

    forward.__name__ = plain.__name__
    op = operation(forward)
    op.vjp(rule)
    op.op.unroll = unrolled
    return op
