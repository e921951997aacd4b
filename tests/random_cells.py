"""Cells drawn at random, small and strange, that run on our tensors and on PyTorch's alike.

A cell is a list of lines, each an operation on the values before it. What is drawn on purpose: masks as operands,
states that no step changes or that are handed on, batches of one, equal sizes everywhere, states of other dtypes and
widths, divisions by numbers, products with vectors, captured arrays of every dtype, norms and softmax, parts and joins.
"""

import importlib.util

import numpy as np

import tinygrad_rnn as tg

from tinygrad_rnn import nn, ops

torch = importlib.import_module("torch") if importlib.util.find_spec("torch") else None

DTYPES = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "f2", "f4", "f8", ">f4", ">f8", ">i4"]
SHIFT = 0.0123  # keeps values that are equal but for rounding away from the kinks


class Ours:
    """The operations, by our tensors."""

    concat, where, softmax, log_softmax = ops.concat, ops.where, ops.softmax, ops.log_softmax
    tanh, sigmoid, relu, softplus, abs, exp, sqrt = (
        ops.tanh, ops.sigmoid, ops.relu, ops.softplus, ops.abs, ops.exp, ops.sqrt,
    )  # fmt: skip
    maximum, minimum, einsum, flip, clip = ops.maximum, ops.minimum, ops.einsum, ops.flip, ops.clip
    max = staticmethod(lambda x: ops.max(x, -1, keepdims=True))
    sum = staticmethod(lambda x, axis=-1: ops.sum(x, axis, keepdims=True))
    logsumexp = staticmethod(lambda x: ops.logsumexp(x, -1, keepdims=True))
    cumsum = staticmethod(lambda x: ops.cumsum(x, 1))
    real = staticmethod(lambda x, dtype: x.astype(dtype))
    matmul = staticmethod(lambda a, b: a @ b)
    binary = staticmethod(lambda f, a, b: f(a, b))
    detach = staticmethod(lambda x: x.detach())


class Torch:
    """The same by PyTorch, with NumPy's rules for dtypes."""

    @staticmethod
    def kind(a):
        return np.dtype(str(a.dtype).removeprefix("torch."))

    @staticmethod
    def real(x, dtype):
        return x.to(getattr(torch, np.dtype(dtype).name))

    @staticmethod
    def binary(f, *operands):
        """f on operands of the dtype that NumPy gives them."""
        kinds = [Torch.kind(a) if isinstance(a, torch.Tensor) else a for a in operands]
        dtype = np.result_type(*kinds)
        if dtype.kind == "b":
            return f(*operands)
        return f(*(Torch.real(a, dtype) if isinstance(a, torch.Tensor) else a for a in operands))

    @staticmethod
    def matmul(a, b):
        return Torch.binary(lambda p, q: p @ q, a, b)

    @staticmethod
    def where(c, a, b):
        return Torch.binary(lambda p, q: torch.where(c.bool(), p, q), a, b)

    @staticmethod
    def concat(xs, axis):
        return Torch.binary(lambda *ys: torch.cat(ys, axis), *xs)

    @staticmethod
    def einsum(spec, *xs):
        return Torch.binary(lambda *ys: torch.einsum(spec, *ys), *xs)

    @staticmethod
    def maximum(a, b):
        return Torch.binary(lambda p, q: torch.maximum(p, torch.as_tensor(q, dtype=p.dtype)), a, b)

    @staticmethod
    def minimum(a, b):
        return Torch.binary(lambda p, q: torch.minimum(p, torch.as_tensor(q, dtype=p.dtype)), a, b)

    tanh, sigmoid, relu, abs, exp, sqrt = (
        (torch.tanh, torch.sigmoid, torch.relu, torch.abs, torch.exp, torch.sqrt) if torch else [None] * 6
    )
    softplus = staticmethod(lambda x: torch.nn.functional.softplus(x, threshold=1e9))
    softmax = staticmethod(lambda x: torch.softmax(x, -1))
    log_softmax = staticmethod(lambda x: torch.log_softmax(x, -1))
    max = staticmethod(lambda x: torch.amax(x, -1, keepdim=True))
    sum = staticmethod(lambda x, axis=-1: torch.sum(x, axis, keepdim=True))
    logsumexp = staticmethod(lambda x: torch.logsumexp(x, -1, keepdim=True))
    cumsum = staticmethod(lambda x: torch.cumsum(x, 1))
    flip = staticmethod(lambda x, axis: torch.flip(x, [axis]))
    clip = staticmethod(lambda x, low, high: torch.clamp(x, low, high))
    detach = staticmethod(lambda x: x.detach())


