"""Differentiable functions of tensors (and of plain arrays). PyTorch's names, NumPy's `axis` and `keepdims`."""
# ruff: isort: skip_file

from tinygrad_rnn.ops.random import uniform
from tinygrad_rnn.ops.elementwise import (
    abs, add, cast, clip, detach, div, equal, erf, exp, gelu, greater, greater_equal, isnan, less, less_equal, log,
    logical_and, logical_not, logical_or, masked_fill, maximum, minimum, mul, neg, not_equal, pow, relu, sigmoid, sign,
    softplus, sqrt, sub, tanh, transfer, where,
)  # fmt: skip
from tinygrad_rnn.ops.index import embedding, getitem, one_hot, scatter_add, take, take_along_axis
from tinygrad_rnn.ops.einsum import einsum
from tinygrad_rnn.ops.matmul import matmul
from tinygrad_rnn.ops import numpy_functions as numpy_functions
from tinygrad_rnn.ops.reduce import (
    argmax, cumsum, log_softmax, logsumexp, max, mean, min, softmax, sum, var,
)  # fmt: skip
from tinygrad_rnn.ops.shape import (
    broadcast_to, chunk, concat, expand_dims, flip, pad, permute, reshape, split, squeeze, stack, swapaxes, transpose,
    unbind, unsqueeze,
)  # fmt: skip
from tinygrad_rnn.autograd.tensor import OPS

__all__ = [
    "abs", "add", "argmax", "broadcast_to", "cast", "chunk", "clip", "concat", "cumsum", "div", "einsum", "embedding",
    "equal", "erf", "exp", "expand_dims", "flip", "gelu", "getitem", "greater", "greater_equal", "isnan", "less",
    "less_equal", "log", "log_softmax", "logical_and", "logical_not", "logical_or", "logsumexp", "masked_fill",
    "matmul", "max", "maximum", "mean", "min", "minimum", "mul", "neg", "not_equal", "one_hot", "pad", "permute",
    "pow", "relu", "reshape", "scatter_add", "sigmoid", "sign", "softmax", "softplus", "split", "sqrt", "squeeze",
    "stack", "sub", "sum", "swapaxes", "take", "take_along_axis", "tanh", "transfer", "transpose", "unbind",
    "uniform", "unsqueeze", "var", "where",
]  # fmt: skip

OPS.update({name: globals()[name] for name in __all__}, detach=detach)
