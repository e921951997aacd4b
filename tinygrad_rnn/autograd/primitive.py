"""Primitive: an operation and its derivative rule; the one place where computing becomes recording.

    @primitive
    def cube(x):                            # a function of arrays, NumPy's or CuPy's
        return x * x * x

    cube.vjp(x=lambda g, x: g * 3 * x * x)  # d loss / dx, given g = d loss / dy

A rule is written in operators and ops, so it runs on plain arrays (the ordinary backward pass) and on tensors (then
it is itself recorded, and second derivatives need nothing more).
"""

from __future__ import annotations

import functools
import inspect
import numbers
import weakref

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from numpy import ndarray

from tinygrad_rnn.autograd import dtypes
from tinygrad_rnn.autograd.arrays import Array, is_array, same_device, xp
from tinygrad_rnn.autograd.backward import Lift, collect_output
from tinygrad_rnn.autograd.dtypes import Operand, casts, common_dtype, is_real
from tinygrad_rnn.autograd.graph import Chosen, Constant, Copied, Node, Shown, context
from tinygrad_rnn.autograd.tensor import OPS, Tensor

Rule = Callable[..., Any]
KEEPS = {"cast", "reshape", "permute", "broadcast_to", "transfer", "getitem", "where"}  # positions what they are
FLOAT, BOOL = dtypes.FLOAT, np.dtype(bool)


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
    formula         for an elementwise operation: what Python and C both understand
    unroll          for an operation that stands for many, how drawings see these: a function of a node that records
                    them, from the node's inputs, and returns a node for each output; else None. Its second argument is
                    a function from the numbers of all time steps to those that are needed, or None: others need not be
                    recorded
    """

    def __init__(self, forward: Callable, formula: str | None = None):
        self.forward, self.formula, self.name = forward, formula, forward.__name__.strip("_")
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
        self.mixes: int | None = None
        self.floats = False

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
    return tuple(lift(y, _picked((whole,), i, y)) for i, y in enumerate(ys))


# ---- calling: from here on, each line is paid at every operation of every time step ---------------------------------


def primitive(forward: Callable) -> Any:
    """Make a function of arrays an operation: on arrays it computes, on tensors it records too.

    Positional parameters are what gradients flow to, keyword-only ones are static. A tuple of arrays as result makes an
    operation with several outputs (its rule then gets a tuple of gradients). Give it its derivative with `.vjp`.
    """
    return operation(forward)


def operation(forward: Callable, formula: str | None = None, *, mixes: int | None = None, floats: bool = False) -> Any:
    """The callable operation of a forward function; `formula`, `mixes` and `floats` as in Primitive."""
    op = Primitive(forward, formula)
    op.mixes, op.floats = mixes, floats
    special = None if op.defaults or op.variadic else {1: _unary, 2: _binary}.get(len(op.args))
    call: Any = functools.wraps(forward)((special or _general)(op, forward))
    call.op, call.vjp = op, op.vjp
    return call


def _unary(op: Primitive, forward: Callable) -> Callable:
    floats = op.floats

    def call(x: Any) -> Any:
        if not isinstance(x, Tensor):
            plain = type(x) is ndarray and (not floats or x.dtype.kind == "f")
            return forward(x) if plain else forward(*_plain(op, (x,)))
        if context.trace is not None:
            return context.trace(op, (floating(x) if floats else x,), NO_STATIC)
        array, node = x.array, x.node
        if floats and array.dtype is not FLOAT and array.dtype.kind != "f":
            return call(floating(x))
        try:
            y = forward(array)
        except Exception as error:
            raise _explained(op, [array], error) from None
        if type(y) is not ndarray:
            if type(y) is tuple:
                return general(x)
            y = _as_array(y)
        if node is None or not node.tracked or not context.recording or op.flat:
            return Tensor(y) if node is None or not node.shown else _show(op, (x,), y, NO_STATIC)
        edges, save = op.patterns.get(ONE) or op.edges_for(ONE)
        return Tensor(y, Node(op, (node,), NO_STATIC, edges, save((array,), y, NO_STATIC), y.shape, y.dtype))

    general = _general(op, forward)
    return call


def _binary(op: Primitive, forward: Callable) -> Callable:
    floats = op.floats

    def call(a: Any, b: Any) -> Any:
        is_a, is_b = isinstance(a, Tensor), isinstance(b, Tensor)
        if not (is_a or is_b):
            return forward(a, b) if type(a) is ndarray or type(b) is ndarray else forward(*_plain(op, (a, b)))
        if context.trace is not None:
            return context.trace(op, agreed(op, (a, b)), NO_STATIC)
        left, right = a.array if is_a else a, b.array if is_b else b
        unlike = (
            left.dtype is not right.dtype or (floats and left.dtype is not FLOAT)
            if is_a and is_b
            else type(right if is_a else left) not in NUMBERS or (left if is_a else right).dtype is not FLOAT
        )
        if unlike and not _do_agree(op, left, right):
            a, b = agreed(op, (a, b))
            left, right = a.array if is_a else a, b.array if is_b else b
        try:
            y = forward(left, right)
        except Exception as error:
            raise _explained(op, [left, right], error) from None
        if type(y) is tuple:
            return general(a, b)
        y = y if type(y) is ndarray else _as_array(y)
        p, q = a.node if is_a else None, b.node if is_b else None
        u, v = p is not None and p.tracked, q is not None and q.tracked
        if not (u or v) or not context.recording or op.flat:
            shown = (p is not None and p.shown) or (q is not None and q.shown)
            return _show(op, (a, b), y, NO_STATIC) if shown else Tensor(y)
        if p is None:
            p, left = _input(a, left)
        elif q is None:  # one of them is tracked
            q, right = _input(b, right)
        pattern = BOTH if u and v else LEFT if u else RIGHT
        edges, save = op.patterns.get(pattern) or op.edges_for(pattern)
        return Tensor(y, Node(op, (p, q), NO_STATIC, edges, save((left, right), y, NO_STATIC), y.shape, y.dtype))

    general = _general(op, forward)
    return call


def _general(op: Primitive, forward: Callable) -> Callable:
    defaults = op.defaults

    def call(*args: Any, **static: Any) -> Any:
        if context.trace is not None and any(isinstance(a, Tensor) for a in args):
            return context.trace(op, agreed(op, args), static)
        arrays: list[Any] = []
        tracks: list[bool] = []
        none = True
        for a in args:
            if isinstance(a, Tensor):
                arrays.append(a.array)
                tracks.append(a.node is not None and a.node.tracked)
                none = False
            else:
                arrays.append(a)
                tracks.append(False)
        if op.mixes is not None and not none and not _alike(arrays, op.mixes):
            args = agreed(op, args)
            arrays = [a.array if isinstance(a, Tensor) else a for a in args]
        static = {**defaults, **static} if len(static) < len(defaults) else static
        try:
            y = forward(*arrays, **static)
        except Exception as error:
            raise _explained(op, arrays, error) from None
        if none:
            return y
        several = type(y) is tuple
        if not several:
            y = _as_array(y)
        if True not in tracks or not context.recording or op.flat:
            return _show(op, args, y, static)
        return _record(op, args, arrays, y, static, tuple(tracks))

    return call


def _record(op: Primitive, args: tuple, arrays: list, y: Any, static: dict, tracked: tuple[bool, ...]) -> Any:
    """The result of a call as a tensor in the graph, or as several."""
    nodes: list[Any] = []
    for i, a in enumerate(args):
        node, arrays[i] = (a.node, arrays[i]) if tracked[i] else _input(a, arrays[i])
        nodes.append(node)
    edges, save = op.patterns.get(tracked) or op.edges_for(tracked)
    saved = save(arrays, y, static)
    if type(y) is not tuple:
        return Tensor(y, Node(op, tuple(nodes), static, edges, saved, y.shape, y.dtype))
    # One node for the operation, and one that picks each output from it.
    shapes = tuple([each.shape for each in y])
    picked = (Node(op, tuple(nodes), static, edges, saved, shapes, y[0].dtype if y else None),)
    return tuple([Tensor(_as_array(each), _picked(picked, i, each)) for i, each in enumerate(y)])


def _show(op: Primitive, args: tuple, y: Any, static: dict) -> Any:
    """The result of a call that no gradient flows through; of a state it is recorded, to be drawn; nothing is kept."""
    several, shown = type(y) is tuple, False
    for a in args if context.recording else ():
        node = a.node if isinstance(a, Tensor) else None
        if type(node) is Chosen and op.name in KEEPS and not several:
            return Tensor(y, node.like(y.shape, y.dtype))
        shown = shown or (node is not None and node.shown and type(node) is not Chosen)
    if not shown:
        return tuple([Tensor(_as_array(each)) for each in y]) if several else Tensor(y)
    nodes = tuple([_input(a, getattr(a, "array", a))[0] for a in args])
    if not several:
        return Tensor(y, Shown(op, nodes, static, (), (), y.shape, y.dtype))
    whole = (Shown(op, nodes, static, (), (), tuple([each.shape for each in y]), y[0].dtype if y else None),)
    each = [(_as_array(part), {"index": i}) for i, part in enumerate(y)]
    return tuple([Tensor(part, Shown(PICK, whole, at, (), (), part.shape, part.dtype)) for part, at in each])


def _picked(whole: tuple[Node], i: int, y: Array) -> Node:
    static, edges = _output_edge(i)
    return Node(PICK, whole, static, edges, (), y.shape, y.dtype)


@functools.lru_cache(1 << 16)
def _output_edge(i: int) -> tuple[dict[str, int], tuple]:
    """What nodes that pick output i share: the static argument, and the edge, whose rule is i (`collect_output`)."""
    return {"index": i}, ((0, i, 0, 0),)


def _input(a: Any, value: Any) -> tuple[Any, Any]:
    """For an argument that no gradient flows to: what the graph shows of it, and a value that is safe to keep."""
    if isinstance(a, Tensor):
        if a.node is None:
            # Made once: the same input is drawn as one node.
            a.node = Constant(value.shape, value.dtype, "", weakref.ref(value) if type(value) is ndarray else None)
        return a.node, value
    if is_array(value):
        data = weakref.ref(value) if type(value) is ndarray else None
        return Copied(value.shape, value.dtype, "", data), value.copy()  # its owner may write into it before backward
    return a, value


def agreed(op: Primitive, args: Sequence[Any]) -> tuple[Any, ...]:
    """The arguments, those that an operation mixes of one dtype (see common_dtype).

    Numbers, among them NumPy's scalars and arrays without axes, and lists of numbers take the dtype of the others.
    """
    first = op.mixes
    if first is None:
        return tuple(args)
    found = [_operand(op, a) for a in args[first:]]
    kinds = tuple([kind for _, kind in found])
    common = common_dtype(kinds, op.floats)
    if not any(isinstance(kind, tuple) for kind in kinds):  # nothing that numbers could follow
        return (*args[:first], *[v.astype(common) if type(v) is ndarray else common.type(v) for v, _ in found])
    dtypes: Sequence[Any] = casts(kinds, op.floats, op.flat) or (None,) * len(kinds)
    cast = [
        value.astype(common) if type(value) is ndarray and isinstance(kind, type)  # a list of numbers
        else value if dtype is None else _cast(value, dtype)
        for (value, kind), dtype in zip(found, dtypes, strict=True)
    ]  # fmt: skip
    return (*args[:first], *cast)


def _alike(arrays: Sequence[Any], first: int) -> bool:
    """Are these, from the first on, arrays of one dtype, which is one of floats if there are numbers among them?"""
    dtype, number = None, False
    for a in arrays[first:] if first else arrays:
        if type(a) is ndarray or (type(a) not in NUMBERS and hasattr(a, "dtype")):
            if dtype is None:
                dtype = a.dtype
            elif a.dtype is not dtype:
                return False
        elif type(a) in NUMBERS:
            number = True
        else:
            return False
    return dtype is not None and (not number or dtype.kind == "f")


def _do_agree(op: Primitive, a: Any, b: Any) -> bool:
    """Do the libraries bring these operands to the right dtype by themselves, or is the operation of another kind?"""
    if op.mixes is None:
        return True
    if type(a) in NUMBERS or type(b) in NUMBERS:
        return (b if type(a) in NUMBERS else a).dtype.kind == "f"
    if not (isinstance(getattr(a, "dtype", None), np.dtype) and isinstance(getattr(b, "dtype", None), np.dtype)):
        return False  # lists, and arrays of another library
    if not (a.ndim and b.ndim):
        return False
    if a.dtype is BOOL or b.dtype is BOOL:  # a mask times floats
        return "f" in (a.dtype.kind, b.dtype.kind)
    if not (is_real(a.dtype) and is_real(b.dtype)):
        return False
    return casts(((a.dtype, True), (b.dtype, True)), op.floats, op.flat) is None


def _operand(op: Primitive, a: Any) -> tuple[Any, Operand]:
    """An argument as a tensor, an array or a number, and what it is when dtypes are chosen."""
    if isinstance(a, numbers.Real) and not isinstance(a, np.generic):
        a = a if type(a) in NUMBERS else int(a) if isinstance(a, numbers.Integral) else float(a)
        return a, type(a)
    made, weak = _from_elsewhere(op, a), isinstance(a, (list, tuple))
    if not is_real(made.dtype):
        raise TypeError(f"{op.name}: operands must be real numbers, got {made.dtype} in a {type(a).__name__}")
    if isinstance(made, Tensor) or xp(made) is not np or (made.ndim and not weak):
        return made, (made.dtype, made.ndim > 0)
    kind = _NUMBER[made.dtype.kind]
    return (made if made.ndim else kind(made)), kind


def _from_elsewhere(op: Primitive, a: Any) -> Any:
    """A tensor or an array, also from a list of numbers or from another library's array."""
    if isinstance(a, Tensor) or is_array(a):
        return a
    if isinstance(a, (list, tuple)) and any(isinstance(v, Tensor) for v in a):
        raise TypeError(f"{op.name}: operands must be tensors, got a {type(a).__name__} of tensors; stack them first")
    if not isinstance(a, (list, tuple, complex)) and not hasattr(a, "__array__"):
        raise TypeError(f"{op.name}: operands must be tensors, arrays or numbers, got {type(a).__name__}")
    try:
        return np.asarray(a)
    except ValueError as error:
        raise ValueError(f"{op.name}: an operand must be numbers in rows of one length, got {a!r} ({error})") from None