# ---- operations: what they make of their operands. Real values are (B, K), masks (B, K) of bool ----------------------


def add(a, b):
    return a + b


def mul(a, b):
    return a * b


def normed(lib, x):
    d = x - lib.sum(x) / x.shape[1]
    return d / lib.sqrt(lib.sum(d * d) / x.shape[1] + 0.5)


def attended(lib, a, memory):
    scores = lib.einsum("bk,bnk->bn", a, memory)
    return lib.einsum("bn,bnk->bk", lib.softmax(scores), memory)


# Of one real value: the width stays.
SAME = {
    "tanh": lambda lib, a: lib.tanh(a),
    "sigmoid": lambda lib, a: lib.sigmoid(a),
    "relu": lambda lib, a: lib.relu(a + SHIFT),
    "neg": lambda lib, a: -a,
    "abs": lambda lib, a: lib.abs(a + SHIFT),
    "softplus": lambda lib, a: lib.softplus(a),
    "bell": lambda lib, a: lib.exp(-a * a),
    "root": lambda lib, a: lib.sqrt(a * a + 0.3),
    "square": lambda lib, a: lib.tanh(a) ** 2,
    "third": lambda lib, a: a / 3,
    "two thirds": lambda lib, a: a / 3.0 * 2.0,
    "half of half": lambda lib, a: a / 2 / 2,
    "scaled": lambda lib, a: 0.7 * a,
    "minus a scaled one": lambda lib, a: -(0.5 * -a) / 4 * 3,
    "from one": lambda lib, a: 1 - a,
    "one over": lambda lib, a: 1 / (1.5 + a * a),
    "shifted": lambda lib, a: a + 0.25,
    "clipped": lambda lib, a: lib.clip(a, -0.8, 0.9),
    "softmax": lambda lib, a: lib.softmax(a),
    "log softmax": lambda lib, a: lib.log_softmax(a) / 4,
    "normed": normed,
    "centred": lambda lib, a: a - lib.sum(a) / a.shape[1],
    "less its mean over the batch": lambda lib, a: a - lib.sum(a, 0) / a.shape[0],
    "cumulative": lambda lib, a: 0.3 * lib.cumsum(a),
    "flipped": lambda lib, a: lib.flip(a, 1),
    "detached": lambda lib, a: lib.detach(a),
    "half detached": lambda lib, a: 0.5 * a + 0.5 * lib.detach(a),
    "by itself": lambda lib, a: lib.tanh(a) * a,
    "derivative": lambda lib, a: a - a * lib.tanh(a) * a / 4,
    "reshaped": lambda lib, a: a.reshape(a.shape[0], 1, -1).reshape(a.shape[0], -1),
    "turned": lambda lib, a: a.T.T * 1,
    "by its parts": lambda lib, a: lib.concat([lib.tanh(a[:, :1]), lib.sigmoid(a[:, 1:])], -1) if a.shape[1] > 1 else a,
    "all equal": lambda lib, a: a * (a == a),
}
# To one column.
ONE = {
    "sum": lambda lib, a: lib.sum(a) / a.shape[1],
    "mean of squares": lambda lib, a: lib.sum(a * a) / a.shape[1],
    "max": lambda lib, a: lib.max(a),
    "logsumexp": lambda lib, a: lib.logsumexp(a) / 2,
    "first": lambda lib, a: a[:, :1],
    "last": lambda lib, a: a[:, -1:],
    "sum without the axis": lambda lib, a: (lib.tanh(a) * a).sum(-1)[:, None] / a.shape[1],
}
# Of two real values of one width, or of which one has a single column.
TWO = {
    "add": lambda lib, a, b: a + b,
    "sub": lambda lib, a, b: a - b,
    "mul": lambda lib, a, b: lib.tanh(a) * b,
    "div": lambda lib, a, b: a / (1.5 + b * b),
    "maximum": lambda lib, a, b: lib.maximum(a, b + SHIFT),
    "minus itself": lambda lib, a, b: a - a * b * b / 4,
    "three terms": lambda lib, a, b: a + 0.1 + b + b,
    "gated": lambda lib, a, b: lib.sigmoid(a) * b + (1 - lib.sigmoid(a)) * a,
    "scaled by a sum": lambda lib, a, b: a * lib.sum(lib.tanh(a) * b) / 3,
}
# A mask of two real values; of two masks.
COMPARED = {
    "greater": lambda lib, a, b: a > b + SHIFT,
    "less": lambda lib, a, b: a < b - SHIFT,
    "unequal": lambda lib, a, b: a != b + SHIFT,
    "positive": lambda lib, a, b: a > SHIFT,
    "within": lambda lib, a, b: (a > -0.512) & (a <= 0.713),
}
MASKS = {
    "and": lambda lib, m, n: m & n,
    "or": lambda lib, m, n: m | n,
    "not": lambda lib, m, n: ~m,
    "plus": lambda lib, m, n: m + n,
    "times": lambda lib, m, n: m * n,
    "larger": lambda lib, m, n: lib.maximum(m, n),
    "chosen": lambda lib, m, n: lib.where(m, n, m),
    "same": lambda lib, m, n: m == n,
}
# A real value of a real value and a mask, and of a real value and something captured.
MASKED = {
    "times": lambda lib, a, m: a * m,
    "plus": lambda lib, a, m: a + m,
    "where": lambda lib, a, m: lib.where(m, a, 0.5 * a),
    "where else zero": lambda lib, a, m: lib.where(m, a, 0.0),
    "less where": lambda lib, a, m: a - a * m,
    "twice": lambda lib, a, m: a + m + m,
    "any": lambda lib, a, m: a * lib.max(m),
    "share": lambda lib, a, m: a * lib.real(lib.sum(m), "float32") / 4,
    "as a number": lambda lib, a, m: a + lib.real(m, "float32") / 2,
}
MASK_PRODUCTS = ["mask product", "einsum of a mask", "product of a mask as numbers"]


