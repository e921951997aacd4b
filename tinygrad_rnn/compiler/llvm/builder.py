"""A small vocabulary to write loops over vectors in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tinygrad_rnn.compiler.llvm import assembly
from tinygrad_rnn.compiler.llvm.assembly import DOUBLE, FLOAT, I1, I8, I32, I64, VOID, Builder, Function, Module
from tinygrad_rnn.compiler.llvm.host import machine

# ---- writing --------------------------------------------------------------------------------------------------------


class Code:
    """A function under construction: 64-bit integers for sizes and addresses, vectors for numbers."""

    def __init__(
        self, module: Module, name: str, arguments: int, dtype: Any, *, inner: bool = False, said: bool = False
    ):  # fmt: skip
        """inner: only the module calls it  said: with comments, for people"""
        self.said = said
        self.module, self.dtype = module, np.dtype(dtype)
        _, _, width, self.heights = machine()
        self.item = self.dtype.itemsize
        self.lanes = width // self.item
        self.real = FLOAT if self.item == 4 else DOUBLE
        self.vector, self.mask = (assembly.vector(kind, self.lanes) for kind in (self.real, I1))
        self.function = Function(module, name, VOID, [I64] * arguments, inner)
        self.top, self.b = (Builder(self.function.block(n)) for n in ("entry", "body"))  # top: what is computed once
        self.top.branch(self.b.block)

    @property
    def arguments(self) -> list[Any]:
        return list(self.function.arguments)

    def finish(self) -> None:
        self.b.ret_void()

    def say(self, what: Any) -> None:
        """A comment."""
        if self.said and what is not None:
            self.b.comment(str(what))

    # ---- integers -------------------------------------------------------------------------------------------------

    @staticmethod
    def integer(n: int) -> Any:
        return assembly.constant(I64, n)

    def add(self, *terms: Any) -> Any:
        total = self._int(terms[0])
        for t in terms[1:]:
            t = self._int(t)
            total = self.b.add(total, t) if not _is_zero(t) else total
        return total

    def mul(self, a: Any, b: Any) -> Any:
        return self.b.mul(self._int(a), self._int(b))

    def _int(self, n: Any) -> Any:
        return self.integer(n) if isinstance(n, int) else n

    @contextmanager
    def loop(self, start: Any, stop: Any, step: int = 1, *, down: bool = False) -> Iterator[Any]:
        """for i in range(start, stop, step); down: the same, backwards."""
        b, start, stop = self.b, self._int(start), self._int(stop)
        before = b.block
        head, body, end = (self.function.block(n) for n in ("head", "loop", "end"))
        b.branch(head)
        b.block = head
        i, later = b.phi(stop if down else start, before)
        b.cbranch(b.icmp_signed(">", i, start) if down else b.icmp_signed("<", i, stop), body, end)
        b.block = body
        now = b.sub(i, self.integer(step)) if down else i
        yield now
        later(now if down else b.add(i, self.integer(step)), b.block)
        b.branch(head)
        b.block = end

    def over(self, start: Any, stop: Any, body: Callable[[Any, Any], None]) -> None:
        """body(i, mask) for each vector of elements from start to stop; mask is None where all lanes count."""
        b, start, stop = self.b, self._int(start), self._int(stop)
        whole = b.add(start, b.and_(b.sub(stop, start), self.integer(-self.lanes)))
        with self.loop(start, whole, self.lanes) as i:
            body(i, None)
        with self.loop(whole, stop, self.lanes) as i:  # once, or not at all
            body(i, self.first(b.sub(stop, i)))

    def first(self, n: Any) -> Any:
        """The mask of the first n lanes."""
        b = self.b
        kind = assembly.vector(I64, self.lanes)
        return b.icmp_signed("<", assembly.constants(kind, range(self.lanes)), self._spread(n, kind))

    # ---- memory ---------------------------------------------------------------------------------------------------

    def load_integer(self, address: Any, i: int = 0) -> Any:
        """The i-th of the integers at an address."""
        return self.b.load(self._pointer(self.add(address, 8 * i), I64))

    def _pointer(self, address: Any, kind: Any) -> Any:
        return self.b.inttoptr(address, f"{kind}*")

    def load(self, address: Any, mask: Any = None) -> Any:
        """The vector at an address."""
        b, kind = self.b, self.vector
        if mask is None:
            return b.load(self._pointer(address, kind), self.item)
        pointer = self._pointer(address, kind)
        f = self.intrinsic(f"masked.load.{self._suffix()}.p0", kind, [pointer.type, I32, self.mask, kind])
        return b.call(f, [pointer, assembly.constant(I32, self.item), mask, self.constant(0.0)])

    def store(self, value: Any, address: Any, mask: Any = None) -> None:
        """Write a vector."""
        b, pointer = self.b, self._pointer(address, value.type)
        if mask is None:
            b.store(value, pointer, self.item)
            return
        f = self.intrinsic(f"masked.store.{self._suffix()}.p0", VOID, [value.type, pointer.type, I32, self.mask])
        b.call(f, [value, pointer, assembly.constant(I32, self.item), mask])

    def load_flags(self, address: Any, mask: Any = None) -> Any:
        """The booleans at an address, as a mask."""
        b, kind = self.b, assembly.vector(I8, self.lanes)
        pointer, none = self._pointer(address, kind), assembly.constant(kind, 0)
        if mask is None:
            found = b.load(pointer, 1)
        else:
            f = self.intrinsic(f"masked.load.v{self.lanes}i8.p0", kind, [pointer.type, I32, self.mask, kind])
            found = b.call(f, [pointer, assembly.constant(I32, 1), mask, none])
        return b.icmp_signed("!=", found, none)

    def store_flags(self, flags: Any, address: Any, mask: Any = None) -> None:
        """Write a mask as booleans."""
        b, kind = self.b, assembly.vector(I8, self.lanes)
        pointer, value = self._pointer(address, kind), b.zext(flags, kind)
        if mask is None:
            b.store(value, pointer, 1)
        else:
            f = self.intrinsic(f"masked.store.v{self.lanes}i8.p0", VOID, [kind, pointer.type, I32, self.mask])
            b.call(f, [value, pointer, assembly.constant(I32, 1), mask])

    def flag(self, address: Any) -> Any:
        """The boolean at an address, as a mask of all lanes."""
        one = self.b.icmp_signed("!=", self.b.load(self._pointer(address, I8)), assembly.constant(I8, 0))
        return self._spread(one, self.mask)

    def load_one(self, address: Any) -> Any:
        """The number at an address."""
        return self.b.load(self._pointer(address, self.real), self.item)

    def store_one(self, value: Any, address: Any) -> None:
        """Write a number."""
        self.b.store(value, self._pointer(address, self.real), self.item)

    # ---- vectors --------------------------------------------------------------------------------------------------

    def _suffix(self) -> str:
        return f"v{self.lanes}f{8 * self.item}"

    def constant(self, x: float) -> Any:
        """A vector of one number."""
        return assembly.constant(self.vector, x)

    def spread(self, x: Any) -> Any:
        """A vector of one number that was computed."""
        return self._spread(x, self.vector)

    def _spread(self, x: Any, kind: Any) -> Any:
        b = self.b
        nothing, first = assembly.undefined(kind), assembly.constant(assembly.vector(I32, self.lanes), 0)
        return b.shuffle_vector(b.insert_element(nothing, x, assembly.constant(I32, 0)), nothing, first)

    def intrinsic(self, name: str, result: Any, arguments: list[Any]) -> Any:
        """One of LLVM's own functions."""
        return self.external("llvm." + name, result, arguments)

    def external(self, name: str, result: Any, arguments: list[Any]) -> Any:
        """A function of another module."""
        found = self.module.functions.get(name)
        return found or Function(self.module, name, result, arguments)

    def unary(self, name: str, x: Any) -> Any:
        """One of LLVM's functions of a vector."""
        return self.b.call(self.intrinsic(f"{name}.{self._suffix()}", self.vector, [self.vector]), [x])

    def binary(self, name: str, x: Any, y: Any) -> Any:
        """One of LLVM's functions of two vectors."""
        return self.b.call(self.intrinsic(f"{name}.{self._suffix()}", self.vector, [self.vector] * 2), [x, y])

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        """a * b + c"""
        return self.b.call(self.intrinsic(f"fma.{self._suffix()}", self.vector, [self.vector] * 3), [a, b, c])

    def total(self, x: Any) -> Any:
        """The sum of the lanes, a number."""
        f = self.intrinsic(f"vector.reduce.fadd.{self._suffix()}", self.real, [self.real, self.vector])
        return self.b.call(f, [assembly.constant(self.real, 0.0), x], " reassoc")

    def extreme(self, x: Any, which: str) -> Any:
        """The largest ("maximum") or smallest ("minimum") lane, a number; NaN if there is one."""
        return self.b.call(self.intrinsic(f"vector.reduce.f{which}.{self._suffix()}", self.real, [self.vector]), [x])

    def each(self, name: str, *xs: Any) -> Any:
        """A function of the C library, lane by lane."""
        b = self.b
        f = self.external(name + ("f" if self.item == 4 else ""), self.real, [self.real] * len(xs))
        out = assembly.undefined(self.vector)
        for i in range(self.lanes):
            at = assembly.constant(I32, i)
            out = b.insert_element(out, b.call(f, [b.extract_element(x, at) for x in xs]), at)
        return out

    def rarely(self, where: Any, usual: Any, other: Callable[[], Any]) -> Any:
        """`usual`, but where a mask says so what `other` writes, which runs only if it says so somewhere."""
        found = self.top.alloca(self.vector)
        self.b.store(usual, found)
        some = self.intrinsic(f"vector.reduce.or.v{self.lanes}i1", I1, [self.mask])
        with self.b.if_then(self.b.call(some, [where])):
            self.b.store(self.b.select(where, other(), usual), found)
        return self.b.load(found)


def _is_zero(n: Any) -> bool:
    return n.name == "0"
