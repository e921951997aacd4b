"""tinygrad_rnn: write a recurrent cell in a few lines of maths; train it by exact BPTT, and see its graph."""

from tinygrad_rnn import nn, ops, optim
from tinygrad_rnn.autograd.devices import default_device, set_default_device
from tinygrad_rnn.autograd.devices import use_device as device
from tinygrad_rnn.autograd.gradcheck import gradcheck
from tinygrad_rnn.autograd.graph import scope
from tinygrad_rnn.autograd.primitive import primitive
from tinygrad_rnn.autograd.random import get_rng_state, manual_seed, set_rng_state
from tinygrad_rnn.autograd.tensor import (
    Parameter,
    Tensor,
    enable_grad,
    grad,
    is_grad_enabled,
    no_grad,
    ones,
    tensor,
    zeros,
)
from tinygrad_rnn.nn.circuit import circuit

__all__ = [
    "Parameter", "Tensor", "circuit", "default_device", "device", "enable_grad", "get_rng_state", "grad", "gradcheck",
    "is_grad_enabled", "manual_seed", "nn", "no_grad", "ones", "ops", "optim", "primitive", "scope",
    "set_default_device", "set_rng_state", "tensor", "zeros",
]  # fmt: skip