class Line:
    """An operation, the numbers of the values that it reads, and its own tensors by name."""

    def __init__(self, table, name, reads, width, mask=False, own=()):
        self.table, self.name, self.reads, self.width, self.mask, self.own = table, name, reads, width, mask, own

    def __repr__(self):
        return f"{self.table} {self.name}({', '.join(map(str, self.reads))}) {list(self.own)} -> {self.width}"


class Drawer:
    """Draws one cell. What it is made of: sizes, lines, tensors by name, states, and what it returns."""

    def __init__(self, seed):
        self.rng = rng = np.random.default_rng(seed)
        self.dtype = "float32" if rng.random() < 0.3 else "float64"
        sizes = [int(rng.integers(1, 5))] * 4 if rng.random() < 0.4 else [int(n) for n in rng.integers(1, 6, 4)]
        self.B, self.I, self.H, self.K = sizes
        if rng.random() < 0.25:
            self.B = 1
        self.T = int(rng.integers(1, 6))
        self.parameters, self.captured = {}, {}
        self.lines, self.values = [], [(self.I, False)]  # (width, is it a mask?) of each value; the first is x
        self.states = [self.state(i) for i in range(int(rng.integers(1, 4)))]
        for _ in range(int(rng.integers(3, 12))):
            self.line()
        self.results()
        self.options()

    @property
    def rounding(self):
        """The key of TOLERANCE: a gradient is rounded wherever it passes through a state of fewer bits."""
        narrow = any(kind == "other dtype" for kind, _, _ in self.states)
        return self.dtype if self.dtype == "float32" or not narrow else "float64 with a state of float32"

    def pick(self, items):
        items = list(items)
        return items[int(self.rng.integers(len(items)))]

    def chance(self, p):
        return self.rng.random() < p

    # ---- states: (kind, width, dtype) ---------------------------------------------------------------------------

    def state(self, i):
        kind = self.pick(["new"] * 6 + ["kept"] * 2 + ["handed", "x", "count", "mask", "other dtype", "kept other"])
        width = self.pick([self.H, self.H, self.K, 1])
        if kind == "x":
            width = self.I
        if i == 0 and kind in ("count", "mask"):
            kind = "new"
        if kind in ("count", "mask", "kept other", "other dtype"):
            dtype = {"count": "int64", "mask": "bool", "other dtype": "float32"}.get(kind) or self.pick(DTYPES)
        else:
            dtype = self.dtype
        self.values.append((width, kind == "mask"))
        return kind, width, dtype

    # ---- lines --------------------------------------------------------------------------------------------------

    def real(self, width=None):
        found = [i for i, (n, mask) in enumerate(self.values) if not mask and width in (None, n)]
        if not found:
            return None
        return found[-1] if self.chance(0.4) else self.pick(found)

    def mask(self, width):
        found = [i for i, (n, mask) in enumerate(self.values) if mask and n == width]
        if found and self.chance(0.8):
            return self.pick(found)
        a = self.real(width)
        if a is None:
            return None
        return self.say("COMPARED", self.pick(COMPARED), (a, a), width, True)

    def say(self, table, name, reads, width, mask=False, own=()):
        self.lines.append(Line(table, name, reads, width, mask, own))
        self.values.append((width, mask))
        return len(self.values) - 1

    def parameter(self, *shape):
        name = f"p{len(self.parameters)}"
        self.parameters[name] = 0.7 * self.rng.standard_normal(shape) / max(1, shape[0] if len(shape) > 1 else 1) ** 0.5
        return name

    def capture(self, *shape, dtype=None):
        name = f"a{len(self.captured)}"
        dtype = np.dtype(dtype or self.pick(DTYPES))
        drawn = self.rng.standard_normal(shape)
        if dtype.kind in "iub":
            drawn = np.abs(drawn * 2).astype("i8") % (2 if dtype.kind == "b" else 3)
        made = np.asarray(drawn).astype(dtype)
        if made.ndim and self.chance(0.2):
            made = np.repeat(made, 2, axis=-1)[..., ::2]  # the elements do not lie next to each other
        self.captured[name] = made
        return name

    def line(self):
        a = self.real()
        n = self.values[a][0]
        kind = self.pick(
            ["SAME"] * 4 + ["ONE", "TWO", "TWO", "TWO", "product", "product", "vector", "MASKS", "MASKED", "MASKED"]
            + ["mask product", "join", "part", "captured", "captured", "captured", "memory", "dot", "norm", "chunk"]
        )  # fmt: skip
        if kind == "SAME":
            self.say(kind, self.pick(SAME), (a,), n)
        elif kind == "ONE":
            self.say(kind, self.pick(ONE), (a,), 1)
        elif kind == "TWO":
            b = self.real(n if self.chance(0.7) else 1)
            b = a if b is None else b
            self.say(kind, self.pick(TWO), (a, b), n)
        elif kind == "MASKS":
            m = self.mask(n)
            self.say(kind, self.pick(MASKS), (m, self.mask(n)), n, True)
        elif kind == "MASKED":
            self.say(kind, self.pick(MASKED), (a, self.mask(n)), n)
        else:
            self.special(kind, a, n)

    def special(self, kind, a, n):
        """A line that has tensors of its own, or that joins or cuts."""
        b, k = self.real(n), self.pick([self.H, self.K, n, 1])
        lo = int(self.rng.integers(0, n))
        hi = int(self.rng.integers(lo + 1, n + 1))
        other = self.real()
        {
            "product": lambda: self.say_product(a, n, k),
            "vector": lambda: self.say_vector(a, n),
            "mask product": lambda: self.say(
                "special", self.pick(MASK_PRODUCTS), (self.mask(n),), k, own=(self.parameter(n, k),)
            ),
            "join": lambda: self.say("special", "join", (a, other), n + self.values[other][0]),
            "part": lambda: self.say("special", f"part {lo} {hi}", (a,), hi - lo),
            "captured": lambda: self.say_captured(a, n, k),
            "memory": lambda: self.say(
                "special", "attended", (a,), n, own=(self.capture(self.B, 3, n, dtype=self.dtype),)
            ),
            "dot": lambda: self.say("special", self.pick(["outer", "dot"]), (a, b), n),
            "norm": lambda: self.say("special", "layer norm", (a,), n, own=(self.parameter(n), self.parameter(n))),
            "chunk": lambda: self.say(
                "special", "two gates", (a,), self.H, own=(self.parameter(n, 2 * self.H), self.parameter(2 * self.H))
            ),
        }[kind]()

    def say_product(self, a, n, k):
        """With a weight of its own, with one that other lines have, or with the transpose of one."""
        shared = [p for p, v in self.parameters.items() if v.shape == (n, k)]
        turned = [p for p, v in self.parameters.items() if v.shape == (k, n)]
        if turned and self.chance(0.3):
            self.say("special", "product with a transpose", (a,), k, own=(self.pick(turned),))
        else:
            own = self.pick(shared) if shared and self.chance(0.4) else self.parameter(n, k)
            self.say("special", "product", (a,), k, own=(own,))

    def say_vector(self, a, n):
        name = self.pick(["times", "plus", "dot", "over", "dot and back"])
        self.say("special", f"vector {name}", (a,), 1 if name == "dot" else n, own=(self.parameter(n),))

    def say_captured(self, a, n, k):
        name = self.pick(["times", "plus", "where", "compared", "product", "condition", "larger"])
        shape = self.pick([(n,), (1, n), (self.B, n), (), (1,), (self.B, 1)])
        if name == "product":
            self.say("special", "captured product", (a,), k, own=(self.capture(n, k),))
        elif name == "compared":
            m = self.say("special", "captured compared", (a,), n, True, own=(self.capture(*shape),))
            self.say("MASKED", self.pick(MASKED), (a, m), n)
        else:
            self.say("special", f"captured {name}", (a,), n, own=(self.capture(*shape),))

    # ---- what comes out -----------------------------------------------------------------------------------------

    def to_width(self, width):
        """A value that depends on x or a state, of a width."""
        a = self.real(width)
        if a is None or self.chance(0.3):
            b = self.real()
            a = self.say("special", "product", (b,), width, own=(self.parameter(self.values[b][0], width),))
        return a

    def results(self):
        self.news = []
        for i, (kind, width, _) in enumerate(self.states):
            at = 1 + i
            if kind == "new":
                at = self.say("SAME", "tanh", (self.to_width(width),), width)
            elif kind == "handed":
                others = [j for j, (_, n, d) in enumerate(self.states) if (n, d) == (width, self.dtype) and j != i]
                alike = [1 + j for j in others] + [self.news[j] for j in others if j < i]
                at = self.pick(alike) if alike else self.say("SAME", "tanh", (self.to_width(width),), width)
            elif kind == "x":
                at = 0
            elif kind == "mask":
                at = self.mask(width)
                if at is None:
                    at = 1 + i
            elif kind == "other dtype":
                at = self.say("SAME", "tanh", (self.to_width(width),), width)
            self.news.append(at)
        reals = [i for i, (_, mask) in enumerate(self.values) if not mask]
        kept = [i for i, (kind, _, _) in enumerate(self.states) if kind in ("new", "handed", "kept")]
        self.y = reals[-1] if self.chance(0.6) else self.pick(reals)
        if kept and self.chance(0.3):
            self.y = self.news[self.pick(kept)]

    def options(self):
        self.lengths = [int(n) for n in self.rng.integers(0, self.T + 1, self.B)] if self.chance(0.35) else None
        self.all_states, self.hooked = self.chance(0.2), self.chance(0.2)
        self.every = 2 if self.chance(0.1) else None
        self.reverse, self.tracked_x, self.tracked_state = self.chance(0.15), self.chance(0.8), self.chance(0.7)
        self.frozen = [name for name in self.parameters if self.chance(0.1)]
        self.xs = self.rng.standard_normal((self.T, self.B, self.I)).astype(self.dtype)
        self.start = [self.first(*state) for state in self.states]

    def first(self, kind, width, dtype):
        if kind in ("count", "mask"):
            return self.rng.integers(0, 2, (self.B, width)).astype(dtype)
        drawn = 0.6 * self.rng.standard_normal((self.B, width))
        return np.abs(2 * drawn).astype("i8").astype(dtype) if np.dtype(dtype).kind in "iub" else drawn.astype(dtype)

    # ---- running ------------------------------------------------------------------------------------------------

    def step(self, lib, x, state, own):
        """(y, new state) by the operations of a library. own: the cell's tensors by name"""
        values = [x, *state]
        dtype = self.dtype
        for i, (kind, _, of) in enumerate(self.states):
            if kind in ("count", "other dtype", "kept other") and np.dtype(of) != dtype:
                values[1 + i] = lib.real(state[i], dtype) / 3
        for line in self.lines:
            values.append(self.compute(lib, line, [values[i] for i in line.reads], [own[name] for name in line.own]))
        new = [state[at - 1] if 0 < at <= len(state) else values[at] for at in self.news]
        for i, (kind, _, of) in enumerate(self.states):
            if kind == "count":
                new[i] = state[i] + 1
            elif kind == "other dtype":
                new[i] = lib.real(new[i], of)
        return values[self.y], new

    def compute(self, lib, line, args, own):
        if line.table != "special":
            made = TABLES[line.table][line.name](lib, *args)
        else:
            made = special(lib, line.name, args, own)
        if not line.mask:
            made = lib.real(made, self.dtype)
            made = made.reshape(made.shape[0], -1)
        return made


