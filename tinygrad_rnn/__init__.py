"""tinygrad_rnn: write a recurrent cell in a few lines of maths; train it by exact BPTT, and see its graph."""

import importlib

from typing import TYPE_CHECKING, Any

from tinygrad_rnn import nn, ops, optim, parallel
from tinygrad_rnn.autograd.devices import default_device, set_default_device
from tinygrad_rnn.autograd.devices import use_device as device
from tinygrad_rnn.autograd.gradcheck import gradcheck
from tinygrad_rnn.autograd.gradients import enable_grad, grad, is_grad_enabled, no_grad
from tinygrad_rnn.autograd.graph import scope
from tinygrad_rnn.autograd.primitive import primitive
from tinygrad_rnn.autograd.random import get_rng_state, manual_seed, set_rng_state
from tinygrad_rnn.autograd.tensor import Parameter, Tensor, ones, tensor, zeros
from tinygrad_rnn.moved import install, pictures
from tinygrad_rnn.nn.circuit import circuit
from tinygrad_rnn.ops.formulas import elementwise

if TYPE_CHECKING:
    import viz as viz

    from tinygrad_rnn import data, decode, export, keras_weights, metrics, torch_weights

__version__ = "0.1.0"
_former = install(__name__)
__all__ = [
    "Parameter", "Tensor", "circuit", "data", "decode", "default_device", "device", "elementwise", "enable_grad",
    "export", "get_rng_state", "grad", "gradcheck", "is_grad_enabled", "keras_weights", "manual_seed", "metrics",
    "nn", "no_grad", "ones", "ops", "optim", "parallel", "primitive", "scope", "set_default_device", "set_rng_state",
    "tensor", "torch_weights", "zeros",
]  # fmt: skip

if not TYPE_CHECKING:  # a type checker would take any name for one of the package's

    def __getattr__(name: str) -> Any:
        """Import tg.data, decode, export, metrics, torch_weights or viz when it is first used: they take 40 ms."""
        if name in __all__:
            return importlib.import_module(f"{__name__}.{name}")
        if name == "viz":  # not in __all__: it is a package of its own, and `import *` needs none of its name
            return pictures()
        if name in _former:
            return _former[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "viz"})
