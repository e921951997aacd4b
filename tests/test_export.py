"""Exports: what onnxruntime and a C compiler make of each cell is what the library computes."""

import importlib.util
import shutil
import subprocess

from typing import NamedTuple

import numpy as np
import pytest

from cells import CELLS, MGU
from odd_cells import ODD
from test_ops_in_cells import BY_POSITIONS, OPERATIONS, Step

import tinygrad_rnn as tg

from tinygrad_rnn import export, nn, ops
from tinygrad_rnn.autograd import nest
from tinygrad_rnn.cli.main import main
from tinygrad_rnn.tasks import language_model
from tinygrad_rnn.tasks.run_folder import RunFolder

I, H, D = 2, 3, 4
LIBRARY = {
    "LSTM with peepholes": lambda: nn.PeepholeLSTMCell(I, H),
    "LSTM with coupled gates": lambda: nn.CoupledLSTMCell(I, H),
    "LSTM with layer norm": lambda: nn.LayerNormLSTMCell(I, H),
    "LSTM with a projection": lambda: nn.ProjectedLSTMCell(I, H, 2),
    "LSTM with two biases": lambda: nn.LSTMCell(I, H, biases=2),
    "GRU with two biases": lambda: nn.GRUCell(I, H, reset="after", biases=2),
    "IndRNN": lambda: nn.IndRNNCell(I, H),
    "minimal gated unit": lambda: nn.MGUCell(I, H),
    "IRNN": lambda: nn.irnn_cell(I, H),
    "residual": lambda: nn.ResidualCell(MGU(I, I)),
    "zoneout": lambda: nn.ZoneoutCell(nn.LSTMCell(I, H), 0.2),
    "variational dropout": lambda: nn.VariationalDropoutCell(nn.LSTMCell(I, H), 0.2, 0.3),
}
MAKE = {name: case.make for name, case in CELLS.items()} | LIBRARY
every_cell = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)


def randomised(module, seed=0):
    """With random parameters, so that no bias is zero, in evaluation."""
    rng = np.random.default_rng(seed)
    for p in module.parameters():
        p.data = rng.uniform(-0.8, 0.8, p.shape).astype(p.dtype)
    return module.eval()