TABLES = {"SAME": SAME, "ONE": ONE, "TWO": TWO, "COMPARED": COMPARED, "MASKS": MASKS, "MASKED": MASKED}


def special(lib, name, args, own):
    """The operations that have tensors of their own."""
    a, (p, *more) = args[0], own or (None,)
    of_two = lib.binary
    word = name.split()
    return {
        "product": lambda: lib.matmul(a, p),
        "product with a transpose": lambda: lib.matmul(a, p.T),
        "vector times": lambda: a * p,
        "vector plus": lambda: a + p,
        "vector dot": lambda: (a * p).sum(-1)[:, None],
        "vector over": lambda: a / (1.5 + p * p),
        "vector dot and back": lambda: a + lib.sum(a * p) / 3,
        "mask product": lambda: lib.matmul(a, p),
        "einsum of a mask": lambda: lib.einsum("bi,ij->bj", a, p),
        "product of a mask as numbers": lambda: lib.matmul(lib.real(a, "float32"), p),
        "join": lambda: lib.concat([a, args[-1]], -1),
        "attended": lambda: attended(lib, a, p),
        "outer": lambda: lib.einsum("bi,bj->bij", lib.tanh(a), args[-1]).sum(1) / a.shape[1],
        "dot": lambda: lib.einsum("bi,bi->b", a, args[-1])[:, None] * a / 4,
        "layer norm": lambda: normed(lib, a) * p + more[0],
        "two gates": lambda: two_gates(lib, lib.matmul(a, p) + more[0]),
        "captured product": lambda: lib.matmul(a, p) / 3,
        "captured times": lambda: of_two(mul, a, p) / 2,
        "captured plus": lambda: of_two(add, a, p) / 2,
        "captured where": lambda: lib.where(a > SHIFT, a, p),
        "captured condition": lambda: lib.where(p, a, 0.5 * a),
        "captured larger": lambda: lib.maximum(a, p),
        "captured compared": lambda: of_two(lambda x, y: x > y, a, p),
        "part": lambda: a[:, int(word[1]) : int(word[2])],
    }[word[0] if word[0] == "part" else name]()


