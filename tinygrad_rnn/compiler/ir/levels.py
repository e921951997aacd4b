"""Levels: which values are computed once a call, for all steps at once, or step by step in which loop.

Values that depend on their own past form loops; what feeds a loop or reads it without being read by it is computed for
all steps at once (loop distribution, by strongly connected components).
"""

from __future__ import annotations

from tinygrad_rnn.autograd.arrays import is_array
from tinygrad_rnn.compiler.ir.circuit import Circuit
from tinygrad_rnn.compiler.ir.value import Value

PER_CALL, PARALLEL = -2, -1  # levels; 0, 1, … are loops

# Operations with a form for all steps at once; any other runs step by step, in a loop of its own.
BATCHED = {
    "matmul", "sum", "max", "min", "logsumexp", "softmax", "log_softmax", "cumsum", "concat", "stack", "permute",
    "reshape", "broadcast_to", "flip", "pad", "getitem", "scatter", "part", "pack", "splat", "spread", "sums", "dots",
    "zeros", "copy", "tsum", "input", "convolve", "deconvolve", "correlate",
}  # fmt: skip

Levels = dict[Value, int]


def batched(v: Value) -> bool:
    """Has the operation a form for all steps at once?"""
    if v.op in ("getitem", "scatter"):  # NumPy puts the axes of several index arrays first
        key = v.static["key"]
        return sum(is_array(k) for k in (key if isinstance(key, tuple) else (key,))) < 2
    if v.op == "gather":
        return len(v.static["key"]) == 1 and not v.args[0].moves
    return v.pointwise or v.op in BATCHED or (v.op == "argmax" and v.static["axis"] is not None)


def levels(c: Circuit) -> Levels:
    """PER_CALL: the same at every step. PARALLEL: not on a cycle. n ≥ 0: on the cycles of loop n."""
    order = c.order()
    level = {v: PARALLEL if v.moves else PER_CALL for v in order}
    before = {v: [a for a in v.values if a.moves] for v in order if v.moves}
    for s, v, _ in c.delays:
        if s in before and v in before:
            before[s] = [*before[s], v]
    for v in before:
        if v.op == "pick":  # in the loop of the operation whose output it is
            before[v.args[0]] = [*before[v.args[0]], v]
    loops = 0
    for members in _cycles(before):
        if len(members) > 1 or members[0] in before[members[0]] or not batched(members[0]):
            level.update(dict.fromkeys(members, loops))
            loops += 1
    return level


def _cycles(before: dict[Value, list[Value]]) -> list[list[Value]]:
    """The strongly connected components of a graph. Tarjan (1972), without recursion."""
    number: dict[Value, int] = {}
    low: dict[Value, int] = {}
    stack: list[Value] = []
    on_stack: set[Value] = set()
    found: list[list[Value]] = []
    for root in before:
        if root in number:
            continue
        number[root] = low[root] = len(number)
        stack.append(root)
        on_stack.add(root)
        work = [(root, iter(before[root]))]
        while work:
            v, rest = work[-1]
            w = next(rest, None)
            if w is not None:
                if w not in number:
                    number[w] = low[w] = len(number)
                    stack.append(w)
                    on_stack.add(w)
                    work.append((w, iter(before[w])))
                elif w in on_stack:
                    low[v] = min(low[v], number[w])
                continue
            work.pop()
            if work:
                low[work[-1][0]] = min(low[work[-1][0]], low[v])
            if low[v] == number[v]:
                members = [stack.pop()]
                while members[-1] is not v:
                    members.append(stack.pop())
                found.append(members)
                on_stack.difference_update(members)
    return found
