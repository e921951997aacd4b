"""LLVM's assembly language, written line by line; what LLVM reads is the text of a `Module`.

Types are what the text calls them: "i64", "<8 x float>", "float*", "void (i64, i64)*". Whether they fit together LLVM
checks where it reads the text.
"""

from __future__ import annotations

import functools
import struct

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

I1, I8, I16, I32, I64, FLOAT, DOUBLE, VOID = "i1", "i8", "i16", "i32", "i64", "float", "double", "void"


class Value(NamedTuple):
    """A number, or a vector of them, or where one is: its type, and what the text calls it."""

    type: str
    name: str


# ---- types and constants --------------------------------------------------------------------------------------------


def vector(element: str, lanes: int) -> str:
    """The type of a vector."""
    return f"<{lanes} x {element}>"


def function(result: str, arguments: Sequence[str]) -> str:
    """The type of where a function is."""
    return f"{result} ({', '.join(arguments)})*"


def _element(kind: str) -> str:
    """Of what a vector is."""
    return kind[kind.index("x") + 2 : -1]


def _like(kind: str, element: str) -> str:
    """The type of as many elements of another type."""
    return f"{kind[: kind.index('x')]}x {element}>" if kind[0] == "<" else element


def undefined(kind: str) -> Value:
    """A vector of which nothing is known."""
    return _filled(kind, "undef")


def constant(kind: str, x: float) -> Value:
    """A number; as a vector, in all of its lanes."""
    if kind[0] == "<":
        return _filled(kind, constant(_element(kind), x).name)
    return Value(kind, _real(kind, x) if kind in (FLOAT, DOUBLE) else str(x))


def constants(kind: str, xs: Sequence[int]) -> Value:
    """A vector of whole numbers."""
    element = _element(kind)
    return Value(kind, f"<{', '.join([f'{element} {x}' for x in xs])}>")


@functools.lru_cache(1024)
def _filled(kind: str, name: str) -> Value:
    one = f"{_element(kind)} {name}"
    return Value(kind, f"<{', '.join([one] * int(kind[1 : kind.index(' ')]))}>")


def _real(kind: str, x: float) -> str:
    """The bits of a float64, as LLVM says numbers of both kinds."""
    rounded = float(np.float32(x)) if kind == FLOAT else float(x)
    return f"{struct.unpack('Q', struct.pack('d', rounded))[0]:#16x}"


# ---- modules and functions ------------------------------------------------------------------------------------------


class Module:
    """Functions by name: those that are written in it, and those that it calls."""

    def __init__(self, name: str):
        self.name, self.functions = name, dict[str, Function]()

    def __str__(self) -> str:
        head = f'; ModuleID = "{self.name}"\ntarget triple = "unknown-unknown-unknown"\ntarget datalayout = ""\n'
        return "\n".join([head, *map(str, self.functions.values())])


class Function:
    """A function; without blocks it is one of another module.

    type, name  as a `Value` has them, for calls
    inner       only its module calls it
    """

    def __init__(self, module: Module, name: str, result: str, arguments: Sequence[str], inner: bool = False):
        self.result, self.inner, self.type, self.name = result, inner, function(result, arguments), f'@"{name}"'
        self.arguments = [Value(kind, f'%".{i}"') for i, kind in enumerate(arguments, 1)]
        self.blocks: list[Block] = []
        self.lines = len(arguments) + 1  # what is computed in a line has its number as its name
        self.names: dict[str, int] = {}
        module.functions[name] = self

    def block(self, name: str) -> Block:
        """A new block, behind the others."""
        n = self.names[name] = self.names.get(name, -1) + 1
        self.blocks.append(Block(self, f"{name}.{n}" if n else name))
        return self.blocks[-1]

    def __str__(self) -> str:
        arguments = ", ".join([f"{a.type} {a.name}" for a in self.arguments])
        head = f"{self.result} {self.name}({arguments})\n"
        if not self.blocks:
            return f"declare {head}"
        return f"define {'internal ' if self.inner else ''}{head}{{\n{''.join(map(str, self.blocks))}}}\n"


