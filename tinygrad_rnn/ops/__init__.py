"""Differentiable functions of tensors (and of plain arrays). PyTorch's names, NumPy's `axis` and `keepdims`."""
# ruff: isort: skip_file

from tinygrad_rnn.ops.random import dropout, uniform
from tinygrad_rnn.ops.elementwise import (
    abs, add, cast, clip, cos, detach, div, equal, erf, exp, expm1, floor, fmod, gelu, greater, greater_equal, isnan,
    less, less_equal, log, log1p, logical_and, logical_not, logical_or, masked_fill, maximum, minimum, mul, neg,
    not_equal, pow, relu, round, sigmoid, sign, sin, softplus, sqrt, sub, tanh, transfer, where,
)  # fmt: skip
from tinygrad_rnn.ops.index import embedding, getitem, one_hot, scatter_add, take, take_along_axis
from tinygrad_rnn.ops.einsum import einsum
from tinygrad_rnn.ops.matmul import matmul
from tinygrad_rnn.ops import numpy_functions as numpy_functions
from tinygrad_rnn.ops.reduce import (
    argmax, cumsum, log_softmax, logsumexp, max, mean, min, softmax, sum, var,
)  # fmt: skip
from tinygrad_rnn.ops.composed import (
    argsort, cumprod, elu, leaky_relu, log_sigmoid, logaddexp, mod, norm, outer, prod, roll, silu, sort, std, tile,
    topk,
)  # fmt: skip
from tinygrad_rnn.ops.convolution import conv1d, conv2d
from tinygrad_rnn.ops.shape import (
    broadcast_to, chunk, concat, expand_dims, flip, pad, permute, reshape, split, squeeze, stack, swapaxes, transpose,
    unbind, unsqueeze,
)  # fmt: skip
from tinygrad_rnn.autograd.tensor import OPS, describe_methods

__all__ = [
    "abs", "add", "argmax", "argsort", "broadcast_to", "cast", "chunk", "clip", "concat", "conv1d", "conv2d", "cos",
    "cumprod", "cumsum", "div", "dropout", "einsum", "elu", "embedding", "equal", "erf", "exp", "expand_dims",
    "expm1", "flip", "floor", "fmod", "gelu", "getitem", "greater", "greater_equal", "isnan", "leaky_relu", "less",
    "less_equal", "log", "log1p", "log_sigmoid", "log_softmax", "logaddexp", "logical_and", "logical_not",
    "logical_or", "logsumexp", "masked_fill", "matmul", "max", "maximum", "mean", "min", "minimum", "mod", "mul",
    "neg", "norm", "not_equal", "one_hot", "outer", "pad", "permute", "pow", "prod", "relu", "reshape", "roll",
    "round", "scatter_add", "sigmoid", "sign", "silu", "sin", "softmax", "softplus", "sort", "split", "sqrt",
    "squeeze", "stack", "std", "sub", "sum", "swapaxes", "take", "take_along_axis", "tanh", "tile", "topk",
    "transfer", "transpose", "unbind", "uniform", "unsqueeze", "var", "where",
]  # fmt: skip

OPS.update({name: globals()[name] for name in __all__}, detach=detach)
describe_methods()