def two_gates(lib, z):
    n = z.shape[1] // 2
    return lib.sigmoid(z[:, :n]) * lib.tanh(z[:, n:])


class Drawn(nn.Cell):
    """A drawn cell on our tensors."""

    def __init__(self, drawn):
        self.drawn = drawn
        for name, value in drawn.parameters.items():
            setattr(self, name, nn.Parameter(value.astype(drawn.dtype)))
            getattr(self, name).requires_grad_(name not in drawn.frozen)
        self.arrays = dict(drawn.captured)

    def initial_state(self, batch_size):
        return tuple(tg.tensor(s) for s in self.drawn.start)

    def forward(self, x, state):
        own = {name: getattr(self, name) for name in self.drawn.parameters} | self.arrays
        y, new = self.drawn.step(Ours, x, state, own)
        return y, tuple(new)


# ---- what a cell gives: outputs, states, what hooks are shown, gradients; arrays by name -----------------------------

TOLERANCE = {"float64": 1e-9, "float32": 3e-4, "float64 with a state of float32": 1e-5}


def loss_weights(named):
    rng = np.random.default_rng(3)
    return {key: np.asarray(rng.standard_normal(shape)) for key, shape in named.items()}


def outcome(drawn, engine):
    """By a Recurrent with an engine of ours."""
    cell = Drawn(drawn)
    rnn = nn.Recurrent(cell, engine=engine, reverse=drawn.reverse,
                       checkpoint_every=drawn.every if engine != "eager" else None)  # fmt: skip
    shown = []
    if drawn.hooked:
        rnn.register_state_hook(lambda grads: shown.append(grads))
    xs = tg.tensor(drawn.xs, requires_grad=drawn.tracked_x)
    start = tuple(tg.tensor(s, requires_grad=drawn.tracked_state and s.dtype.kind == "f") for s in drawn.start)
    ys, states = rnn(xs, start, drawn.lengths, all_states=drawn.all_states)
    results = {"ys": ys, **{f"state {i}": s for i, s in enumerate(states)}}
    weights = loss_weights({key: t.shape for key, t in results.items()})
    terms = [(t * tg.tensor(weights[key], t.dtype)).sum().astype("float64")
             for key, t in results.items() if t.requires_grad]  # fmt: skip
    sources = {"xs": xs, **{f"first {i}": s for i, s in enumerate(start)}, **dict(cell.named_parameters())}
    sources = {key: t for key, t in sources.items() if t.requires_grad}
    loss = sum(terms) if terms else sum(t.sum().astype("float64") * 0 for t in sources.values())
    if terms or sources:
        loss.backward()
    found = {key: t.numpy() for key, t in results.items()}
    for key, s in sources.items():
        found[f"gradient of {key}"] = np.zeros_like(s.numpy()) if s.grad is None else s.grad.numpy()
    return found | {f"shown {k} {i}": g.numpy() for k, grads in enumerate(shown) for i, g in enumerate(grads)}


