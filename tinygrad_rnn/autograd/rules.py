"""What is known of an operation: its derivative rules, what they need, and which edges its nodes have."""

from __future__ import annotations

import functools
import inspect

from collections.abc import Callable
from itertools import accumulate
from typing import Any

from tinygrad_rnn.autograd.arrays import Array
from tinygrad_rnn.autograd.backward import Lift, collect_output
from tinygrad_rnn.autograd.graph import Node

Rule = Callable[..., Any]


class Primitive:
    """What is known of an operation. The function that users call has it as its attribute `op`.

    args            names of the arguments that gradients flow to; a last one like "*xs" takes any number
    defaults        the keyword-only arguments: static, no gradient flows to them
    rules           for each argument its derivative rule, or
    joint_rule      one rule for all arguments
    rule_arguments  for each rule, by name, what it wants to keep
    patterns        for each pattern of tracked arguments seen so far, what `edges_for` makes of it
    broadcasts      may an argument be broadcast or promoted? then its gradient is summed and cast back in the sweep
    accumulate      a faster way for the sweep to add a gradient up than to call the rule and add, or None
    flat            is its derivative zero wherever there is one, as that of comparisons? its result is never recorded
    mixes           the first of the arguments that are brought to one dtype, from there on to the last; None: none are
    floats          does it make floats of integers? These are cast to float32 first
    compares        does it nothing but compare? Integers stay as they are then, which is exact
    single          is it one function of NumPy? Operands stay as they are then where its own rules make the dtype that
                    ours do; with several functions, one in the middle may compute in another
    shape           the shape of its result, as a function of those of its arguments and of the keyword arguments; its
                    dtype is then that of its arguments. None: it is tried
    formula         for an elementwise operation: what Python and C both understand
    unroll          for an operation that stands for many, how drawings see these: a function of a node that records
                    them, from the node's inputs, and returns a node for each output; else None. Its second argument is
                    a function from the numbers of all time steps to those that are needed, or None: others need not be
                    recorded
    """

    shape: Callable[[list[tuple[int, ...]], dict[str, Any]], tuple[int, ...]] | None = None

    def __init__(
        self, forward: Callable, formula: str | None = None, mixes: int | None = None,
        floats: bool = False, compares: bool = False, single: bool = True,
    ):  # fmt: skip
        self.forward, self.formula, self.mixes = forward, formula, mixes
        self.floats, self.compares, self.single = floats, compares, single
        self.name = forward.__name__.strip("_")
        params = inspect.signature(forward).parameters.values()
        self.args = [p.name for p in params if p.kind is p.POSITIONAL_OR_KEYWORD]
        self.variadic = next((p.name for p in params if p.kind is p.VAR_POSITIONAL), None)
        self.defaults = {p.name: p.default for p in params if p.kind is p.KEYWORD_ONLY}
        self.rules: list[Rule | None] | None = None
        self.joint_rule: Rule | None = None
        self.rule_arguments: dict[Rule, list[str]] = {}
        self.patterns: dict[tuple[bool, ...], tuple[tuple, Callable]] = {}
        self.broadcasts = len(self.args) > 1 or self.variadic is not None
        self.accumulate: Callable[..., bool] | None = None
        self.unroll: Callable[[Node, Any], list[Node]] | None = None
        self.flat = False

    def vjp(self, joint_rule: Rule | None = None, **rules: Rule) -> Any:
        """Register derivative rules: one for each argument, `op.vjp(a=rule, b=rule)`, or one for all, `@op.vjp`.

        A rule's first parameter is the gradient of the output; by the names of the others it says what it needs: an
        argument, `y` (the output), a keyword argument, or `a_shape`, `a_dtype` of an argument `a`; a joint rule also
        `tracked` (for each argument, is its gradient wanted?). Nothing else is kept. It returns the gradient (a joint
        rule: a tuple, one for each argument), in the shape of the argument or, if that was broadcast, of the output. An
        argument without a rule has no gradient.
        """
        unknown = set(rules) - set(self.args)
        if unknown:
            raise ValueError(f"{self.name}.vjp: rules must be for arguments {self.args}, got one for {sorted(unknown)}")
        self.joint_rule = joint_rule
        for rule in [joint_rule] if joint_rule else rules.values():
            self.rule_arguments[rule] = list(inspect.signature(rule).parameters)[1:]
            self._saver(self.rule_arguments[rule], ())  # a name that means nothing is an error here, not at a call
        self.patterns.clear()
        if joint_rule is not None:
            return joint_rule
        self.rules = [rules.get(name) for name in self.args]
        self.flat = not rules
        return None

    def edges_for(self, tracked: tuple[bool, ...]) -> tuple[tuple, Callable]:
        """For calls on arguments of which these are tracked: the edges of their nodes (see Node), and the function of
        (arrays, y, static) that gathers what they keep. Made once for each pattern, so that a call looks nothing up.
        """
        if self.joint_rule is not None:
            edges = tuple([(i, self.joint_rule, 0, 0) for i, wanted in enumerate(tracked) if wanted])
            made = edges, self._saver(self.rule_arguments[self.joint_rule], tracked)
            if len(tracked) <= 64:  # a stack of every length would fill the memory with them
                self.patterns[tracked] = made
            return made
        if self.rules is None:
            raise TypeError(
                f"{self.name}: it has no derivative rule, but an argument requires a gradient; "
                f"give it one with {self.name}.vjp(…), or call it inside no_grad()"
            )
        wanted = [(i, rule) for i, rule in enumerate(self.rules) if tracked[i] and rule is not None]
        sizes = [len(self.rule_arguments[rule]) for _, rule in wanted]
        ends = accumulate(sizes)
        edges = tuple([(i, rule, n - size, n) for (i, rule), size, n in zip(wanted, sizes, ends, strict=True)])
        names = [name for _, rule in wanted for name in self.rule_arguments[rule]]
        made = self.patterns[tracked] = edges, self._saver(names, tracked)
        return made

    def _saver(self, names: list[str], tracked: tuple[bool, ...]) -> Callable:
        """The function of a call's (arrays, y, static) that picks what has these names; put together from source."""
        sources = "".join(self._source(name) + ", " for name in names)
        return eval(f"lambda arrays, y, static: ({sources})", {"tracked": tracked})

    def _source(self, name: str) -> str:
        if name == "y":
            return "y"
        if name == "tracked" and self.joint_rule is not None:
            return "tracked"
        if name in self.defaults:
            return f"static[{name!r}]"
        if name == self.variadic:
            return "tuple(arrays)"
        if name in self.args:
            return f"arrays[{self.args.index(name)}]"
        arg, _, what = name.rpartition("_")
        if what in ("shape", "dtype") and arg in self.args:
            return f"getattr(arrays[{self.args.index(arg)}], {what!r}, ())"
        if what == "shape" and arg == self.variadic:
            return "tuple([a.shape for a in arrays])"
        raise ValueError(
            f"{self.name}.vjp: a rule can need {self.args}, y, {list(self.defaults)}, or an argument's _shape or "
            f"_dtype; got {name!r}"
        )

    def lifted(self, node: Node, rule: Rule, saved: tuple, lift: Lift) -> list[Any]:
        """What a rule saved, with the arrays as tensors that know their place in the graph again."""
        found: list[Any] = []
        for name, value in zip(self.rule_arguments[rule], saved, strict=True):
            if name == "y":
                found.append(_lift_outputs(value, node, lift) if isinstance(value, tuple) else lift(value, node))
            elif name in self.args:
                found.append(_lift(value, node.inputs[self.args.index(name)], lift))
            elif name == self.variadic:
                found.append(tuple(_lift(v, i, lift) for v, i in zip(value, node.inputs, strict=True)))
            else:
                found.append(value)
        return found

    def __repr__(self) -> str:
        return f"<primitive {self.name}>"


def _lift(value: Any, node: Any, lift: Lift) -> Any:
    return lift(value, node) if isinstance(node, Node) else value


def _lift_outputs(ys: tuple, whole: Node, lift: Lift) -> tuple:
    return tuple(lift(y, picked((whole,), i, y)) for i, y in enumerate(ys))


# ---- operations with several outputs: one node for all, and one that picks each ----


def _pick(*ys: Array, index: int) -> Array:
    """One output of an operation with several."""
    return ys[index]


PICK = Primitive(_pick)
PICK.accumulate = collect_output


def picked(whole: tuple[Node], i: int, y: Array) -> Node:
    """The node of output i, y, of the operation whose node is the one in `whole`."""
    static, edges = _output_edge(i)
    return Node(PICK, whole, static, edges, (), y.shape, y.dtype)


@functools.lru_cache(1 << 16)
def _output_edge(i: int) -> tuple[dict[str, int], tuple]:
    """What nodes that pick output i share: the static argument, and the edge, whose rule is i (`collect_output`)."""
    return {"index": i}, ((0, i, 0, 0),)