def _cast(a: Any, dtype: np.dtype) -> Any:
    """A tensor or an array in another dtype."""
    recorded = context.trace is not None and not isinstance(a, Tensor)
    return OPS["cast"](Tensor(a) if recorded else a, dtype)  # the step reads the array, not a copy of now


def floating(x: Any) -> Any:
    """A tensor or an array itself if it is of floats; integers and booleans as float32."""
    if getattr(x, "dtype", FLOAT).kind == "f":
        return x
    return OPS["cast"](x, FLOAT) if isinstance(x, Tensor) else x.astype(FLOAT)


def _plain(op: Primitive, args: Sequence[Any]) -> Sequence[Any]:
    """Arguments without a tensor among them: lists as arrays, integers as floats where the operation makes such."""
    if op.formula is None and op.mixes is None and not op.floats:  # it may take anything
        return args
    found = [np.asarray(a) if isinstance(a, (list, tuple)) else a for a in args]
    if not all(is_array(a) or isinstance(a, numbers.Number) for a in found):
        kinds = " and ".join(type(a).__name__ for a in found)
        raise TypeError(f"{op.name}: operands must be tensors, arrays or numbers, got {kinds}")
    return [floating(a) for a in found] if op.floats and len(found) == 1 else found


def _as_array(y: Any) -> Any:
    """NumPy's reductions of everything, and its arithmetic without axes, return scalars."""
    return np.asarray(y) if isinstance(y, np.generic) else y


def _explained(op: Primitive, arrays: list[Any], error: Exception) -> Exception:
    """The error with the operation's name, and with the devices where these are the reason."""
    devices = same_device(arrays)
    if len(devices) > 1:
        return ValueError(
            f"{op.name}: operands must be on one device, got {' and '.join(devices)}; move one with .to(…)"
        )
    kind = next((k for k in (IndexError, ValueError, TypeError, OverflowError) if isinstance(error, k)), None)
    if kind is None:
        return error
    shapes = " and ".join(str(np.shape(a)) for a in arrays)
    reason = str(error).partition("\n")[0].removeprefix(f"{op.name}: ")
    return kind(f"{op.name}: operands of shape {shapes} do not fit: {reason}")


NO_STATIC: dict[str, Any] = {}
NUMBERS = frozenset((float, int, bool))
_NUMBER: dict[str, Any] = {"f": float, "i": int, "u": int, "b": bool}  # by the kind of a dtype
ONE, BOTH, LEFT, RIGHT = (True,), (True, True), (True, False), (False, True)  # which arguments a gradient flows to


def _pick(*ys: Array, index: int) -> Array:
    """One output of an operation with several."""
    return ys[index]


PICK = Primitive(_pick)
PICK.accumulate = collect_output