def torch_outcome(drawn):
    """By a loop over PyTorch's tensors."""
    native = lambda a: np.array(a, np.asarray(a).dtype.newbyteorder("="))
    leaf = lambda a, on: torch.tensor(native(a), requires_grad=bool(on) and a.dtype.kind == "f")
    own = {n: leaf(v.astype(drawn.dtype), n not in drawn.frozen) for n, v in drawn.parameters.items()}
    arrays = {name: torch.tensor(native(a)) for name, a in drawn.captured.items()}
    xs = leaf(drawn.xs, drawn.tracked_x)
    start = [leaf(s, drawn.tracked_state) for s in drawn.start]
    state, ys, after = list(start), [None] * drawn.T, [None] * drawn.T
    for t in range(drawn.T)[:: -1 if drawn.reverse else 1]:
        x, alive = xs[t], None
        if drawn.lengths is not None:
            alive = torch.tensor([t < n for n in drawn.lengths])[:, None]
            x = torch.where(alive, x, torch.zeros_like(x))
        y, new = drawn.step(Torch, x, state, own | arrays)
        if alive is not None:
            y = torch.where(alive, y, torch.zeros_like(y))
            new = [torch.where(alive, n, s) for n, s in zip(new, state, strict=True)]
        state = list(new)
        ys[t], after[t] = y, state
    if drawn.all_states:
        state = [torch.stack(each) for each in zip(*after, strict=True)]
    results = {"ys": torch.stack(ys), **{f"state {i}": s for i, s in enumerate(state)}}
    weights = loss_weights({key: tuple(t.shape) for key, t in results.items()})
    terms = [(t * torch.tensor(weights[key], dtype=t.dtype)).sum().double()
             for key, t in results.items() if t.requires_grad]  # fmt: skip
    sources = {"xs": xs, **{f"first {i}": s for i, s in enumerate(start)}, **own}
    sources = {key: t for key, t in sources.items() if t.requires_grad}
    found = {key: t.detach().numpy() for key, t in results.items()}
    loss = sum(terms) if terms else sum(t.sum() * 0 for t in sources.values())
    grads = torch.autograd.grad(loss, list(sources.values()), allow_unused=True) if sources else []
    for (key, s), g in zip(sources.items(), grads, strict=True):
        found[f"gradient of {key}"] = np.zeros_like(s.detach()) if g is None else g.numpy()
    return found


def differences(found, expected, drawn):
    """What is not equal, in words. (Where a loss depends on nothing that is recorded, no hook is called eagerly.)"""
    bad = [f"{name}: missing" for name in expected.keys() - found.keys() if expected[name].any()]
    bad += [f"{name}: not expected" for name in found.keys() - expected.keys() if found[name].any()]
    for name, e in [(name, e) for name, e in expected.items() if name in found]:
        f = np.asarray(found[name])
        if (f.shape, f.dtype.newbyteorder("=")) != (e.shape, e.dtype.newbyteorder("=")):
            bad.append(f"{name}: {f.shape} {f.dtype} for {e.shape} {e.dtype}")
            continue
        same = f.dtype.itemsize == np.dtype(drawn.dtype).itemsize or f.dtype.kind != "f"
        rounding = drawn.rounding if same else "float32"
        size = max(1.0, float(np.abs(e.astype("f8")).max(initial=0)))
        error = float(np.abs(np.subtract(f, e, dtype=np.float64)).max(initial=0))
        if not error <= (2e-2 if f.dtype == np.float16 else TOLERANCE[rounding]) * size:
            bad.append(f"{name}: {error:.2g} away from what is at most {size:.2g} in size")
    return bad
