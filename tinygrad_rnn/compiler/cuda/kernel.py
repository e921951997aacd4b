"""A kernel under construction: its text, and the table that it reads addresses, strides and sizes from.

The text knows no sizes and no names of a user's: cells of any size share the kernels of their structure. It is

    struct k0_table { float* p0; i64 n1; … };
    extern "C" __global__ void k0(const k0_table k, i64 t) { … }

and each entry of the table is 8 bytes long. The table goes with the launch, by value.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tinygrad_rnn.compiler.cuda.types import c_type
from tinygrad_rnn.compiler.ir.origin import Origin
from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.compiler.schedule.schedule import Schedule
from tinygrad_rnn.compiler.schedule.views import base

Line = tuple[str, Origin | None]


class Kernel:
    """The text of a kernel, line by line.

    one_step  is it launched for a step, t? Else it finds its steps by itself
    most    threads of a block, so that their registers suffice; 0: it is not said
    fields  the entries of its table: what each is, and what the text calls it
    lines   what it does, with the places in a user's code that lines come from
    known   what each thread has in a variable, of this step and row: values of one element a row, and their names
    alone   is what is written that of a single element a row, which each thread computes, and the first one stores?
    """

    def __init__(self, s: Schedule, name: str, one_step: bool = True, most: int = 0):
        self.s, self.name, self.one_step, self.most = s, name, one_step, most
        self.fields: dict[tuple, str] = {}
        self.lines: list[Line] = []
        self.known: dict[Value, str] = {}
        self.alone = False
        self.depth, self.names, self.step = 1, 0, "t"

    # ---- lines ------------------------------------------------------------------------------------------------------

    def say(self, line: str, origin: Origin | None = None) -> None:
        """Another line."""
        self.lines.append(("  " * self.depth + line, origin))

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """What is said in the block stands in braces behind a head."""
        self.say(f"{head} {{")
        self.depth += 1
        yield
        self.depth -= 1
        self.say("}")

    @contextmanager
    def at_step(self, step: str) -> Iterator[None]:
        """What is said in the block is of another step."""
        self.step, before = step, self.step
        yield
        self.step = before

    def new(self, kind: str, value: str, origin: Origin | None = None) -> str:
        """The name of a constant of a C type."""
        self.names += 1
        name = f"v{self.names - 1}"
        self.say(f"const {kind} {name} = {value};", origin)
        return name

    def text(self, told: bool = False) -> str:
        """The whole kernel. told: with what of a user's code its lines come from"""
        entries = " ".join(f"{_entry_type(key)} {name};" for key, name in self.fields.items())
        bounds = f"__launch_bounds__({self.most}, 1) " if self.most else ""  # no register is saved for a second block
        parameters = f"const {self.name}_table k, i64{' t' * self.one_step}"
        body = [f"{line}  // {origin}" if told and origin else line for line, origin in self.lines]
        return "\n".join(
            [
                f"struct {self.name}_table {{ {entries} }};",
                f'extern "C" __global__ void {bounds}{self.name}({parameters}) {{',
                *body,
                "}",
            ]
        )

    # ---- what it reads from the table -------------------------------------------------------------------------------

    def field(self, *key: Any) -> str:
        """An entry of the table."""
        if key not in self.fields:
            self.fields[key] = f"{key[0][0]}{len(self.fields)}"
        return f"k.{self.fields[key]}"

    def size(self, v: Value, axis: int) -> str:
        """How many elements along an axis."""
        return self.field("n", v, axis)

    def variable(self, kind: str, value: str) -> str:
        """The name of a variable of a C type that will change."""
        self.names += 1
        self.say(f"{kind} v{self.names - 1} = {value};")
        return f"v{self.names - 1}"

    def store(self, v: Value, index: Sequence[str], name: str) -> None:
        """Write an element of the current step that is in a variable."""
        if self.alone:
            self.known[v] = name
        self.say(f"{'if (threadIdx.x == 0) ' * self.alone}{self.element(v, index)} = {name};")

    def element(self, v: Value, index: Sequence[str]) -> str:
        """An element of the current step in memory."""
        at = [f"{i} * {self.field('stride', v, axis)}" for axis, i in enumerate(index) if i != "0"]
        if self.s.where(v).buffer.time:
            at.insert(0, f"{self.step} * {self.field('time', v)}")
        return f"{self.field('pointer', v)}[{' + '.join(at) or '0'}]"

    def read(self, v: Value, index: Sequence[str]) -> str:
        """An element of the current step: from memory, or a variable."""
        if v.op == "zeros":
            return f"{c_type(v.dtype)}(0)"
        return self.known.get(base(v)) or self.element(v, index)


def _entry_type(key: tuple) -> str:
    return f"{c_type(key[1].dtype)}*" if key[0] == "pointer" else "i64"


def broadcast(own: Sequence[int], shape: Sequence[int], index: Sequence[str]) -> list[str]:
    """The indices into an operand of its own shape, given those into what it broadcasts to."""
    skipped = len(shape) - len(own)
    return ["0" if n == 1 and shape[k + skipped] != 1 else index[k + skipped] for k, n in enumerate(own)]
