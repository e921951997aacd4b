"""Tensor: an array that remembers where it came from."""

from __future__ import annotations

import copy
import inspect
import weakref

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Never

import numpy as np

from tinygrad_rnn.autograd import arrays, nest
from tinygrad_rnn.autograd.arrays import Array, xp
from tinygrad_rnn.autograd.backward import sweep
from tinygrad_rnn.autograd.devices import check_device
from tinygrad_rnn.autograd.dtypes import is_real, real_dtype
from tinygrad_rnn.autograd.graph import Constant, Leaf, Node, context, recording
from tinygrad_rnn.autograd.transfers import settled
from tinygrad_rnn.autograd.values import array_of

OPS: dict[str, Callable] = {}  # the public functions of ops/ by name: they fill it, the operators below call them
FUNCTIONS: dict[Any, Callable] = {}  # NumPy's functions, as ops/ has them; those in FLAT have results without gradient
FLAT: set[Any] = set()


class Tensor:
    """An array that remembers where it came from. Make one with `tensor(values)`.

    Operators, indexing and methods follow NumPy and PyTorch; each is a node in the graph when one of its
    operands requires a gradient. The array is never changed in place, so that no derivative rule can be handed
    other values than the ones it was recorded with: `data` is read-only. To change a parameter, give it a new array
    (`p.data = …`), or write `p -= …` inside `with no_grad():`.

    A copy (`copy.deepcopy`, `pickle`) has the values, and of a leaf whether it requires a gradient, and its gradient.
    What was computed is copied without its history and requires none, as if it had been detached; not so within a
    module's call that is recorded, where gradients would end unnoticed. `copy.copy` is another name for the same.
    """

    __slots__ = ("__weakref__", "array", "node")
    __array_priority__ = 1000

    def __init__(self, array: Array, node: Node | None = None):
        self.array = array
        self.node = node

    def __getstate__(self) -> tuple[None, dict[str, Any]]:
        return None, {"array": self._read(), "node": self.node if self.is_leaf else None}

    def __copy__(self) -> Tensor:
        return self if context.trace is not None else self._like(self.array, self.node)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if not self.is_leaf and context.recording and context.scope:
            refuse_deep_copy()
        if context.trace is not None:  # a recorded step reads it anew at each call
            return self.detach()
        _, parts = self.__getstate__()
        memo[id(self)] = made = self._like(**copy.deepcopy(parts, memo))
        return made

    def _like(self, array: Array, node: Node | None) -> Tensor:
        made = object.__new__(type(self))
        made.array, made.node = array, node
        return made

    # ---- what it is -----------------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """The size of each axis."""
        return self.array.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self.array.ndim

    @property
    def size(self) -> int:
        """The number of elements (NumPy's meaning, not PyTorch's)."""
        return self.array.size

    @property
    def dtype(self) -> np.dtype:
        """A NumPy dtype, on every device."""
        return self.array.dtype

    @property
    def device(self) -> str:
        """Where its array is: "cpu" or "gpu:N"."""
        return arrays.device_of(self.array)

    @property
    def data(self) -> Array:
        """The array itself, read-only on the CPU. Assign another one to replace the values: `p.data = p.data * 0.5`.

        The new array must have the same shape; it is cast to the tensor's dtype and moved to its device.
        """
        array = self._read()
        if type(array) is np.ndarray:
            array.setflags(write=False)
        return array

    @data.setter
    def data(self, values: Any) -> None:
        if context.trace is not None:
            context.trace.refuse_change()
        values = values.array if isinstance(values, Tensor) else values
        array = np.asarray(values) if not arrays.is_array(values) else values
        if array.shape != self.shape:
            raise ValueError(f"Tensor.data: the shape must stay {self.shape}, got {array.shape}")
        if not is_real(array.dtype):
            raise TypeError(f"Tensor.data: values must be floats, integers or booleans, got dtype {array.dtype}")
        if self.node is not None and self.node.op is not None:
            raise ValueError(
                "Tensor.data: only a leaf's values can be replaced, this one was computed; detach() it first"
            )
        self.array = arrays.move(xp(array).array(array, self.dtype), self.device)

    @property
    def requires_grad(self) -> bool:
        """Is it a leaf that gets a gradient, or computed from one while the graph was recorded?"""
        return self.node is not None and self.node.tracked

    @requires_grad.setter
    def requires_grad(self, on: bool) -> None:
        self.requires_grad_(on)

    def requires_grad_(self, on: bool = True) -> Tensor:
        """Record what is computed from it from now on (leaves only); returns itself."""
        if on == self.requires_grad:
            return self
        if not on:
            if not self.is_leaf:
                raise ValueError("requires_grad_: only a leaf can stop requiring a gradient; use detach()")
            self.node = None
        elif self.dtype.kind != "f":
            raise ValueError(f"requires_grad_: only floating-point tensors have gradients, got dtype {self.dtype}")
        else:
            self.node = Leaf(self.shape, self.dtype, getattr(self.node, "name", ""))
            self.node.owner = weakref.ref(self)
        return self

    @property
    def is_leaf(self) -> bool:
        """True unless it was computed from something that requires a gradient."""
        return self.node is None or self.node.op is None

    @property
    def grad(self) -> Tensor | None:
        """What `backward` added up here so far: d loss / d self, of the same shape; None before."""
        node = self.node
        return node.grad if isinstance(node, Leaf) else None

    @grad.setter
    def grad(self, value: Any) -> None:
        if not isinstance(self.node, Leaf):
            if value is None:
                return
            raise ValueError("grad: only a leaf that requires a gradient has one")
        if value is not None and not isinstance(value, Tensor):
            value = tensor(value, self.dtype, self.device)
        if value is not None and value.shape != self.shape:
            raise ValueError(f"grad: must have shape {self.shape}, got {value.shape}")
        self.node.grad = None if value is None else value.astype(self.dtype)

    @property
    def name(self) -> str:
        """What drawings call it; a module names its parameters after their attributes."""
        return getattr(self.node, "name", "")

    @name.setter
    def name(self, name: str) -> None:
        if self.node is None:
            self.node = Constant(self.shape, self.dtype)
        if not isinstance(self.node, (Leaf, Constant)):
            raise ValueError("name: only a leaf can be named; what is computed is named by its operation")
        self.node.name = name

    # ---- differentiating ------------------------------------------------------------------------------------------

    def backward(
        self, gradient: Tensor | None = None, *, retain_graph: bool = False, create_graph: bool = False
    ) -> None:
        """Add d self / d leaf to the `grad` of every leaf that self was computed from.

        gradient: d loss / d self, needed unless self is a scalar. The graph is freed on the way unless `retain_graph`;
        with `create_graph` the gradients are recorded too and can be differentiated again.
        """
        seeds = {recorded_node(self, "backward"): seed_of(self, gradient, "backward", create_graph)}
        found = swept(seeds, None, create_graph, retain_graph or create_graph)
        for node, g in found.items():
            if node.grad is None:
                node.grad = g
            else:
                with recording(create_graph):
                    node.grad = node.grad + g

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> Callable[[], None]:
        """Show every gradient of self to `hook(grad)`, which may return another one. Returns a function that removes it."""
        node = recorded_node(self, "register_hook")

        def on_gradient(g: Any) -> Any:
            lifted = isinstance(g, Tensor)
            changed = hook(g if lifted else Tensor(g))
            if changed is None:
                return None
            if not isinstance(changed, Tensor) or changed.shape != g.shape:
                what = f"a tensor of shape {changed.shape}" if isinstance(changed, Tensor) else type(changed).__name__
                raise ValueError(f"hook: must return None or a tensor of shape {g.shape}, got {what}")
            changed = changed.astype(g.dtype)
            return changed if lifted else changed.array

        node.hooks = [*(node.hooks or ()), on_gradient]

        def remove() -> None:
            node.hooks = [h for h in node.hooks or () if h is not on_gradient]

        return remove

    def detach(self) -> Tensor:
        """The same values with no history: gradients stop here."""
        if context.trace is not None:  # else a recorded step would keep the values of now
            return OPS["detach"](self)
        return Tensor(self.array)

    # ---- leaving the graph ----------------------------------------------------------------------------------------

    def _read(self) -> Array:
        """The array, for somebody who would compute with it unnoticed: a step that is being recorded must not."""
        if context.trace is not None:
            context.trace.refuse()
        return self.array

    def numpy(self) -> np.ndarray:
        """A copy of the values in host memory."""
        array = self._read()
        return settled(array, np.array(arrays.to_numpy(array)))

    def item(self) -> int | float:
        """The value of a tensor of one element, as a Python number."""
        array = self._read()
        return settled(array, array.item())

    def tolist(self) -> Any:
        """The values as nested lists of Python numbers."""
        array = self._read()
        return settled(array, array.tolist())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if self.device != "cpu":
            raise TypeError(f"Tensor: it is on {self.device}, NumPy reads host memory only; call .numpy() first")
        if context.trace is None and self.requires_grad and context.recording:
            raise TypeError(
                "Tensor: an array of a tensor that requires a gradient would leave the graph; use .numpy() to do so, or "
                "tinygrad_rnn.ops"
            )
        return np.array(self.data, dtype, copy=copy)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """np.tanh(tensor) is ops.tanh(tensor): NumPy's functions do not leave the graph unnoticed."""
        if ufunc in FLAT and method == "__call__":
            return ufunc(*map(host_values, inputs), **kwargs)
        op = OPS.get(UFUNCS.get(ufunc.__name__, ufunc.__name__))
        if method != "__call__" or kwargs or op is None:
            raise not_recorded(ufunc)
        return op(*inputs)

    def __array_function__(self, function: Callable, types: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        """np.concatenate([x, h]) is ops.concat([x, h]). A function that is not among our ops computes with the values,
        if no gradient can be lost by it, and is refused otherwise."""
        known = FUNCTIONS.get(function)
        if known is not None:
            try:
                bound = inspect.signature(known).bind(*args, **kwargs)
            except TypeError:  # an argument of NumPy's that has no like here
                raise not_recorded(function) from None
            return known(*bound.args, **bound.kwargs)
        parts = nest.leaves((args, kwargs))
        tracked = context.recording and any(isinstance(t, Tensor) and t.requires_grad for t in parts)
        if tracked and function not in FLAT:
            raise not_recorded(function)
        args, kwargs = nest.map_leaves(host_values, (args, kwargs))
        return function(*args, **kwargs)

    def __dlpack__(self, **kwargs: Any) -> Any:
        """Share the values with another library (`torch.from_dlpack(t)`), as a copy where it could write into them."""
        if self.device == "cpu":
            return self.numpy().__dlpack__(**kwargs)
        return self.array.copy().__dlpack__(**kwargs)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()

    # ---- moving ---------------------------------------------------------------------------------------------------

    def to(self, target: Any) -> Tensor:
        """On another device ("cpu", "gpu", "gpu:1") or in another dtype ("float64", np.float16); differentiable."""
        if isinstance(target, str) and target.partition(":")[0] in ("cpu", "gpu", "cuda"):
            device = check_device(target)
            return self if device == self.device else OPS["transfer"](self, device=device, source=self.device)
        return self.astype(target)

    def astype(self, dtype: Any) -> Tensor:
        """In another dtype; differentiable between floating-point ones."""
        dtype = real_dtype(dtype, "astype")
        return self if dtype == self.dtype else OPS["cast"](self, dtype)

    # ---- operators: one line each; the table is the documentation ---------------------------------------------------
    # fmt: off
    def __add__(self, o: Any) -> Tensor: return OPS["add"](self, o)
    def __radd__(self, o: Any) -> Tensor: return OPS["add"](o, self)
    def __sub__(self, o: Any) -> Tensor: return OPS["sub"](self, o)
    def __rsub__(self, o: Any) -> Tensor: return OPS["sub"](o, self)
    def __mul__(self, o: Any) -> Tensor: return OPS["mul"](self, o)
    def __rmul__(self, o: Any) -> Tensor: return OPS["mul"](o, self)
    def __truediv__(self, o: Any) -> Tensor: return OPS["div"](self, o)
    def __rtruediv__(self, o: Any) -> Tensor: return OPS["div"](o, self)
    def __pow__(self, o: Any) -> Tensor: return OPS["pow"](self, o)
    def __rpow__(self, o: Any) -> Tensor: return OPS["pow"](o, self)
    def __mod__(self, o: Any) -> Tensor: return OPS["mod"](self, o)
    def __rmod__(self, o: Any) -> Tensor: return OPS["mod"](o, self)
    def __matmul__(self, o: Any) -> Tensor: return OPS["matmul"](self, o)
    def __rmatmul__(self, o: Any) -> Tensor: return OPS["matmul"](o, self)
    def __neg__(self) -> Tensor: return OPS["neg"](self)
    def __pos__(self) -> Tensor: return self
    def __abs__(self) -> Tensor: return OPS["abs"](self)
    def __invert__(self) -> Tensor: return OPS["logical_not"](_mask(self, "~"))
    def __and__(self, o: Any) -> Tensor: return OPS["logical_and"](_mask(self, "&"), _mask(o, "&"))
    def __rand__(self, o: Any) -> Tensor: return OPS["logical_and"](_mask(o, "&"), _mask(self, "&"))
    def __or__(self, o: Any) -> Tensor: return OPS["logical_or"](_mask(self, "|"), _mask(o, "|"))
    def __ror__(self, o: Any) -> Tensor: return OPS["logical_or"](_mask(o, "|"), _mask(self, "|"))
    def __gt__(self, o: Any) -> Tensor: return OPS["greater"](self, o)
    def __ge__(self, o: Any) -> Tensor: return OPS["greater_equal"](self, o)
    def __lt__(self, o: Any) -> Tensor: return OPS["less"](self, o)
    def __le__(self, o: Any) -> Tensor: return OPS["less_equal"](self, o)
    def __eq__(self, o: Any) -> Tensor: return NotImplemented if o is None or isinstance(o, str) else OPS["equal"](self, o)  # type: ignore[override]
    def __ne__(self, o: Any) -> Tensor: return NotImplemented if o is None or isinstance(o, str) else OPS["not_equal"](self, o)  # type: ignore[override]
    def __getitem__(self, key: Any) -> Tensor: return OPS["getitem"](self, key)
    def __iadd__(self, o: Any) -> Tensor: return self._updated(self + o)
    def __isub__(self, o: Any) -> Tensor: return self._updated(self - o)
    def __imul__(self, o: Any) -> Tensor: return self._updated(self * o)
    def __itruediv__(self, o: Any) -> Tensor: return self._updated(self / o)
    # fmt: on
    __hash__ = object.__hash__

    def __setitem__(self, key: Any, value: Any) -> None:
        raise TypeError(
            "Tensor: items cannot be assigned, a derivative rule may need the old values; "
            "use ops.where, ops.scatter_add or ops.stack, or give a leaf new values with t.data = …"
        )

    def _updated(self, new: Tensor) -> Tensor:
        """`t += …`: a new tensor under the old name, but a leaf that requires a gradient keeps its identity."""
        if not isinstance(self.node, Leaf) and not isinstance(self, Parameter):
            return new
        if context.recording and self.requires_grad:
            raise RuntimeError(
                "Tensor: a leaf that requires a gradient cannot be changed in place while the graph is recorded; "
                "wrap the update in `with no_grad():`, or write t = t + …"
            )
        self.data = new
        return self

    # ---- methods: ops of the same name ------------------------------------------------------------------------------
    # fmt: off
    def sum(self, axis: Any = None, keepdims: bool = False, **named: Any) -> Tensor: return OPS["sum"](self, axis, keepdims, **named)
    def mean(self, axis: Any = None, keepdims: bool = False, **named: Any) -> Tensor: return OPS["mean"](self, axis, keepdims, **named)
    def var(self, axis: Any = None, keepdims: bool = False, *, correction: int = 1, **named: Any) -> Tensor: return OPS["var"](self, axis, keepdims, correction=correction, **named)
    def std(self, axis: Any = None, keepdims: bool = False, *, correction: int = 1, **named: Any) -> Tensor: return OPS["std"](self, axis, keepdims, correction=correction, **named)
    def norm(self, p: float = 2, axis: Any = None, keepdims: bool = False, **named: Any) -> Tensor: return OPS["norm"](self, p, axis, keepdims, **named)
    def prod(self, axis: int | None = None, keepdims: bool = False, **named: Any) -> Tensor: return OPS["prod"](self, axis, keepdims, **named)
    def max(self, axis: Any = None, keepdims: bool = False, **named: Any) -> Tensor: return OPS["max"](self, axis, keepdims, **named)
    def min(self, axis: Any = None, keepdims: bool = False, **named: Any) -> Tensor: return OPS["min"](self, axis, keepdims, **named)
    def argmax(self, axis: Any = None, keepdims: bool = False, **named: Any) -> Tensor: return OPS["argmax"](self, axis, keepdims, **named)
    def cumsum(self, axis: Any = None, **named: Any) -> Tensor: return OPS["cumsum"](self, axis, **named)
    def cumprod(self, axis: int, **named: Any) -> Tensor: return OPS["cumprod"](self, axis, **named)
    def argsort(self, axis: int = -1, descending: bool = False, **named: Any) -> Tensor: return OPS["argsort"](self, axis, descending, **named)
    def sort(self, axis: int = -1, descending: bool = False, **named: Any) -> tuple[Tensor, Tensor]: return OPS["sort"](self, axis, descending, **named)
    def topk(self, k: int, axis: int = -1, largest: bool = True, **named: Any) -> tuple[Tensor, Tensor]: return OPS["topk"](self, k, axis, largest, **named)
    def softmax(self, axis: int = -1, **named: Any) -> Tensor: return OPS["softmax"](self, axis, **named)
    def log_softmax(self, axis: int = -1, **named: Any) -> Tensor: return OPS["log_softmax"](self, axis, **named)
    def logsumexp(self, axis: Any = -1, keepdims: bool = False, **named: Any) -> Tensor: return OPS["logsumexp"](self, axis, keepdims, **named)
    def exp(self) -> Tensor: return OPS["exp"](self)
    def log(self) -> Tensor: return OPS["log"](self)
    def sqrt(self) -> Tensor: return OPS["sqrt"](self)
    def abs(self) -> Tensor: return OPS["abs"](self)
    def expm1(self) -> Tensor: return OPS["expm1"](self)
    def log1p(self) -> Tensor: return OPS["log1p"](self)
    def sin(self) -> Tensor: return OPS["sin"](self)
    def cos(self) -> Tensor: return OPS["cos"](self)
    def floor(self) -> Tensor: return OPS["floor"](self)
    def round(self) -> Tensor: return OPS["round"](self)
    def fmod(self, o: Any) -> Tensor: return OPS["fmod"](self, o)
    def logaddexp(self, o: Any) -> Tensor: return OPS["logaddexp"](self, o)
    def outer(self, o: Any) -> Tensor: return OPS["outer"](self, o)
    def tanh(self) -> Tensor: return OPS["tanh"](self)
    def sigmoid(self) -> Tensor: return OPS["sigmoid"](self)
    def relu(self) -> Tensor: return OPS["relu"](self)
    def clip(self, min: Any = None, max: Any = None) -> Tensor: return OPS["clip"](self, min, max)
    def reshape(self, *shape: Any) -> Tensor: return OPS["reshape"](self, shape[0] if len(shape) == 1 else shape)
    def transpose(self, axis0: Any = None, axis1: Any = None, **named: Any) -> Tensor: return OPS["swapaxes"](self, axis0, axis1, **named)
    def swapaxes(self, axis0: Any = None, axis1: Any = None, **named: Any) -> Tensor: return OPS["swapaxes"](self, axis0, axis1, **named)
    def permute(self, *axes: Any, **named: Any) -> Tensor: return OPS["permute"](self, axes[0] if len(axes) == 1 else axes, **named)
    def unsqueeze(self, axis: Any = None, **named: Any) -> Tensor: return OPS["unsqueeze"](self, axis, **named)
    def squeeze(self, axis: Any = None, **named: Any) -> Tensor: return OPS["squeeze"](self, axis, **named)
    def broadcast_to(self, shape: Sequence[int]) -> Tensor: return OPS["broadcast_to"](self, shape)
    def expand(self, *shape: int) -> Tensor: return OPS["broadcast_to"](self, shape)
    def flip(self, axis: Any = None, **named: Any) -> Tensor: return OPS["flip"](self, axis, **named)
    def roll(self, shift: int, axis: int | None = None, **named: Any) -> Tensor: return OPS["roll"](self, shift, axis, **named)
    def tile(self, *repeats: Any) -> Tensor: return OPS["tile"](self, repeats[0] if len(repeats) == 1 else repeats)
    def unbind(self, axis: int = 0, **named: Any) -> tuple[Tensor, ...]: return OPS["unbind"](self, axis, **named)
    def split(self, sizes: Any, axis: int = 0, **named: Any) -> tuple[Tensor, ...]: return OPS["split"](self, sizes, axis, **named)
    def chunk(self, chunks: int, axis: int = 0, **named: Any) -> tuple[Tensor, ...]: return OPS["chunk"](self, chunks, axis, **named)
    def masked_fill(self, mask: Any, value: Any) -> Tensor: return OPS["masked_fill"](self, mask, value)
    # fmt: on

    @property
    def T(self) -> Tensor:
        """The same elements with the axes in reverse order."""
        return OPS["permute"](self, tuple(range(self.ndim))[::-1])

    def __iter__(self) -> Iterator[Tensor]:
        if self.ndim == 0:
            raise TypeError("Tensor: a tensor with no axes cannot be iterated over")
        return iter(OPS["unbind"](self, 0))

    def __len__(self) -> int:
        shape = self.shape
        if not shape:
            raise TypeError("Tensor: a tensor with no axes has no length")
        return shape[0]

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec and self.size == 1 else repr(self)

    def __bool__(self) -> bool:
        array = self._read()
        return settled(array, bool(array))

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.dtype.kind not in "iu":
            raise TypeError(f"Tensor: only integers can be an index, got dtype {self.dtype}")
        return int(self.item())

    def __repr__(self) -> str:
        values = np.array2string(arrays.to_numpy(self.array), separator=", ", prefix="tensor(")
        parts = [values]
        if self.dtype not in (np.float32, np.int64, np.bool_):
            parts.append(f"dtype={self.dtype}")
        if self.device != "cpu":
            parts.append(f'device="{self.device}"')
        if self.requires_grad:
            op = getattr(self.node, "op", None)
            parts.append(f"op={op.name}" if op else "requires_grad=True")
        return f"tensor({', '.join(parts)})"


def describe_methods() -> None:
    """Give each method of one line the docstring of the op that it calls; once OPS is filled."""
    for method in vars(Tensor).values() if __doc__ else ():  # under -OO there are none
        if inspect.isfunction(method) and method.__doc__ is None and not method.__name__.startswith("_"):
            name = next(c for c in method.__code__.co_consts if isinstance(c, str) and c in OPS)
            method.__doc__ = f"`ops.{name}` of this tensor.\n\n{inspect.getdoc(OPS[name])}"


# NumPy's names for what is called otherwise here
UFUNCS = {
    "multiply": "mul", "subtract": "sub", "divide": "div", "negative": "neg", "power": "pow", "absolute": "abs",
    "remainder": "mod", "rint": "round",
}  # fmt: skip


def _mask(a: Any, sign: str) -> Any:
    """An operand of &, | or ~, which are those of masks."""
    dtype = getattr(a, "dtype", None if isinstance(a, bool) else type(a).__name__)
    if dtype is not None and dtype != np.bool_:
        raise TypeError(f"{sign}: operands must be masks (of booleans), got {dtype}; compare first, as in x > 0")
    return a


def not_recorded(function: Any) -> TypeError:
    """The refusal of one of NumPy's functions."""
    name = f"{getattr(function, '__module__', 'numpy').replace('numpy', 'np', 1)}.{function.__name__}"
    return TypeError(f"Tensor: {name} cannot be recorded; use tinygrad_rnn.ops, or .numpy() to leave the graph")


def host_values(t: Any) -> Any:
    """The values of a tensor in host memory, not copied; anything else as it is."""
    if not isinstance(t, Tensor):
        return t
    array = t._read()
    return settled(array, arrays.to_numpy(array))


class Parameter(Tensor):
    """A leaf that a Module trains: `self.W = nn.Parameter(tensor)`. Takes any values that `tensor` takes."""

    __slots__ = ()

    def __init__(self, values: Any, requires_grad: bool = True):
        made = tensor(values.detach() if isinstance(values, Tensor) else values)
        super().__init__(made.array)
        self.requires_grad_(requires_grad)


def tensor(values: Any, dtype: Any = None, device: str | None = None, requires_grad: bool = False) -> Tensor:
    """A new tensor with a copy of `values`: numbers, nested lists, an array of either library, or a tensor.

    An array keeps its dtype, in this machine's order of bytes, and, unless `device` says otherwise, its device. Python
    floats give float32.

    TypeError for a tensor that requires a gradient, whose copy would leave the graph; use it as it is, or detach() it.
    """
    if isinstance(values, Tensor):
        if values.requires_grad and context.recording:
            raise TypeError(
                "tensor: a copy of a tensor that requires a gradient would leave the graph; use it as it is, or "
                ".detach() it"
            )
        if context.trace is not None:  # a recorded step reads it anew at each call
            made = values.detach()
            return made if dtype is None else made.astype(dtype)
        values = values.array
    made = Tensor(array_of(values, dtype, device))
    return made.requires_grad_() if requires_grad else made


def refuse_deep_copy() -> Never:
    """RuntimeError: gradients would end at a copy."""
    raise RuntimeError(
        "Tensor: a deep copy has no history, no gradient would flow through it; write t + 0, or detach() it first"
    )


def zeros(*shape: Any, dtype: Any = np.float32, device: str | None = None) -> Tensor:
    """A tensor of zeros: zeros(2, 3) or zeros((2, 3))."""
    return _filled(0, shape, dtype, device)


def ones(*shape: Any, dtype: Any = np.float32, device: str | None = None) -> Tensor:
    """A tensor of ones: ones(2, 3) or ones((2, 3))."""
    return _filled(1, shape, dtype, device)


def _filled(value: float, shape: tuple, dtype: Any, device: str | None) -> Tensor:
    shape = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
    dtype = real_dtype(dtype, "ones" if value else "zeros")
    return Tensor(arrays.full(shape, value, dtype, device))


def swept(seeds: dict[Node, Any], wanted: set[Node] | None, create_graph: bool, retain: bool) -> dict[Any, Tensor]:
    """The gradients of the wanted nodes, or of all leaves, as tensors (see backward.sweep)."""
    if create_graph:
        with recording(True):
            return sweep(seeds, wanted, lift=Tensor, retain=retain)
    return {node: Tensor(_as_array(g, node)) for node, g in sweep(seeds, wanted, retain=retain).items()}


def _as_array(g: Any, node: Node) -> Array:
    """A gradient as an array of its own: never a numpy scalar, never a view of a broadcast value."""
    if isinstance(g, np.generic):
        return np.asarray(g)
    return g.copy() if 0 in getattr(g, "strides", ()) and g.size > 1 else g


def recorded_node(t: Tensor, who: str) -> Node:
    """The node of a tensor to which a gradient flows. TypeError or ValueError, named after who, if it has none."""
    if not isinstance(t, Tensor):
        raise TypeError(f"{who}: must get tensors, got {type(t).__name__}")
    if t.node is None or not t.node.tracked:
        raise ValueError(f"{who}: the tensor must be recorded, got one that does not require a gradient")
    return t.node


def seed_of(y: Tensor, g: Tensor | None, who: str, create_graph: bool) -> Any:
    """The gradient of y with which a sweep begins: g, or 1 for a scalar; a tensor with create_graph, else an array."""
    if g is None:
        if y.size != 1:
            raise ValueError(
                f"{who}: the output must be a scalar, got shape {y.shape}; give its gradient, or sum it first"
            )
        g = Tensor(xp(y.array).ones_like(y.array))
    elif not isinstance(g, Tensor):
        g = tensor(g, y.dtype, y.device)
    if g.shape != y.shape:
        raise ValueError(f"{who}: the gradient must have the output's shape {y.shape}, got {g.shape}")
    g = g.astype(y.dtype)
    return g if create_graph else g.array
