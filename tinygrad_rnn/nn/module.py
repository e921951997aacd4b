"""Module: a named tree of parameters, whose calls are scopes in the graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Self

import numpy as np

from tinygrad_rnn import backend
from tinygrad_rnn.graph import ModuleName, state
from tinygrad_rnn.nn.variables import Reader
from tinygrad_rnn.tensor import Parameter, Tensor, tensor


class Module:
    """A part of a model: set parameters and modules as attributes in __init__, write `forward`.

    Lists, tuples and dicts of modules and parameters are found too. Parameters are listed in the order in which they
    were first set: the order of files, of optimiser states, and of every loop over them.
    """

    training: bool = True
    _name: ModuleName | None = None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes."""
        raise NotImplementedError(f"{type(self).__name__}: must define forward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        outer, name = state.scope, self._name
        if name is None:
            name = self.__dict__["_name"] = ModuleName(type(self).__name__, type(self).__name__)
        state.scope = (*outer, name)
        try:
            if name.variables is None and state.recording and state.trace is None:
                return Reader(type(self).forward)(self, args, kwargs)
            return self.forward(*args, **kwargs)
        finally:
            state.scope = outer

    def __setattr__(self, name: str, value: Any) -> None:
        for path, part in _parts(name, value):
            if isinstance(part, Module):
                part.__dict__["_name"] = ModuleName(path, type(part).__name__)
            elif isinstance(part, Parameter) and not part.name:
                part.name = path
            elif isinstance(part, Tensor) and name not in self.__dict__ and _is_plain_leaf(part):
                raise TypeError(
                    f"{type(self).__name__}.{path}: what is trained must be an nn.Parameter, got a plain tensor that "
                    "requires a gradient; wrap it"
                )
        super().__setattr__(name, value)

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
        """This module and all below it."""
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

    def _by_path(self) -> dict[str, Parameter]:
        found: dict[str, Parameter] = {}
        for path, parameter in self._all_parameters(""):
            if found.setdefault(path, parameter) is not parameter:
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
        """Move every parameter to a device ("cpu", "gpu", "gpu:1"), or cast it to a dtype; returns itself."""
        for parameter in self.parameters():
            moved = parameter.detach().to(target)
            parameter.array, grad = moved.array, parameter.grad
            if parameter.node is not None:
                parameter.node.dtype = moved.dtype
            if grad is not None:
                parameter.grad = grad.to(target)
        return self

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters():
            parameter.grad = None

    # ---- values ---------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, np.ndarray]:
        """A copy of every parameter's values in host memory, by path."""
        return {path: parameter.numpy() for path, parameter in self._by_path().items()}

    def load_state_dict(self, values: Mapping[str, Any]) -> None:
        """Take the values of `state_dict`; names and shapes must be the same, and are checked before any is taken."""
        mine = self._by_path()
        missing, unknown = mine.keys() - values.keys(), values.keys() - mine.keys()
        if missing or unknown:
            raise ValueError(
                f"{type(self).__name__}.load_state_dict: the names must be the same, "
                f"missing {sorted(missing) or 'none'}, not in the module {sorted(unknown) or 'none'}"
            )
        for path, parameter in mine.items():
            if tuple(np.shape(values[path])) != parameter.shape:
                raise ValueError(
                    f"{type(self).__name__}.load_state_dict: {path} must have shape {parameter.shape}, "
                    f"got {tuple(np.shape(values[path]))}"
                )
        new = {path: self._taken(path, values[path], parameter) for path, parameter in mine.items()}
        for path, parameter in mine.items():
            parameter.array = new[path]

    def _taken(self, path: str, value: Any, parameter: Parameter) -> Any:
        """A value as a parameter's array: in its dtype, on its device."""
        try:
            return backend.move(tensor(value, parameter.dtype, "cpu").array, parameter.device)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{type(self).__name__}.load_state_dict: {path} must be numbers ({error})") from None

    def __repr__(self) -> str:
        parts = [f"  {name}: {repr(child).replace(chr(10), chr(10) + '  ')}" for name, child in self.named_children()]
        parts += [f"  {name}: {p.shape}" for name, p in self._attributes() if isinstance(p, Parameter)]
        return "\n".join([f"{type(self).__name__}(", *parts, ")"]) if parts else f"{type(self).__name__}()"


def _is_plain_leaf(t: Tensor) -> bool:
    """Does it look like a parameter that nobody would train or save?"""
    return t.requires_grad and t.is_leaf and not isinstance(t, Parameter)


def _parts(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The modules and tensors in an attribute: itself, or what a list, tuple or dict holds, with dotted names."""
    if isinstance(value, (Module, Tensor)):
        yield name, value
    elif isinstance(value, (list, tuple)):
        for i, part in enumerate(value):
            yield from _parts(f"{name}.{i}", part)
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _parts(f"{name}.{key}", part)