class Block:
    """Lines that run one after the other, and the one that says where it goes on."""

    def __init__(self, function: Function, name: str):
        self.function, self.name = function, name
        self.lines: list[str] = []
        self.end = ""

    def __str__(self) -> str:
        return "\n  ".join([f"{self.name}:", *self.lines, self.end]) + "\n"


# ---- instructions ---------------------------------------------------------------------------------------------------

SIGNS = {">": "gt", "<": "lt", "==": "eq", "!=": "ne", ">=": "ge", "<=": "le"}


def _binary(operation: str) -> Callable[..., Value]:
    def write(self: Builder, x: Value, y: Value, flags: str = "") -> Value:
        return self._computed(x.type, f"{operation}{flags} {x.type} {x.name}, {y.name}")

    return write


def _cast(operation: str) -> Callable[..., Value]:
    def write(self: Builder, x: Value, kind: str) -> Value:
        return x if x.type == kind else self._computed(kind, f"{operation} {x.type} {x.name} to {kind}")

    return write


class Builder:
    """Writes at the end of a block."""

    def __init__(self, block: Block):
        self.block = block

    def _computed(self, kind: str, line: str) -> Value:
        block = self.block
        block.function.lines += 1
        name = f'%".{block.function.lines}"'
        block.lines.append(f"{name} = {line}")
        return Value(kind, name)

    def _done(self, line: str) -> None:
        self.block.function.lines += 1
        self.block.lines.append(line)

    def comment(self, text: str) -> None:
        """A line for people."""
        self._done(f"; {text}")

    add, sub, mul, sdiv, shl, ashr, and_, or_, xor = map(
        _binary, ("add", "sub", "mul", "sdiv", "shl", "ashr", "and", "or", "xor")
    )
    fadd, fsub, fmul, fdiv = map(_binary, ("fadd", "fsub", "fmul", "fdiv"))
    inttoptr, ptrtoint, bitcast = map(_cast, ("inttoptr", "ptrtoint", "bitcast"))
    zext, sitofp, fptrunc = map(_cast, ("zext", "sitofp", "fptrunc"))

    def fneg(self, x: Value) -> Value:
        """-x"""
        return self._computed(x.type, f"fneg {x.type} {x.name}")

    def icmp_signed(self, sign: str, x: Value, y: Value) -> Value:
        """A comparison of whole numbers."""
        which = SIGNS[sign] if sign in ("==", "!=") else f"s{SIGNS[sign]}"
        return self._computed(_like(x.type, I1), f"icmp {which} {x.type} {x.name}, {y.name}")

    def fcmp_ordered(self, sign: str, x: Value, y: Value) -> Value:
        """A comparison that is false where there is NaN."""
        return self._computed(_like(x.type, I1), f"fcmp o{SIGNS[sign]} {x.type} {x.name}, {y.name}")

    def fcmp_unordered(self, sign: str, x: Value, y: Value) -> Value:
        """A comparison that is true where there is NaN; "uno": only there."""
        which = f"u{SIGNS[sign]}" if sign in SIGNS else sign
        return self._computed(_like(x.type, I1), f"fcmp {which} {x.type} {x.name}, {y.name}")

    def select(self, condition: Value, x: Value, y: Value) -> Value:
        """x if the condition holds, else y; lane by lane."""
        line = f"select  {condition.type} {condition.name}, {x.type} {x.name}, {y.type} {y.name}"
        return self._computed(x.type, line)

    # ---- memory -----------------------------------------------------------------------------------------------------

    def alloca(self, kind: str) -> Value:
        """Where there is memory for one of a type, as long as the function runs."""
        return self._computed(f"{kind}*", f"alloca {kind}")

    def load(self, where: Value, align: int = 0) -> Value:
        """What is there. align: its address is a multiple of so many bytes, else of its size"""
        kind, aligned = where.type[:-1], f", align {align}" if align else ""
        return self._computed(kind, f"load {kind}, {where.type} {where.name}{aligned}")

    def store(self, x: Value, where: Value, align: int = 0) -> None:
        """Write it there."""
        aligned = f", align {align}" if align else ""
        self._done(f"store {x.type} {x.name}, {where.type} {where.name}{aligned}")

    def load_atomic(self, where: Value, ordering: str, align: int) -> Value:
        """What is there, as other threads see it."""
        kind = where.type[:-1]
        return self._computed(kind, f"load atomic {kind}, {where.type} {where.name} {ordering}, align {align}")

    def store_atomic(self, x: Value, where: Value, ordering: str, align: int) -> None:
        """Write it there, as other threads see it."""
        self._done(f"store atomic {x.type} {x.name}, {where.type} {where.name} {ordering}, align {align}")

    # ---- vectors ----------------------------------------------------------------------------------------------------

    def extract_element(self, x: Value, at: Value) -> Value:
        """A lane."""
        return self._computed(_element(x.type), f"extractelement {x.type} {x.name}, {at.type} {at.name}")

    def insert_element(self, x: Value, lane: Value, at: Value) -> Value:
        """x with another number in a lane."""
        line = f"insertelement {x.type} {x.name}, {lane.type} {lane.name}, {at.type} {at.name}"
        return self._computed(x.type, line)

    def shuffle_vector(self, x: Value, y: Value, which: Value) -> Value:
        """The lanes of x, then y, whose numbers are given."""
        line = f"shufflevector {x.type} {x.name}, {y.type} {y.name}, {which.type} {which.name}"
        return self._computed(x.type, line)

    # ---- what runs next ---------------------------------------------------------------------------------------------

    def call(self, f: Function | Value, arguments: Sequence[Value], flags: str = "") -> Any:
        """The result of a function, or of what is at an address."""
        result = f.type.partition(" (")[0]
        line = f"call{flags} {result} {f.name}({', '.join([f'{a.type} {a.name}' for a in arguments])})"
        return self._done(line) if result == VOID else self._computed(result, line)

    def phi(self, x: Value, before: Block) -> tuple[Value, Callable[[Value, Block], None]]:
        """What is x if this block comes after the one before; and what says what it is after another one."""
        lines, at = self.block.lines, len(self.block.lines)
        found = self._computed(x.type, "")

        def also(y: Value, after: Block) -> None:
            lines[at] = f'{found.name} = phi  {x.type} [{x.name}, %"{before.name}"], [{y.name}, %"{after.name}"]'

        return found, also

    def _end(self, line: str) -> None:
        self.block.function.lines += 1
        self.block.end = line

    def branch(self, to: Block) -> None:
        """Go on there."""
        self._end(f'br label %"{to.name}"')

    def cbranch(self, condition: Value, then: Block, otherwise: Block) -> None:
        """Go on at one of two blocks."""
        self._end(f'br i1 {condition.name}, label %"{then.name}", label %"{otherwise.name}"')

    def ret_void(self) -> None:
        """Go back to the caller."""
        self._end("ret void")

    @contextmanager
    def if_then(self, condition: Value) -> Iterator[None]:
        """What is written in it runs if the condition holds."""
        then, end = (self.block.function.block(_behind(self.block, part)) for part in ("if", "endif"))
        self.cbranch(condition, then, end)
        with self._inside(then, end):
            yield
        self.block = end

    @contextmanager
    def if_else(self, condition: Value) -> Iterator[tuple[Any, Any]]:
        """Two places to write in: for where the condition holds, and for where it does not."""
        names = [_behind(self.block, part) for part in ("if", "else", "endif")]
        then, otherwise, end = map(self.block.function.block, names)
        self.cbranch(condition, then, otherwise)
        yield self._inside(then, end), self._inside(otherwise, end)
        self.block = end

    @contextmanager
    def _inside(self, block: Block, end: Block) -> Iterator[None]:
        self.block = block
        yield
        self.branch(end)


def _behind(block: Block, part: str) -> str:
    """The name of a part of a block; names within each other do not grow for ever."""
    return f"{block.name[:25]}...{part}" if len(block.name) > 50 else f"{block.name}.{part}"
