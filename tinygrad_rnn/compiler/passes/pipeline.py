"""Passes: circuit → equal circuit. A backend's `pipeline.py` says which ones it wants, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tinygrad_rnn.compiler.ir import verify
from tinygrad_rnn.compiler.ir.circuit import Circuit
from tinygrad_rnn.compiler.ir.dump import Dump
from tinygrad_rnn.compiler.passes.normalise import normalise
from tinygrad_rnn.compiler.passes.reassociate import reassociate
from tinygrad_rnn.compiler.passes.simplify import simplify


class Pass(NamedTuple):
    """A rewriting of a circuit in place, and what it is called where it is printed and blamed."""

    name: str
    run: Callable[[Circuit], None]


# What every backend wants, before its own.
COMMON = (Pass("normalise", normalise), Pass("simplify", simplify), Pass("reassociate", reassociate))


def run(passes: Sequence[Pass], circuit: Circuit, who: str, dump: Dump) -> None:
    """Rewrite the circuit by each pass in turn. AssertionError if one is wrong, where passes are verified.

    who: whose circuit, and for which engine: "MGU, numpy"
    """
    verifier = verify.verifier(circuit, passes, who)
    for each in passes:
        try:
            each.run(circuit)
        except Exception as error:
            error.add_note(f"in the pass {each.name} over {who}")
            raise
        if each.name in dump:
            dump.write(each.name, who, f"after {each.name}, {len(circuit.order())} values", str(circuit))
        if verifier is not None:
            verifier.check(circuit, each.name)
    if verifier is not None:
        verifier.done()