def drawn(*shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def layer(module):
    return nn.Recurrent(module, engine="eager") if isinstance(module, nn.Cell) else module


def computed(module, xs, state=None, lengths=None):
    """ys, and the leaves of the last state, by the library."""
    with tg.no_grad():
        ys, last = layer(module)(tg.tensor(xs), state, lengths)
    return ys.numpy(), dict(zip(nest.paths(last, "last"), [s.numpy() for s in nest.leaves(last)], strict=True))


# ---- ONNX -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path):
    """Export to ONNX, and run the file with what its inputs are to be, in order: a dict of its outputs."""
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")

    def exported(module, example, *given, **options):
        ports = export.onnx(module, example, tmp_path / "x.onnx", **options)
        session = runtime.InferenceSession(tmp_path / "x.onnx", providers=["CPUExecutionProvider"])
        assert [v.name for v in session.get_inputs()] == ports.inputs
        found = session.run(None, dict(zip(ports.inputs, given, strict=True)))
        return dict(zip(ports.outputs, found, strict=True))

    return exported


def same(found, ys, last, tolerance=1e-5):
    """found: by an exported file  ys, last: by the library, of whose state a file gives what changes"""
    assert found.keys() - {"ys"} <= last.keys()
    for name, numbers in ({"ys": ys} | last).items():
        if name in found:
            np.testing.assert_allclose(found[name], numbers, tolerance, tolerance, err_msg=name)


@every_cell
def test_a_cell_is_a_scan_over_sequences_of_any_length_and_number(run, make):
    cell, xs = randomised(make()), drawn(7, 5, I)
    same(run(cell, drawn(3, 2, I), xs), *computed(cell, xs))


@every_cell
def test_sequences_have_lengths_of_their_own(run, make):
    cell, xs, lengths = randomised(make()), drawn(7, 4, I), np.array([7, 3, 0, 1])
    clean = xs.copy()
    for b, n in enumerate(lengths):
        xs[n:, b] = np.nan
    same(run(cell, drawn(3, 2, I), xs, lengths, lengths=True), *computed(cell, clean, lengths=lengths))


def test_what_stands_behind_an_end_reaches_no_other_sequence(run):
    cell, lengths = randomised(ODD["attention among rows"]()).to("float32"), np.array([7, 3, 0, 1])
    xs = drawn(7, 4, cell.inputs)
    for b, n in enumerate(lengths):
        xs[n:, b] = np.nan
    same(run(cell, drawn(3, 2, cell.inputs), xs, lengths, lengths=True), *computed(cell, xs, lengths=lengths))


LAYERS = {
    "LSTM": lambda: nn.LSTM(I, H),
    "GRU of two layers": lambda: nn.GRU(I, H, 2, reset="after"),
    "RNN in both directions": lambda: nn.RNN(I, H, bidirectional=True),
    "LSTM of two layers in both directions": lambda: nn.LSTM(I, H, 2, bidirectional=True),
    "LSTM with a projection": lambda: nn.LSTM(I, H, 2, proj_size=2),
    "layers of any cell": lambda: nn.Layers(MGU, I, H, 2),
    "two cells": lambda: nn.Bidirectional(nn.LSTMCell(I, H), nn.GRUCell(I, H)),
    "from the last step": lambda: nn.Recurrent(nn.GRUCell(I, H), reverse=True),
}


@pytest.mark.parametrize("given", [False, True], ids=["from its initial state", "from a given state"])
@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_layers_have_their_state_as_the_library_has_it(run, make, given):
    module, xs, lengths = randomised(make()), drawn(7, 4, I), np.array([7, 3, 0, 1])
    last = layer(module)(tg.tensor(drawn(2, 4, I, seed=2)))[1]
    example = layer(module)(tg.tensor(drawn(2, 2, I)))[1]
    leaves = [s.numpy() for s in nest.leaves(last)] if given else []
    found = run(module, drawn(3, 2, I), xs, lengths, *leaves, lengths=True, state=example if given else None)
    same(found, *computed(module, xs, last if given else None, lengths))
    assert len(found) == 1 + len(nest.leaves(last))


def looking(kind, mode):
    feed = mode != "no feed"
    query = mode if feed else "output"
    cell = nn.LSTMCell(I + D * feed, D)
    return randomised(nn.AttentionCell(cell, nn.ATTENTIONS[kind](D, D), query=query, feed=feed))


def memory(cell, B, S, masked, seed=3):
    lengths = np.arange(B) % S if masked else None  # one has nothing to look at
    remembered = cell.attention.remember(tg.tensor(drawn(S, B, D, seed=seed)), lengths=lengths)
    return nest.map_leaves(lambda s: s.detach(), cell.start(cell.cell.initial_state(B), remembered))


ASKED = [(kind, "output", True) for kind in nn.ATTENTIONS]
ASKED += [("general", mode, True) for mode in ("previous", "context", "no feed")] + [("additive", "output", False)]


@pytest.mark.parametrize(("kind", "mode", "masked"), ASKED)
def test_attention_looks_at_a_memory_of_any_length(run, kind, mode, masked):
    cell, xs = looking(kind, mode), drawn(7, 4, I)
    state = memory(cell, 4, 6, masked)
    found = run(cell, drawn(3, 2, I), xs, *[s.numpy() for s in nest.leaves(state)], state=memory(cell, 2, 3, masked))
    same(found, *computed(cell, xs, state))
    assert not any("memory" in name for name in found), "what no step changes"


@pytest.mark.parametrize(
    "make", [lambda: nn.LSTM(D, H, 2), lambda: nn.LSTM(D, H, bidirectional=True)], ids=["past", "both"]
)
def test_modules_one_after_the_other_are_a_language_model(run, make):
    lstm = make()
    width = H * (1 + lstm.bidirectional)
    parts = [nn.Embedding(101, D), nn.Dropout(0.5), lstm, nn.LayerNorm(width), nn.Linear(width, 101)]
    for seed, part in enumerate(parts):
        randomised(part, seed).train()
    ids = np.random.default_rng(0).integers(0, 101, (7, 4))
    found = run(parts, np.zeros((1, 1), np.int64), ids)
    assert all(part.training for part in parts), "they are as they were"
    for part in parts:
        part.eval()
    ys, last = computed(lstm, parts[0](ids).numpy())
    same(found, parts[4](parts[3](tg.tensor(ys))).numpy(), last)


# ---- C --------------------------------------------------------------------------------------------------------------

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CC = ["cc", "-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-pedantic"]
CC += ["-fsanitize=bounds", "-fsanitize-undefined-trap-on-error"]  # what is read outside an array may be right by luck
needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")


class Program(NamedTuple):
    """An exported file, compiled."""

    file: str

    def __call__(self, text, *arguments):
        done = subprocess.run([self.file, *arguments], input=text, capture_output=True, check=True)
        return done.stdout.decode()

    def step(self, xs):
        """What it writes for xs (T, …), a row a step."""
        lines = self(" ".join(map(str, xs.ravel())).encode()).splitlines()
        return np.array([line.split() for line in lines], float)


def compiled(folder, module, xs, **options):
    export.c(module, xs, folder / "model.c", **options)
    subprocess.run([*CC, "-o", folder / "model", folder / "model.c", "-lm"], check=True)
    return Program(str(folder / "model"))


QUICK = {"LSTM", "nested state", "layer norm", "Stack of LSTM and GRU", "IndRNN"}


@needs_cc
@pytest.mark.parametrize(
    "make", [pytest.param(m, id=n, marks=[] if n in QUICK else [pytest.mark.slow]) for n, m in MAKE.items()]
)
def test_a_cell_in_c_computes_the_same_step_by_step(tmp_path, make):
    cell, xs = randomised(make()), drawn(20, 1, I)
    ys, _ = computed(cell, xs)
    np.testing.assert_allclose(compiled(tmp_path, cell, xs).step(xs), ys[:, 0], 1e-5, 1e-5)


@needs_cc
@pytest.mark.parametrize(
    "make", [pytest.param(m, id=n, marks=[] if n == "LSTM" else [pytest.mark.slow]) for n, m in MAKE.items()]
)
def test_weights_of_eight_bits_cost_a_hundredth(tmp_path, make):
    cell, xs = randomised(make()), drawn(20, 1, I)
    ys, _ = computed(cell, xs)
    error = np.abs(compiled(tmp_path, cell, xs, weights="int8").step(xs) - ys[:, 0]).max() / np.abs(ys).max()
    assert 0 < error < 0.02


@needs_cc
@pytest.mark.slow
@pytest.mark.parametrize("kind", nn.ATTENTIONS)
def test_attention_in_c_looks_at_the_memory_that_the_state_holds(tmp_path, kind):
    cell, xs = looking(kind, "output"), drawn(9, 1, I)
    state = memory(cell, 1, 5, False)
    ys, _ = computed(cell, xs, state)
    np.testing.assert_allclose(compiled(tmp_path, cell, xs, state=state).step(xs), ys[:, 0], 1e-5, 1e-5)


@pytest.mark.parametrize("name", sorted(OPERATIONS.keys() - BY_POSITIONS))
def test_an_operation_of_papers_is_the_same_in_onnx(run, name):
    cell, xs = randomised(Step(name)), drawn(5, 3, 4)
    same(run(cell, xs[:2, :2], xs), *computed(cell, xs), tolerance=1e-4)  # some make rounding errors larger


@needs_cc
def test_operations_of_papers_are_the_same_in_c(tmp_path):
    tg.manual_seed(1)
    cell = nn.Stack([Step(name) for name in OPERATIONS if name not in BY_POSITIONS])
    for p in cell.parameters():
        p.data = p.numpy() + 0.3 * np.random.default_rng(p.size).standard_normal(p.shape)
    cell, xs = cell.to("float64"), drawn(6, 1, 4).astype(np.float64)
    np.testing.assert_allclose(compiled(tmp_path, cell, xs).step(xs), computed(cell, xs)[0][:, 0], 1e-11, 1e-11)


HINGE = tg.elementwise("hinge", "a * (b > 0) + fmax(1 - a * b, -0.5 * (a <= b)) + ((a > 0) & (b != a))")
ROUGH = tg.elementwise(
    "rough", "log1p(exp(-abs(a))) + fmod(3 * a, 0.7) * pow(abs(b) + 0.1, 1.5) + rint(sign(b) * cos(a))"
)


@needs_cc
@pytest.mark.parametrize("op", [HINGE, ROUGH], ids=["hinge", "rough"])
def test_a_formula_of_ones_own_is_the_same_in_onnx_and_in_c(tmp_path, run, op):
    class Own(nn.RNNCell):
        def forward(self, x, h):
            h = ops.tanh(op(x @ self.U, h @ self.W + self.b) + op(h, 0.25))
            return h, h

    cell, xs = randomised(Own(I, H)), drawn(5, 3, I)
    same(run(cell, xs[:2, :2], xs), *computed(cell, xs))
    found = compiled(tmp_path, cell, xs[:, :1]).step(xs[:, :1])
    np.testing.assert_allclose(found, computed(cell, xs[:, :1])[0][:, 0], 1e-5, 1e-5)


@pytest.mark.parametrize("x", [-40, -1e-4, 1e-6, 0.3, 0.7, 30])
def test_a_small_exponential_and_its_logarithm_lose_no_digits_in_onnx(run, x):
    class Grown(nn.Cell):
        def initial_state(self, batch_size):
            return self.zeros(batch_size, 1)

        def forward(self, x, h):
            return ops.concat([ops.expm1(x), ops.log1p(abs(x))], 1), h

    xs = np.full((1, 1, 1), x, np.float32)
    np.testing.assert_allclose(
        run(Grown(), xs, xs)["ys"][0, 0], [np.expm1(xs[0, 0, 0]), np.log1p(abs(xs[0, 0, 0]))], 1e-6
    )


class Chosen(nn.Cell):
    """Some of what it read, counted from the end, and the likeliest of the rest; equal ones are there."""

    def initial_state(self, batch_size):
        return self.zeros(batch_size, 2)

    def forward(self, x, h):
        best = ops.argmax(ops.round(x), 1, keepdims=True)
        return ops.concat([x[:, np.array([-1, 0, -3])], best.astype(x.dtype), h], 1), h + x[:, [-2, 1]]


@needs_cc
def test_places_from_the_end_and_the_first_of_equal_ones(tmp_path, run):
    xs = drawn(9, 2, 4)
    same(run(Chosen(), xs, xs), *computed(Chosen(), xs))
    np.testing.assert_allclose(compiled(tmp_path, Chosen(), xs[:, :1]).step(xs[:, :1]), computed(Chosen(), xs)[0][:, 0])


class Of(nn.Cell):
    """y and the new state by a function of x and h (B, 4)."""

    def __init__(self, function):
        self.function = function

    def initial_state(self, batch_size):
        return self.zeros(batch_size, 4)

    def forward(self, x, h):
        return self.function(x, h)


class Kept(nn.Cell):
    """Of three parts of a state it changes one, reads one, and does not look at one."""

    def initial_state(self, batch_size):
        return self.zeros(batch_size, 2), self.zeros(batch_size, 2) + 5, self.zeros(batch_size, 2) + 7

    def forward(self, x, state):
        h, unread, read = state
        return h + read + x[:, :2], (h + 1, unread, read)


def three(x, h):
    return ops.stack([x, h + 1, x * 2], 1)  # (B, 3, 4)


def nested(x, h):
    for _ in range(7):
        x = HINGE(x, h) * 0.1 + ops.relu(x)
    return x, h


ALIKE = {
    "a leaf that is not read": (Kept, False),
    "a sum of booleans": (lambda: Of(lambda x, h: (((x > 0) + (x < 1)).astype("float32"), h)), True),
    "a product of booleans": (lambda: Of(lambda x, h: (((x > 0) * (x < 1)).astype("float32"), h)), True),
    "the largest": (lambda: Of(lambda x, h: (ops.take_along_axis(x, ops.argmax(x, 1, keepdims=True), 1), h)), False),
    "the largest along an axis within": (
        lambda: Of(lambda x, h: (ops.take_along_axis(three(x, h), ops.argmax(three(x, h), 1, keepdims=True), 1), h)),
        False,
    ),
    "a formula that says its argument several times, nested": (lambda: Of(nested), False),
}  # fmt: skip


@needs_cc
@pytest.mark.parametrize(("make", "c_alone"), ALIKE.values(), ids=ALIKE)
def test_c_and_onnx_compute_what_the_library_does(tmp_path, run, make, c_alone):
    xs = drawn(5, 3, 4)
    ys, last = computed(make(), xs)
    if not c_alone:
        same(run(make(), xs[:2, :2], xs), ys, last)
    found = compiled(tmp_path, make(), xs[:, :1]).step(xs[:, :1])
    np.testing.assert_allclose(found, ys[:, :1].reshape(5, -1), 1e-5, 1e-5)
    assert (tmp_path / "model.c").stat().st_size < 20_000, "and is no longer than what it computes"


@needs_cc
@pytest.mark.parametrize(
    "pair", [lambda x: (ops.argmax(x, 1, keepdims=True), x), lambda x: (x > 0, x)], ids=["integers", "booleans"]
)
def test_several_outputs_of_different_dtypes_stand_side_by_side_in_c(tmp_path, pair):
    xs = drawn(5, 1, 4)
    with tg.no_grad():
        ys, _ = nn.Recurrent(Of(lambda x, h: (pair(x), h)), engine="eager")(tg.tensor(xs))
    expected = np.concatenate([y.numpy().reshape(5, -1).astype(float) for y in ys], 1)
    np.testing.assert_allclose(compiled(tmp_path, Of(lambda x, h: (pair(x), h)), xs).step(xs), expected, 1e-6)


class Seven(nn.Cell):
    def initial_state(self, batch_size):
        return self.zeros(batch_size, *(2,) * 7)

    def forward(self, x, h):
        h = ops.tanh(h.permute(0, 7, 2, 3, 4, 5, 6, 1) + x[:, 0, None, None, None, None, None, None, None])
        return h.sum(axis=(1, 3)).reshape(len(x), -1), h + ops.flip(h, (2, 6)) * 0.5


@needs_cc
def test_an_array_may_have_any_number_of_axes_in_c(tmp_path):
    xs = drawn(4, 1, 2)
    np.testing.assert_allclose(compiled(tmp_path, Seven(), xs).step(xs), computed(Seven(), xs)[0][:, 0], 1e-5, 1e-6)


@needs_cc
def test_weights_may_be_called_as_functions_of_c_are(tmp_path):
    names = ["free", "div", "abs", "round", "exit", "trunc", "int64_t", "memcpy", "model_step", "model_state", "x"]

    class Named(nn.Cell):
        def __init__(self):
            rng = np.random.default_rng(0)
            for name in names:
                setattr(self, name, nn.Parameter(rng.standard_normal(4).astype("f")))

        def initial_state(self, batch_size):
            return {"memcpy": self.zeros(batch_size, 4) + 1, "memset": self.zeros(batch_size, 4) + 2}

        def forward(self, x, state):
            y = x + state["memcpy"] * 0.5 - state["memset"]
            for name in names:
                y = ops.tanh(y * getattr(self, name)) + 0.1
            return y, {"memcpy": y, "memset": state["memcpy"] + " /* not the end */".count("*")}

    xs = drawn(4, 1, 4)
    np.testing.assert_allclose(compiled(tmp_path, Named(), xs).step(xs), computed(Named(), xs)[0][:, 0], 1e-5, 1e-6)


# ---- ids ------------------------------------------------------------------------------------------------------------


def of_ids(ids, outputs):
    parts = [nn.Embedding(ids, D), nn.GRUCell(D, H), nn.Linear(H, outputs)]
    return [randomised(part, seed) for seed, part in enumerate(parts)]


def logits_of(parts, ids):
    return parts[2](computed(parts[1], parts[0](ids).numpy())[0]).numpy()[:, 0]


@needs_cc
@pytest.mark.parametrize("weights", ["float32", "int8"])
@pytest.mark.parametrize("outputs", [3, 5, 9], ids=["fewer outputs than ids", "as many", "more"])
def test_a_model_of_ids_reads_them_and_goes_on_where_it_says_ids(tmp_path, outputs, weights):
    parts, ids = of_ids(5, outputs), np.array([[3], [0], [4], [4]])
    parts[0].E.data = parts[0].E.numpy() * (10.0 ** np.arange(-2, 3, dtype="f"))[:, None]  # each row has its scale
    model = compiled(tmp_path, parts, ids, weights=weights)
    expected = logits_of(parts, ids)
    tolerance = 1e-5 if weights == "float32" else 0.02 * np.abs(expected).max()
    np.testing.assert_allclose(model.step(ids), expected, tolerance, tolerance)
    done = subprocess.run([model.file], input=b"1 5", capture_output=True, check=False)
    assert done.returncode == 2 and done.stderr == b"model: an id must be from 0 to 4, got 5\n"
    said = model(b"3 0", "6").split()
    if outputs != 5:
        assert len(said) == 2 * outputs, "they are no ids: a line for each that was read"
        return
    if weights == "float32":
        known = [3, 0]
        for _ in range(6):
            known.append(int(logits_of(parts, np.array(known)[:, None])[-1].argmax()))
        assert list(map(int, said)) == known[2:]


@needs_cc
def test_a_model_that_reads_several_ids_a_step_reads_numbers(tmp_path):
    class Two(nn.Cell):
        def __init__(self):
            self.E = nn.Parameter(drawn(5, 4))

        def initial_state(self, batch_size):
            return self.zeros(batch_size, 4)

        def forward(self, x, h):
            h = ops.tanh(h + self.E[x].sum(1))
            return h, h

    ids = np.array([[[3, 0]], [[4, 1]]])
    np.testing.assert_allclose(compiled(tmp_path, Two(), ids).step(ids), computed(Two(), ids)[0][:, 0], 1e-5)


def test_an_id_below_zero_is_refused_where_the_file_runs(run):
    for bad in (-1, 5):
        with pytest.raises(Exception, match="out of data bounds"):
            run(of_ids(5, 3), np.zeros((1, 1), np.int64), np.array([[bad]]))


@needs_cc
def test_letters_may_be_any_that_utf8_has(tmp_path):
    tokens = ["a", "é", "猫", "🙂", "?", "\\", '"', "\n"]
    parts = of_ids(len(tokens), len(tokens))
    model = compiled(tmp_path, parts, np.zeros((1, 1), np.int64), tokens=tokens)
    ids = np.array([[7], [3], [2], [1], [0], [4], [4], [5], [6]])
    said = model("".join(tokens[i] for i in ids[:, 0]).encode())
    found = np.array([row.split() for row in said.splitlines()], float)
    np.testing.assert_allclose(found, logits_of(parts, ids), 1e-5, 1e-6)
    known = ids[:3]
    for _ in range(9):
        known = np.append(known, [[logits_of(parts, known)[-1].argmax()]], 0)
    assert model("\n🙂猫".encode(), "9") == "".join(tokens[i] for i in known[3:, 0])
    compiled(tmp_path, of_ids(2, 2), np.zeros((1, 1), np.int64), tokens=["??=", "??/"])  # no trigraphs


WRONG_TOKENS = {
    "too few": (lambda: of_ids(5, 5), list("abc"), "tokens must be of 5 ids, got 3"),
    "too many": (lambda: of_ids(5, 5), list("abcdef"), "tokens must be of 5 ids, got 6"),
    "of numbers": (
        lambda: nn.LSTMCell(I, H),
        list("ab"),
        "tokens must be of a model that reads ids, this one reads num",
    ),
}


@pytest.mark.parametrize(("make", "tokens", "message"), WRONG_TOKENS.values(), ids=WRONG_TOKENS)
def test_tokens_are_those_of_the_ids(tmp_path, make, tokens, message):
    module = make()
    xs = drawn(2, 1, I) if isinstance(module, nn.Cell) else np.zeros((1, 1), np.int64)
    with pytest.raises(ValueError, match=f"^export.c: {message}"):
        export.c(module, xs, tmp_path / "x.c", tokens=tokens)


class Queue(nn.Cell):
    """It says what it read two steps before."""

    def initial_state(self, batch_size):
        return self.zeros(batch_size, I), self.zeros(batch_size, I)

    def forward(self, x, state):
        last, before = state
        return before, (x, last)


@needs_cc
def test_a_state_in_c_reads_what_the_others_were(tmp_path):
    xs = drawn(9, 1, I)
    found = compiled(tmp_path, Queue(), xs).step(xs)
    np.testing.assert_allclose(found, np.concatenate([np.zeros((2, I)), xs[:-2, 0]]), 1e-6)


@needs_cc
def test_double_precision_stays(tmp_path):
    cell, xs = randomised(MAKE["layer norm"]()).to("float64"), drawn(9, 1, I).astype(np.float64)
    np.testing.assert_allclose(compiled(tmp_path, cell, xs).step(xs), computed(cell, xs)[0][:, 0], 1e-13, 1e-13)


def test_c_has_the_names_and_the_lines_of_the_code(tmp_path):
    export.c(randomised(MGU(I, H)), drawn(2, 1, I), tmp_path / "mgu.c")
    text = (tmp_path / "mgu.c").read_text()
    step = text.split("void mgu_step")[1].split("\n}")[0]
    line = MGU.forward.__code__.co_firstlineno
    assert f"/* ops.sigmoid(x @ self.Uf + h @ self.Wf), MGU.forward:{line + 1} */\n  for (int i" in step
    assert "f[i] = 1.0f / (1.0f + expf(" in step and "n[" not in step.split("float n_2")[0]
    assert "h[i] = ((1 - f[i])".replace("1 -", "1.0f -") in step
    assert "malloc" not in text


# ---- what is not as usual -------------------------------------------------------------------------------------------

REFUSED = {
    "own primitive": "user.bell at OwnPrimitive.mixed",
    "primitive of two outputs": "user.turned at PrimitiveOfTwoOutputs.mixed",
    "takes": "getitem at Takes.mixed",
}
SEES_THE_BATCH = {"mean over the batch": "BatchMean", "reads shapes": "ShapeReader"}


def test_a_constant_that_holds_the_size_of_the_batch_is_refused_in_onnx(run):
    cell = Of(lambda x, h: (x * tg.tensor(np.array([1 / len(x)], np.float32)) + h, h))
    with pytest.raises(ValueError, match=r"^export.onnx: Of must do the same .*sizes"):
        run(cell, drawn(2, 2, 4), drawn(2, 2, 4))


@pytest.mark.parametrize("compare", [lambda a, b: a < b, lambda a, b: a >= b])
def test_booleans_have_no_order_in_onnx(run, compare):
    cell = Of(lambda x, h: (compare(x > 0, h > 0).astype("float32"), h))
    with pytest.raises(ValueError, match="of booleans has no form in ONNX; make them numbers first"):
        run(cell, drawn(2, 2, 4), drawn(2, 2, 4))


def test_states_of_several_parts_are_as_many(run):
    parts = [nn.GRUCell(I, H), nn.GRUCell(H, H)]
    states = tuple(part.initial_state(1) for part in parts)
    assert run(parts, drawn(2, 1, I), drawn(3, 4, I), *(np.ones((4, H), "f"),) * 2, state=states)["ys"].shape == (
        3,
        4,
        H,
    )
    for wrong, got in ((states[:1], "1"), (states[0], "Tensor")):
        with pytest.raises(
            ValueError, match=f"^export.onnx: state must be a tuple of 2, one for each part, got {got}$"
        ):
            run(parts, drawn(2, 1, I), drawn(3, 4, I), state=wrong)


CAPTURES = {n for n in ODD if n.startswith("attention") and n not in ("attention among rows", "attention to a state")}


@pytest.mark.slow
@needs_cc
@pytest.mark.parametrize("name", sorted(ODD.keys() - CAPTURES))
def test_odd_cells_are_the_same_or_refused(tmp_path, run, name):
    cell = randomised(ODD[name]()).to("float32")
    xs = drawn(6, 4, getattr(cell, "inputs", 2))
    if name in REFUSED:
        for write in export.c, export.onnx:
            with pytest.raises(ValueError, match=rf"^export: {REFUSED[name]}, line \d+ "):
                write(cell, xs, tmp_path / "x")
        return
    ys, last = computed(cell, xs)
    if name in SEES_THE_BATCH:
        with pytest.raises(ValueError, match=f"^export.onnx: {SEES_THE_BATCH[name]} must do the same .*sizes"):
            run(cell, xs, xs)
    else:
        same(run(cell, xs[:2, :2], xs), ys, last)
    alone, _ = computed(cell, xs[:, :1])
    np.testing.assert_allclose(compiled(tmp_path, cell, xs).step(xs[:, :1]), alone.reshape(6, -1), 1e-5, 1e-5)


class Drawing(nn.RNNCell):
    def forward(self, x, h):
        h, _ = super().forward(x, h)
        return h + ops.uniform(h.shape), h


BAD = {
    "no module": (
        lambda w, f: w(3, drawn(2, 1, I), f),
        "^export.{}: module must be an nn.Module, .* got int$",
        TypeError,
    ),
    "no sequence": (
        lambda w, f: w(nn.LSTMCell(I, H), drawn(2), f),
        r"^export.{}: xs must be \(T, B, I\), .* got \(2,\)$",
    ),
    "several inputs": (
        lambda w, f: w(nn.LSTMCell(I, H), (drawn(2, 1, I), drawn(2, 1, I)), f),
        r"^export.{}: xs must be one tensor, several inputs have no form in a file",
    ),
    "random numbers": (
        lambda w, f: w(Drawing(I, H), drawn(2, 1, I), f),
        "^export: .* draws random numbers in its step",
    ),
}


@pytest.mark.parametrize("form", ["c", "onnx"])
@pytest.mark.parametrize("case", BAD.values(), ids=BAD)
def test_bad_input_is_told_in_one_line(tmp_path, case, form):
    if form == "onnx":
        pytest.importorskip("onnx")
    call, message, *kind = case
    with pytest.raises(*(kind or [ValueError]), match=message.format(form)) as error:
        call(getattr(export, form), tmp_path / "x")
    assert "\n" not in str(error.value) and not (tmp_path / "x").exists()


C_ALONE = {
    "weights": ({"weights": "int4"}, 'weights must be "float32" or "int8", got \'int4\''),
    "name": ({"name": "2x"}, "name must be a name in C, got '2x'; pass name="),
    "state": (
        {"state": nn.LSTMCell(I, H).initial_state(2)},
        r"state must be that of one sequence, B = 1; a step gives \(2, 3\)",
    ),
}


@pytest.mark.parametrize(("options", "message"), C_ALONE.values(), ids=C_ALONE)
def test_what_c_cannot_be_is_told(tmp_path, options, message):
    with pytest.raises(ValueError, match=f"^export.c: {message}"):
        export.c(nn.LSTMCell(I, H), drawn(2, 1, I), tmp_path / "x.c", **options)


def test_c_does_not_know_the_future(tmp_path):
    for module in nn.LSTM(I, H, bidirectional=True), nn.Recurrent(nn.RNNCell(I, H), reverse=True):
        with pytest.raises(ValueError, match=r"^export.c: \w+ reads the future, which no step knows"):
            export.c(module, drawn(2, 1, I), tmp_path / "x.c")


def test_without_onnx_a_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(RuntimeError, match=r'^export.onnx: onnx is not installed; pip install "tinygrad-rnn\[onnx\]"$'):
        export.onnx(nn.LSTMCell(I, H), drawn(2, 1, I), tmp_path / "x.onnx")


# ---- trained models -------------------------------------------------------------------------------------------------

TEXT = 'Whether "näïve" or café\\bar, what? the ünicode of 1 + 1 = 2 is: ∞.\n' * 60


def train(folder, *more):
    (folder / "text").write_text(TEXT, encoding="utf-8")
    options = ["--hidden", "24", "--layers", "2", "--epochs", "3", "--batch", "4", "--lr", "0.02", *more]
    assert main(["train", "lm", "--text", str(folder / "text"), "--out", str(folder / "run"), *options]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train(tmp_path_factory.mktemp("runs"), "--embed", "12")


@needs_cc
@pytest.mark.parametrize("tied", [False, True])
def test_a_trained_model_writes_the_same_500_characters_in_the_library_in_onnx_and_in_c(
    request, tied, tmp_path, capsys
):
    trained = train(tmp_path, "--tie") if tied else request.getfixturevalue("trained")
    capsys.readouterr()
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    files = {form: str(tmp_path / f"model.{form}") for form in ("onnx", "c")}
    assert main(["export", str(trained), "--onnx", files["onnx"], "--c", files["c"]]) == 0
    assert [line.split(",")[0] for line in capsys.readouterr().out.splitlines()] == [
        f"wrote {file}" for file in files.values()
    ]
    model, vocabulary = language_model.load(RunFolder(trained))
    wanted = "".join(language_model.sample(model, vocabulary, "naïve"[:2], 500, temperature=0))
    assert len(wanted) == 500 and len(set(wanted)) > 5

    subprocess.run([*CC, "-o", tmp_path / "model", files["c"], "-lm"], check=True)
    assert Program(str(tmp_path / "model"))(b"na", "500") == wanted

    session = runtime.InferenceSession(files["onnx"], providers=["CPUExecutionProvider"])
    names = [v.name for v in session.get_inputs()]
    state = [s.numpy() for s in nest.leaves(model.initial_state(1))]
    ids, said = vocabulary.encode("na")[:, None], []
    for _ in range(500):
        logits, *state = session.run(None, dict(zip(names, [ids, *state], strict=True)))
        ids = logits[-1:].argmax(-1)
        said.append(vocabulary.tokens[int(ids[0, 0])])
    assert "".join(said) == wanted


@needs_cc
def test_letters_that_a_model_does_not_know_are_named(trained, tmp_path):
    assert main(["export", str(trained), "--c", str(tmp_path / "model.c"), "--weights", "int8"]) == 0
    subprocess.run([*CC, "-o", tmp_path / "model", tmp_path / "model.c", "-lm"], check=True)
    for text, line in ("né@", 'model: "@" is no letter that the model knows\n'), ("", "model: there must be a token"):
        done = subprocess.run([tmp_path / "model", "5"], input=text.encode(), capture_output=True, check=False)
        assert done.returncode == 2 and done.stderr.decode().startswith(line) and not done.stdout


@pytest.mark.slow
def test_a_trained_model_writes_the_same_500_characters_in_a_page(trained, tmp_path):
    pytest.importorskip("ziglang")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium")
    assert main(["export", str(trained), "--html", str(tmp_path / "page.html")]) == 0
    model, vocabulary = language_model.load(RunFolder(trained))
    wanted = "".join(language_model.sample(model, vocabulary, "Wh", 500, temperature=0))
    with pytest.importorskip("playwright.sync_api").sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page, errors = browser.new_page(), []
        page.on("pageerror", lambda error: errors.append(error))
        page.goto((tmp_path / "page.html").as_uri())
        assert page.evaluate("sample('Wh', 500, 0)") == wanted
        assert page.evaluate("sample('né', 9, 1.5).length") == 9
        for prompt, said in (("Wh", wanted), ("né@", "“@” is no letter that the model knows")):
            page.fill("#prompt", prompt)
            page.evaluate("document.getElementById('temperature').value = 0")
            page.click("button")
            if page.inner_text("button") == "Write":  # it was still writing: that stopped it
                page.click("button")
            page.wait_for_function("document.querySelector('button').textContent === 'Write'")
            assert said in page.evaluate("document.getElementById('text').textContent")
        assert not errors
        browser.close()


def test_without_ziglang_a_line_says_what_to_install(trained, tmp_path, monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ziglang" else find(name))
    assert main(["export", str(trained), "--html", str(tmp_path / "page.html")]) == 2
    assert 'export.html: ziglang is not installed; pip install "tinygrad-rnn[web]"' in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()


def test_a_page_has_letters_alone(tmp_path):
    parts = [nn.Embedding(2, D), nn.GRUCell(D, H), nn.Linear(H, 2)]
    for tokens, said in ((["a", "the"], "must be single letters, got 'the'"), (["a"], "for each of 2 logits, got 1")):
        with pytest.raises(ValueError, match=f"^export.html: .*{said}"):
            export.html(parts, tmp_path / "page.html", tokens)


COMMANDS = {
    "nothing to write": ([], "export: there must be a file to write; add --onnx FILE, --c FILE or --html FILE"),
    "weights of ONNX": (["--onnx", "x", "--weights", "int8"], "--weights int8: is for C; add --c FILE or --html FILE"),
    "no letters": (["--onnx", "x", "--html", "y"], "--html: each token must be a character, RUN has '<unk>'"),
    "no folder": (["--c", "no-such-folder/x.c"], "'no-such-folder/x.c' cannot be written: there is no folder"),
}


@pytest.mark.parametrize(("options", "message"), COMMANDS.values(), ids=COMMANDS)
def test_the_command_tells_what_is_wrong(trained, capsys, monkeypatch, tmp_path, options, message):
    monkeypatch.chdir(tmp_path)
    run = train(tmp_path, "--embed", "12", "--min-count", "61", "--epochs", "1") if "<unk>" in message else trained
    capsys.readouterr()
    assert main(["export", str(run), *options]) == 2
    assert capsys.readouterr().err.startswith(f"tinygrad-rnn: {message.replace('RUN', str(run))}")
    assert not (tmp_path / "x").exists()
