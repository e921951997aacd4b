"""Module: a named tree of parameters, whose calls are scopes in the graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from operator import is_
from pathlib import Path
from types import NoneType
from typing import Any, ParamSpec, Protocol, Self, TypeVar

import numpy as np

from tinygrad_rnn.autograd import arrays
from tinygrad_rnn.autograd.graph import ModuleName, context
from tinygrad_rnn.autograd.tensor import Parameter, Tensor, host_values, tensor
from tinygrad_rnn.files import write_atomically
from tinygrad_rnn.nn.variable_names import Reader

Given = ParamSpec("Given")
Returned = TypeVar("Returned")
Returns = TypeVar("Returns", covariant=True)


@contextmanager
def in_evaluation(module: Module) -> Iterator[None]:
    """Inside the block dropout does nothing; then each part trains as before, or not."""
    was = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in was:
            part.__dict__["training"] = training


class Callee(Protocol[Given, Returns]):
    """A module as a type checker sees it that is called: it takes and returns what its forward does."""

    _name: ModuleName

    def forward(self, *args: Given.args, **kwargs: Given.kwargs) -> Returns: ...


class Module:
    """A part of a model: set parameters and modules as attributes in __init__, write `forward`.

    Lists, tuples and dicts of modules and parameters are found too. Parameters are listed in the order in which they
    were first set: the order of files, of optimiser states, and of every loop over them.

    Other tensors and arrays of numbers that are set as attributes are buffers (running statistics, masks): nobody
    trains them, but `state_dict` holds them beside the parameters, and `to` moves them. What is only kept for a while
    is not in `state_dict`: names with a leading underscore, those that were first set during a call of a module
    (outputs kept to be looked at) or to None (a memory that is set for each batch), and those of `register_buffer(name,
    value, persistent=False)`. What asks for a gradient, or was computed from something that does, is no buffer.
    """

    training: bool = True
    _name: ModuleName
    _declared: Mapping[str, bool] = {}  # buffers of which it is known whether they belong in state_dict

    def __new__(cls, *_: Any, **__: Any) -> Self:
        made = super().__new__(cls)
        made.__dict__["_name"] = ModuleName(cls.__name__, cls.__name__)  # its own, until it is a part of another
        return made

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the outputs from the inputs; define it, and call the module itself, not this."""
        raise NotImplementedError(f"{type(self).__name__}: must define forward")

    def __call__(self: Callee[Given, Returned], *args: Given.args, **kwargs: Given.kwargs) -> Returned:
        outer, name = context.scope, self._name
        context.scope = (*outer, name)
        try:
            if name.unread and context.recording and context.trace is None:
                return Reader(type(self).forward)(self, args, kwargs)
            return self.forward(*args, **kwargs)
        finally:
            context.scope = outer

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(self.__dict__.get(name), Parameter) and not isinstance(value, (Parameter, NoneType)):
            self._refuse_parameter(name, value)
        if isinstance(value, np.generic) and _is_array(self.__dict__.get(name)):
            value = np.asarray(value)  # NumPy makes a scalar of a counter without axes + 1: it stays a buffer
        if name not in self._declared and _holds_buffer(value) and not self._is_for_good(name):
            self.__dict__["_declared"] = {**self._declared, name: False}
        for path, part in _parts(name, value):
            if isinstance(part, Module):
                part.__dict__["_name"] = ModuleName(path, type(part).__name__)
            elif isinstance(part, Parameter) and not part.name:
                part.name = path
            elif context.trace is None and name not in self.__dict__ and _is_plain_leaf(part):
                raise TypeError(
                    f"{type(self).__name__}.{path}: what is trained must be an nn.Parameter, got a plain tensor that "
                    "requires a gradient; wrap it"
                )
        super().__setattr__(name, value)

    def _refuse_parameter(self, name: str, value: Any) -> None:
        """TypeError for what would take the place of a parameter, and not be trained."""
        where = f"{type(self).__name__}.{name}: a parameter must be an nn.Parameter or None, got "
        if isinstance(value, Tensor) and not value.is_leaf:
            how = "compute it in forward, where it is needed, or wrap its values in nn.Parameter"
            raise TypeError(f"{where}a tensor that was computed; {how}")
        if _is_array(value):
            raise TypeError(f"{where}an array; wrap it, or give this one other values by {name}.data = …")

    # ---- the tree -------------------------------------------------------------------------------------------------

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) for the modules set on this one."""
        yield from ((name, part) for name, part in self._attributes() if isinstance(part, Module))

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """(path, module) for this module and all below it."""
        yield prefix, self
        for name, module in self.named_children():
            yield from module.named_modules(f"{prefix}.{name}" if prefix else name)

    def modules(self) -> Iterator[Module]:
        """This module and all modules in it, at any depth, each once."""
        yield from (module for _, module in self.named_modules())

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """(path, parameter) in the order of definition; one that is set in several places comes once."""
        seen: set[int] = set()
        for path, parameter in self._all_parameters(prefix):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                yield path, parameter

    def parameters(self) -> Iterator[Parameter]:
        """The parameters in the order of definition."""
        yield from (parameter for _, parameter in self.named_parameters())

    def _all_parameters(self, prefix: str) -> Iterator[tuple[str, Parameter]]:
        for name, part in self._attributes():
            path = f"{prefix}.{name}" if prefix else name
            if isinstance(part, Parameter):
                yield path, part
            elif isinstance(part, Module):
                yield from part._all_parameters(path)

    def register_buffer(self, name: str, value: Any, persistent: bool = True) -> None:
        """Set a tensor, an array or None as an attribute, as PyTorch calls it.

        persistent: does it belong in `state_dict`? Also what is set under the name later
        """
        if value is not None and not isinstance(value, Tensor) and not _is_array(value):
            raise TypeError(
                f"{type(self).__name__}.register_buffer: {name!r} must be a tensor, an array or None, got a "
                f"{type(value).__name__}"
            )
        self.__dict__["_declared"] = {**self._declared, name: persistent}
        setattr(self, name, value)

    def _is_for_good(self, name: str) -> bool:
        """Does a buffer that is set now belong in state_dict? One that was one stays one."""
        if name in self.__dict__:
            return isinstance(self.__dict__[name], Tensor) or _holds_buffer(self.__dict__[name])
        return not any(isinstance(part, ModuleName) for part in context.scope)

    def named_buffers(self, prefix: str = "") -> Iterator[tuple[str, Any]]:
        """(path, buffer) for the tensors and the arrays of numbers that are no parameters."""
        yield from ((path, buffer) for path, buffer, _ in self._all_buffers(prefix))

    def buffers(self) -> Iterator[Any]:
        """The tensors and the arrays of numbers that are no parameters."""
        yield from (buffer for _, buffer in self.named_buffers())

    def _all_buffers(self, prefix: str = "") -> Iterator[tuple[str, Any, bool]]:
        """(path, buffer, does it belong in state_dict?)"""
        for path, module in self.named_modules(prefix):
            for attribute, value in vars(module).items():
                kept = module._declared.get(attribute, not attribute.startswith("_"))
                start = f"{path}.{attribute}" if path else attribute
                yield from ((at, part, kept) for at, part in _parts(start, value) if _is_buffer(part))

    def _change_buffers(self, change: Callable[[str, Any], Any]) -> None:
        """Put change(path, buffer) in place of each buffer."""
        for path, module in self.named_modules():
            for name, value in list(vars(module).items()):
                new = _changed(f"{path}.{name}" if path else name, value, change)
                if new is not value:
                    module.__dict__[name] = new

    def _by_path(self) -> dict[str, Any]:
        """The parameters, then the buffers that belong in state_dict."""
        found: dict[str, Any] = {}
        buffers = [(path, buffer) for path, buffer, kept in self._all_buffers() if kept]
        for path, part in [*self._all_parameters(""), *buffers]:
            if found.setdefault(path, part) is not part:
                raise ValueError(f"{type(self).__name__}: two parameters are called {path!r}; name them apart")
        return found

    def _attributes(self) -> Iterator[tuple[str, Any]]:
        for name, value in vars(self).items():
            yield from _parts(name, value)

    # ---- what holds for all of it ---------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Self:
        """Training (dropout drops) or, with False, evaluation; returns itself."""
        for module in self.modules():
            module.__dict__["training"] = mode
        return self

    def eval(self) -> Self:
        """Evaluation: dropout does nothing; returns itself."""
        return self.train(False)

    def to(self, target: Any) -> Self:
        """Move every parameter and buffer to a device ("cpu", "gpu", "gpu:1"), or cast it to a dtype; returns itself.

        Buffers of integers and booleans are not cast.
        """
        for parameter in self.parameters():
            moved = parameter.detach().to(target)
            parameter.array, grad = moved.array, parameter.grad
            if parameter.node is not None:
                parameter.node.dtype = moved.dtype
            if grad is not None:
                parameter.grad = grad.to(target)
        self._change_buffers(lambda _, buffer: _moved(buffer, target))
        return self

    def zero_grad(self) -> None:
        """Set the gradient of every parameter to None; call it before the next backward."""
        for parameter in self.parameters():
            parameter.grad = None

    # ---- values ---------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, np.ndarray]:
        """A copy of the values of every parameter, and then of every buffer, in host memory, by path."""
        return {path: np.array(host_values(part)) for path, part in self._by_path().items()}

    def save(self, path: str | Path) -> None:
        """Write `state_dict` as a safetensors file, whole or not at all."""
        from safetensors.numpy import save  # noqa: PLC0415 it takes 10 ms

        write_atomically(Path(path), save({name: np.ascontiguousarray(a) for name, a in self.state_dict().items()}))

    def load(self, path: str | Path) -> None:
        """Take the values of a file that `save` has written, by `load_state_dict`. ValueError for another file."""
        from safetensors import SafetensorError  # noqa: PLC0415
        from safetensors.numpy import load  # noqa: PLC0415

        try:
            values = load(Path(path).read_bytes())
        except SafetensorError as error:
            raise ValueError(
                f"{type(self).__name__}.load: {str(path)!r} is no safetensors file of arrays ({error})"
            ) from None
        self.load_state_dict(values)

    def load_state_dict(self, values: Mapping[str, Any]) -> None:
        """Take the values of `state_dict`; names and shapes must be the same, and are checked before any is taken.

        A tensor stays the same object with other values, and an array that can be written stays the same array.
        """
        if not isinstance(values, Mapping):
            who, got = type(self).__name__, type(values).__name__
            raise TypeError(f"{who}.load_state_dict: values must be arrays by name, as of state_dict(), got {got}")
        mine = self._by_path()
        missing, unknown = mine.keys() - values.keys(), values.keys() - mine.keys()
        if missing or unknown:
            raise ValueError(
                f"{type(self).__name__}.load_state_dict: the names must be the same, "
                f"missing {sorted(missing) or 'none'}, not in the module {sorted(unknown) or 'none'}"
            )
        for path, part in mine.items():
            if tuple(np.shape(values[path])) != part.shape:
                raise ValueError(
                    f"{type(self).__name__}.load_state_dict: {path} must have shape {part.shape}, "
                    f"got {tuple(np.shape(values[path]))}"
                )
        new = {path: self._taken(path, values[path], _array(part)) for path, part in mine.items()}
        for path, part in mine.items():
            if isinstance(part, Tensor):
                part.array = new[path]
        self._change_buffers(lambda path, buffer: _filled(buffer, new[path]) if path in new else buffer)

    def _taken(self, path: str, value: Any, like: Any) -> Any:
        """A value as an array like another one: in its dtype, on its device."""
        value = value.detach() if isinstance(value, Tensor) else value
        try:
            return arrays.move(tensor(value, like.dtype, "cpu").array, arrays.device_of(like))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{type(self).__name__}.load_state_dict: {path} must be numbers ({error})") from None

    def __repr__(self) -> str:
        parts = [f"  {name}: {repr(child).replace(chr(10), chr(10) + '  ')}" for name, child in self.named_children()]
        parts += [f"  {name}: {p.shape}" for name, p in self._attributes() if isinstance(p, Parameter)]
        return "\n".join([f"{type(self).__name__}(", *parts, ")"]) if parts else f"{type(self).__name__}()"


def _is_plain_leaf(t: Any) -> bool:
    """Does it look like a parameter that nobody would train or save?"""
    return isinstance(t, Tensor) and t.requires_grad and t.is_leaf and not isinstance(t, Parameter)


def _is_buffer(part: Any) -> bool:
    """Is it a tensor or an array of numbers that nobody trains?"""
    if isinstance(part, Tensor):
        return not isinstance(part, Parameter) and not part.requires_grad
    return _is_array(part) and part.dtype.kind in "fiub"


def _holds_buffer(value: Any) -> bool:
    return any(_is_buffer(part) for _, part in _parts("", value))


def _is_array(value: Any) -> bool:
    return arrays.is_array(value) and not isinstance(value, np.generic)


def _array(part: Any) -> Any:
    return part.array if isinstance(part, Tensor) else part


def _moved(buffer: Any, target: Any) -> Any:
    """A buffer on another device or in another dtype: a tensor or an array, as it was."""
    moved = Tensor(_array(buffer)).to(target)
    if moved.array is _array(buffer) or (buffer.dtype.kind != "f" and moved.dtype != buffer.dtype):
        return buffer
    return moved if isinstance(buffer, Tensor) else moved.array


def _filled(buffer: Any, values: Any) -> Any:
    """A buffer with other values: a tensor has them already."""
    if isinstance(buffer, Tensor) or not getattr(buffer.flags, "writeable", True):
        return buffer if isinstance(buffer, Tensor) else values
    buffer[...] = values
    return buffer


def _changed(path: str, value: Any, change: Callable[[str, Any], Any]) -> Any:
    """An attribute with change(path, buffer) in place of each buffer in it; lists and dicts stay the same ones."""
    if isinstance(value, dict):
        for key, part in value.items():
            value[key] = _changed(f"{path}.{key}", part, change)
    elif isinstance(value, (list, tuple)):
        parts = [_changed(f"{path}.{i}", part, change) for i, part in enumerate(value)]
        if not all(map(is_, parts, value)):
            if isinstance(value, tuple):
                return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
            value[:] = parts
    elif _is_buffer(value):
        return change(path, value)
    return value


def _parts(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The modules, tensors and arrays in an attribute: itself, or those in a list, tuple or dict, with dotted names."""
    if isinstance(value, (Module, Tensor)) or _is_array(value):
        yield name, value
    elif isinstance(value, (list, tuple)):
        for i, part in enumerate(value):
            yield from _parts(f"{name}.{i}", part)
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _parts(f"{name}.{key}", part)
