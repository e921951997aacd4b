"""What a cell may have as its state and as its y: in every engine, ragged or not, after each step or the last."""

import dataclasses

from collections import OrderedDict, defaultdict
from typing import Any, NamedTuple

import numpy as np
import pytest

import tinygrad_rnn as tg

from tinygrad_rnn import nn, ops
from tinygrad_rnn.autograd import nest
from tinygrad_rnn.ops import tanh

pytestmark = pytest.mark.filterwarnings("ignore:.* runs slower than it might:UserWarning")  # told once for a class
T, B, I, H = 6, 2, 3, 4
ENGINES = ("eager", "numpy", "llvm")
XS = np.random.default_rng(0).normal(size=(T, B, I)).astype("f")
ways = pytest.mark.parametrize("ways", [{}, {"lengths": [6, 3]}, {"all_states": True}], ids=["", "ragged", "all"])
engines = pytest.mark.parametrize("engine", ENGINES)
each_engine = pytest.mark.parametrize("engine", ["eager", "numpy", pytest.param("llvm", marks=pytest.mark.slow)])


class Pair(NamedTuple):
    h: Any
    c: Any


@dataclasses.dataclass
class Record:
    h: Any
    c: Any


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    h: Any
    c: Any = dataclasses.field(kw_only=True)


class Attributes(dict):
    """Its keys are its attributes."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.__dict__ = self


class Dotted(dict):
    __getattr__ = dict.__getitem__
    __setattr__ = dict.__setitem__


KINDS = {
    "a list": lambda h, c: [h, c],
    "a named tuple": Pair,
    "a dict": lambda h, c: {"h": h, "c": c},
    "an ordered dict": lambda h, c: OrderedDict(h=h, c=c),
    "a default dict": lambda h, c: defaultdict(list, h=h, c=c),
    "attributes": lambda h, c: Attributes(h=h, c=c),
    "dotted": lambda h, c: Dotted(h=h, c=c),
    "a dataclass": Record,
    "a frozen dataclass": lambda h, c: Frozen(h, c=c),
    "a dict in a tuple": lambda h, c: ({"h": h}, [c, None]),
}
WRITABLE = ["a list", "a dict", "an ordered dict", "a default dict", "attributes", "dotted", "a dataclass"]


class Weighted(nn.Cell):
    def __init__(self, units=H):
        draw = np.random.default_rng(1).normal
        self.units = units
        self.U, self.W = nn.Parameter(draw(size=(I, units)).astype("f")), nn.Parameter(draw(size=(H, H)).astype("f"))

    def step(self, x, h, c):
        c = 0.5 * c + x @ self.U
        return tanh(c + h @ self.W), c


class Of(Weighted):
    """A cell whose state is built by a function of h and c."""

    def __init__(self, make):
        super().__init__()
        self.make = make

    def initial_state(self, batch_size):
        return self.make(self.zeros(batch_size, H), self.zeros(batch_size, H))

    def forward(self, x, state):
        h, c = self.step(x, *nest.leaves(state))
        return h, self.make(h, c)


def put(state, h, c):
    """Write into a container, as a user would."""
    if isinstance(state, list):
        state[:] = [h, c]
    elif isinstance(state, dict) and not isinstance(state, (Attributes, Dotted)):
        state["h"], state["c"] = h, c
    else:
        state.h, state.c = h, c


class Writes(Of):
    """The same, but it writes into the state that it is given, and returns that."""

    def forward(self, x, state):
        h, c = self.step(x, *nest.leaves(state))
        put(state, h, c)
        return h, state


class Keeps(Of):
    """It returns one container of its own at each step."""

    def __init__(self, make):
        super().__init__(make)
        self.mine = make(None, None)

    def forward(self, x, state):
        put(self.mine, *self.step(x, *nest.leaves(state)))
        return nest.leaves(self.mine)[0], self.mine


def run(cell, engine, **ways):
    """What a call returns, and the gradients of all of it: as arrays."""
    x = tg.tensor(XS, requires_grad=True)
    ys, state = nn.Recurrent(cell, engine=engine)(x, **ways)
    found = [*nest.leaves(ys), *nest.leaves(state)]
    floats = [t for t in found if isinstance(t, tg.Tensor) and t.dtype.kind == "f"]
    sum(((i + 1) * t * t).sum() for i, t in enumerate(floats)).backward()
    grads = [p.grad for p in (x, *cell.parameters()) if p.grad is not None]
    return ys, state, [t.numpy() for t in (*found, *grads)]


def assert_same(found, expected):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)


@each_engine
@pytest.mark.parametrize("kind", KINDS)
@ways
def test_a_state_of_any_container_keeps_its_type_and_its_numbers(engine, kind, ways):
    *_, expected = run(Of(lambda h, c: (h, c)), "eager", **ways)
    _, state, found = run(Of(KINDS[kind]), engine, **ways)
    assert_same(found, expected)
    wanted = KINDS[kind](0, 0)
    assert type(state) is type(wanted)
    if isinstance(state, Attributes):
        assert state.h is state["h"]
    if isinstance(state, defaultdict):
        assert state.default_factory is list
    detached = nn.detached(state)
    assert type(detached) is type(wanted) and not nest.leaves(detached)[0].requires_grad


@each_engine
@pytest.mark.parametrize("kind", WRITABLE)
@ways
def test_a_state_that_a_step_writes_into_is_as_one_that_it_makes(engine, kind, ways):
    *_, expected = run(Of(KINDS[kind]), "eager", **ways)
    assert_same(run(Writes(KINDS[kind]), engine, **ways)[2], expected)


@pytest.mark.parametrize("kind", ["a list", "a dict", "a dataclass"])
@ways
def test_a_container_that_a_cell_keeps_is_not_what_it_returned_before(kind, ways):
    *_, expected = run(Of(KINDS[kind]), "eager", **ways)
    assert_same(run(Keeps(KINDS[kind]), "eager", **ways)[2], expected)


@engines
def test_the_state_that_the_caller_gave_is_not_written_into(engine):
    h = tg.ones(B, H)
    given = {"h": h, "c": h}
    _, state = nn.Recurrent(Writes(KINDS["a dict"]), engine=engine)(tg.tensor(XS), given)
    assert given["h"] is h and given["c"] is h and state is not given and state["h"] is not h
    empty, _ = given, nn.Recurrent(Writes(KINDS["a dict"]), engine=engine)(tg.tensor(XS[:0]), given)
    assert empty["h"] is h


@engines
@ways
def test_the_order_of_keys_does_not_tell_one_part_from_another(engine, ways):
    class Turned(Of):
        def forward(self, x, state):
            h, c = self.step(x, state["h"], state["c"])
            return h, {"c": c, "h": h}

    *_, expected = run(Of(KINDS["a dict"]), "eager", **ways)
    _, state, found = run(Turned(KINDS["a dict"]), engine, **ways)
    assert list(state) == ["h", "c"]
    assert_same(found, expected)


@engines
def test_zoneout_keeps_the_old_state_of_a_cell_that_writes_into_it(engine):
    found = []
    for cell in (Of(KINDS["a dict"]), Writes(KINDS["a dict"])):
        found.append(nn.Recurrent(nn.ZoneoutCell(cell, 0.5).eval(), engine=engine)(tg.tensor(XS), lengths=[6, 3]))
    assert_same(*([y.numpy(), *(s.numpy() for s in state.values())] for y, state in found))


# ---- shapes ----------------------------------------------------------------------------------------------------------


class Shaped(Weighted):
    """A cell that makes `after` of a state that is `before`."""

    def __init__(self, before, after):
        super().__init__()
        self.before, self.after = before, after

    def initial_state(self, batch_size):
        return {"h": self.before(self, batch_size)}

    def forward(self, x, state):
        h = self.after(state["h"], x @ self.U)
        return x @ self.U + h.sum(), {"h": h}


CHANGES = {
    "fewer columns": (
        lambda c, n: c.zeros(n, H), lambda h, z: (z + h).mean(1, keepdims=True), "(2, 4), the new one is (2, 1)",
    ),
    "fewer axes": (lambda c, n: c.zeros(n, H), lambda h, z: (z + h).mean(1), "(2, 4), the new one is (2,)"),
    "more axes": (
        lambda c, n: c.zeros(n, H, 2), lambda h, z: h[:, None] + z[:, None, :, None],
        "(2, 4, 2), the new one is (2, 1, 4, 2)",
    ),
    "another width": (lambda c, n: c.zeros(n, 3), lambda h, z: z[:, :2] + h[:, :2], "(2, 3), the new one is (2, 2)"),
    "fewer sequences": (
        lambda c, n: c.zeros(n, H), lambda h, z: (z + h).mean(0, keepdims=True), "(2, 4), the new one is (1, 4)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("engine", [*ENGINES, "auto"])
@pytest.mark.parametrize("change", CHANGES)
@ways
def test_a_state_of_another_shape_is_refused_by_one_sentence(engine, change, ways):
    before, after, message = CHANGES[change]
    with pytest.raises(ValueError) as caught:
        nn.Recurrent(Shaped(before, after), engine=engine)(tg.tensor(XS), **ways)
    assert str(caught.value) == f"Shaped: its state must keep its shapes, state.h was {message}"


def test_a_row_for_one_sequence_may_become_one_for_each_at_the_first_step_only():
    class Later(Weighted):
        def initial_state(self, batch_size):
            return self.zeros(1, H), 0

        def forward(self, x, state):
            h, t = state
            h = h + x.sum(0, keepdims=True) @ self.U if t == 0 else h + x @ self.U
            return h + x @ self.U, (h, t + 1)

    with pytest.raises(ValueError, match=r"state\[0\] was \(1, 4\), the new one is \(2, 4\)$"):
        nn.Recurrent(Later(), engine="eager")(tg.tensor(XS))


BEGINNINGS = {
    "a row for all": lambda c, n: c.zeros(1, H),
    "a vector": lambda c, n: c.zeros(H),
    "a tensor without axes": lambda c, n: c.zeros(),
    "integers": lambda c, n: tg.tensor(np.zeros((n, H), int)),
    "half precision": lambda c, n: c.zeros(n, H).astype("float16"),
    "a parameter": lambda c, n: c.start,
}


@each_engine
@pytest.mark.parametrize("beginning", BEGINNINGS)
@ways
def test_an_initial_state_becomes_what_the_first_step_makes_of_it(engine, beginning, ways):
    def cell(before):
        made = Shaped(before, lambda h, z: tanh(0.5 * h + z))
        made.start = nn.Parameter(np.zeros(H, "f"))
        return made

    if beginning == "integers" and engine != "eager":  # "auto" runs it step by step
        with pytest.raises(ValueError, match="its state must keep its dtype: h starts as int64 and becomes float32"):
            run(cell(BEGINNINGS[beginning]), engine, **ways)
        return
    *_, expected = run(cell(lambda c, n: c.zeros(n, H)), "eager", **ways)
    _, state, found = run(cell(BEGINNINGS[beginning]), engine, **ways)
    assert state["h"].dtype == np.float32
    n = 4  # ys, h, and the gradients of xs and U
    assert_same(found[:n], expected[:n])


def test_a_sequence_that_has_ended_before_its_first_step_keeps_its_initial_state():
    for engine in ENGINES:
        cell = Shaped(lambda c, n: tg.ones(1, H) * 7, lambda h, z: tanh(h + z))
        _, state = nn.Recurrent(cell, engine=engine)(tg.tensor(XS), lengths=[6, 0])
        assert (state["h"].numpy()[1] == 7).all() and state["h"].shape == (B, H)


class Grows(Weighted):
    """It keeps all its hidden states, by rows."""

    def initial_state(self, batch_size):
        return self.zeros(batch_size, H), self.zeros(batch_size, 0, H)

    def forward(self, x, state):
        h, _ = self.step(x, state[0], 0)
        memory = ops.concat([state[1], h[:, None]], axis=1)
        return h + memory.mean(1), (h, memory)


class Lists(Weighted):
    """The same, in a list."""

    def initial_state(self, batch_size):
        return [self.zeros(batch_size, H)]

    def forward(self, x, state):
        h, _ = self.step(x, state[-1], 0)
        return h + ops.stack([*state[1:], h]).mean(0), [*state, h]


@pytest.mark.parametrize("engine", ["eager", "auto"])
def test_a_memory_may_grow_where_nothing_needs_it_to_stay(engine):
    ys, (_, memory) = nn.Recurrent(Grows(), engine=engine)(tg.tensor(XS))
    listed, states = nn.Recurrent(Lists(), engine=engine)(tg.tensor(XS))
    assert memory.shape == (B, T, H) and len(states) == T + 1
    np.testing.assert_allclose(ys.numpy(), listed.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("engine", ["eager", "auto"])
@pytest.mark.parametrize("ways", [{"lengths": [6, 3]}, {"all_states": True}], ids=["ragged", "all"])
def test_a_memory_that_grows_is_refused_where_it_cannot_be_right(engine, ways):
    with pytest.raises(ValueError, match=r"^Grows: its state must keep its shapes, state\[1\] was \(2, 0, 4\)"):
        nn.Recurrent(Grows(), engine=engine)(tg.tensor(XS), **ways)
    with pytest.raises(ValueError, match=r"^Lists: its state must keep its structure, it was \[\(2, 4\)\], the new"):
        nn.Recurrent(Lists(), engine=engine)(tg.tensor(XS), **ways)


@pytest.mark.parametrize("engine", ["numpy", "llvm"])
def test_a_compiled_engine_says_that_a_state_must_keep_its_shapes(engine):
    with pytest.raises(ValueError, match="its state must keep"):
        nn.Recurrent(Grows(), engine=engine)(tg.tensor(XS))


@pytest.mark.parametrize("engine", [*ENGINES, "auto"])
@pytest.mark.parametrize("ways", [{}, {"all_states": True}], ids=["", "all"])
def test_one_sequence_does_not_take_the_state_of_four(engine, ways):
    one, four = tg.tensor(XS[:, :1]), tg.ones(4, H)
    with pytest.raises(ValueError, match=r"^Of: y must be \(B, …\) for the B = 1 sequences of x, got \(4, 4\)"):
        nn.Recurrent(Of(lambda h, c: (h, c)), engine=engine)(one, (four, four), **ways)
    for layer in (nn.Recurrent(nn.GRUCell(I, H), engine=engine), nn.Recurrent(nn.RNNCell(I, H), engine=engine)):
        with pytest.raises(ValueError, match=r"^Recurrent: state must be \(B, H\) for B = 1 sequences, got \(4, 4\)$"):
            layer(one, four, **ways)
    with pytest.raises(ValueError, match=r"^nn.GRU: state must be \(L·D, B, …\) for the B = 1 sequences"):
        nn.GRU(I, H, 2, engine=engine)(one, tg.ones(2, 4, H), **ways)


@pytest.mark.parametrize("engine", ["eager", "numpy", "auto"])
def test_with_lengths_what_changes_must_have_a_row_for_each_sequence(engine):
    class Counts(Weighted):
        def initial_state(self, batch_size):
            return self.zeros(batch_size, H), tg.tensor(0)

        def forward(self, x, state):
            h, _ = self.step(x, state[0], 0)
            return h, (h, state[1] + 1)

    _, (_, n) = nn.Recurrent(Counts(), engine=engine)(tg.tensor(XS))
    assert n.shape == () and n.item() == T
    with pytest.raises(ValueError, match=r"^Counts: with lengths its state must have a row for each of the 2 seq"):
        nn.Recurrent(Counts(), engine=engine)(tg.tensor(XS), lengths=[6, 3])


# ---- numbers ---------------------------------------------------------------------------------------------------------


class Numbers(Weighted):
    """A number and a word in the state, beside h."""

    def initial_state(self, batch_size):
        return {"h": self.zeros(batch_size, H), "t": 0, "word": "half"}

    def forward(self, x, state):
        h, _ = self.step(x, state["h"], 0)
        h = h / (state["t"] + 1) if state["word"] == "half" else h
        return h, {"h": h, "t": state["t"] + 1, "word": state["word"]}


@pytest.mark.parametrize("engine", ["eager", "auto"])
def test_numbers_in_a_state_go_from_step_to_step(engine):
    _, state = nn.Recurrent(Numbers(), engine=engine)(tg.tensor(XS))
    assert state["t"] == T and state["word"] == "half"
    _, every = nn.Recurrent(Numbers(), engine=engine)(tg.tensor(XS), all_states=True)
    assert every["h"].shape == (T, B, H) and every["t"].tolist() == [1, 2, 3, 4, 5, 6] and every["word"] == "half"
    seen = []
    layer = nn.Recurrent(Numbers(), engine=engine)
    layer.register_state_hook(seen.append)
    layer(tg.tensor(XS))[0].sum().backward()
    assert seen[0]["h"].shape == (T, B, H)
    assert nn.detached(state)["t"] == T


@pytest.mark.parametrize("engine", ["eager", "auto"])
def test_a_number_that_changes_is_refused_with_lengths_and_one_that_does_not_is_kept(engine):
    with pytest.raises(ValueError, match=r"2 sequences, state\.t is 1 and changes; make it a tensor \(B, …\)$"):
        nn.Recurrent(Numbers(), engine=engine)(tg.tensor(XS), lengths=[6, 3])

    class Steady(Numbers):
        def forward(self, x, state):
            y, new = super().forward(x, state)
            return y, {**new, "t": state["t"]}

    _, state = nn.Recurrent(Steady(), engine=engine)(tg.tensor(XS), lengths=[6, 3])
    assert state["t"] == 0 and state["word"] == "half"


@pytest.mark.parametrize("engine", [*ENGINES, "auto"])
@ways
def test_arrays_in_an_initial_state_are_tensors_of_the_cells_dtype(engine, ways):
    class Arrays(Of):
        def initial_state(self, batch_size):
            return [np.zeros((batch_size, H)), self.zeros(batch_size, H)]

    *_, expected = run(Of(KINDS["a list"]), "eager", **ways)
    _, state, found = run(Arrays(KINDS["a list"]), engine, **ways)
    assert [s.dtype for s in state] == [np.float32] * 2
    assert_same(found, expected)


@pytest.mark.parametrize("engine", ["eager", "auto"])
def test_an_array_that_a_step_changes_is_each_sequences_own(engine):
    class Ages(Weighted):
        def initial_state(self, batch_size):
            return self.zeros(batch_size, H), 0

        def forward(self, x, state):
            h, _ = self.step(x, state[0], 0)
            return h, (h, np.add(np.ones(len(x)), state[1]))

    _, (_, age) = nn.Recurrent(Ages(), engine=engine)(tg.tensor(XS), lengths=[6, 3])
    assert np.array(age).tolist() == [6, 3]


@pytest.mark.parametrize("engine", ["numpy", "llvm"])
def test_a_compiled_engine_says_that_a_state_holds_a_number(engine):
    with pytest.raises(ValueError, match=r'must be a nest of tensors, got int; use engine="eager"$'):
        nn.Recurrent(Numbers(), engine=engine)(tg.tensor(XS))


# ---- several outputs -------------------------------------------------------------------------------------------------

OUTPUTS = {
    "a tuple": lambda h, c: (h, 2 * c),
    "one twice": lambda h, c: (h, h),
    "a named tuple": Pair,
    "a dict": lambda h, c: {"h": h, "sum": c.sum(1)},
    "a dataclass": lambda h, c: Record(h, (c > 0, c[:, None])),
    "a list with nothing": lambda h, c: [h, None],
}


class Several(Of):
    def __init__(self, outputs):
        super().__init__(Pair)
        self.outputs = outputs

    def forward(self, x, state):
        h, c = self.step(x, *state)
        return self.outputs(h, c), Pair(h, c)


@each_engine
@pytest.mark.parametrize("outputs", OUTPUTS)
@pytest.mark.parametrize("reverse", [False, True], ids=["", "reversed"])
@ways
def test_a_step_may_return_several_outputs(engine, outputs, reverse, ways):
    def go(engine):
        cell, x = Several(OUTPUTS[outputs]), tg.tensor(XS, requires_grad=True)
        ys, state = nn.Recurrent(cell, engine=engine, reverse=reverse)(x, **ways)
        found = [*nest.leaves(ys), *nest.leaves(state)]
        sum((i + 1) * (t * t).sum() for i, t in enumerate(found) if t.dtype.kind == "f").backward()
        return ys, [t.numpy() for t in (*found, x.grad, *(p.grad for p in cell.parameters()))]

    ys, found = go(engine)
    assert_same(found, go("eager")[1])
    h = ys if outputs is None else nest.leaves(ys)[0]
    assert h.shape == (T, B, H) and all(y.shape[:2] == (T, B) for y in nest.leaves(ys))
    wanted = OUTPUTS[outputs](tg.zeros(B, H), tg.zeros(B, H))
    assert type(ys) is type(wanted)
    if "lengths" in ways:
        assert all(not y.numpy()[3:, 1].any() for y in nest.leaves(ys))


@engines
def test_several_outputs_have_second_derivatives_checkpoints_and_sizes_for_no_steps(engine):
    def second(engine, **options):
        cell, x = Several(OUTPUTS["a dict"]), tg.tensor(XS, requires_grad=True)
        ys, _ = nn.Recurrent(cell, engine=engine, **options)(x)
        g = tg.grad((ys["h"] * ys["h"]).sum() + ys["sum"].sum(), x, create_graph=True)
        (g * g).sum().backward()
        return [x.grad.numpy(), cell.U.grad.numpy()]

    assert_same(second(engine), second("eager"))
    if engine != "eager":
        assert_same(second(engine, checkpoint_every=2), second("eager"))
    ys, _ = nn.Recurrent(Several(OUTPUTS["a dict"]), engine=engine)(tg.tensor(XS[:0]))
    assert ys["h"].shape == (0, B, H) and ys["sum"].shape == (0, B)


@pytest.mark.parametrize("engine", [*ENGINES, "auto"])
def test_a_y_that_is_no_tensor_is_refused_by_one_sentence(engine):
    for outputs, kind, message in (
        (lambda h, c: None, TypeError, "must be a tensor, or a nest of tensors, got NoneType$"),
        (lambda h, c: (h, 1.0), TypeError, r"must be a tensor, or a nest of tensors, got \(\(2, 4\), float\)$"),
        (lambda h, c: h.sum(0), ValueError, r"must be \(B, …\) for the B = 2 sequences of x, got \(4,\)"),
    ):
        with pytest.raises(kind, match="^Several: y " + message):
            nn.Recurrent(Several(outputs), engine=engine)(tg.tensor(XS))


# ---- hooks -----------------------------------------------------------------------------------------------------------


class Held(Weighted):
    """A state of which a part is handed on as it is."""

    def initial_state(self, batch_size):
        return {"h": self.zeros(batch_size, H), "k": self.zeros(batch_size, H) + 0.5}

    def forward(self, x, state):
        h, _ = self.step(x, state["h"], state["k"])
        return h, {"h": h, "k": state["k"]}


@pytest.mark.parametrize("given", [False, True], ids=["", "given"])
@pytest.mark.parametrize("lengths", [None, [6, 3]], ids=["", "ragged"])
def test_a_state_hook_sees_the_gradient_of_a_part_that_no_step_changes(given, lengths):
    found = []
    for engine in ENGINES:
        layer, seen = nn.Recurrent(Held(), engine=engine), []
        layer.register_state_hook(seen.append)
        k = tg.tensor(np.full((B, H), 0.5, "f"), requires_grad=True)
        ys, _ = layer(tg.tensor(XS), {"h": tg.zeros(B, H), "k": k} if given else None, lengths)
        (ys * ys).sum().backward()
        found.append([seen[0]["h"].numpy(), seen[0]["k"].numpy()])
    assert np.abs(found[0][1][0]).max() > 0.1
    for each in found[1:]:
        assert_same(each, found[0])


class HeldForAll(Held):
    """A part that is not of one sequence."""

    def __init__(self, shape):
        super().__init__()
        self.shape = shape

    def initial_state(self, batch_size):
        return {"h": self.zeros(batch_size, H), "k": self.zeros(*self.shape) + 0.5}

    def forward(self, x, state):
        h, _ = self.step(x, state["h"], state["h"] * state["k"].sum(0))
        return h, {"h": h, "k": state["k"]}


@pytest.mark.parametrize("shape", [(1, H), (H, H), (H,)], ids=str)
@pytest.mark.parametrize("all_states", [False, True], ids=["", "all states"])
def test_with_lengths_and_a_hook_a_part_that_is_of_no_sequence_stays_as_it_is(shape, all_states):
    found = []
    for engine in ENGINES:
        layer, seen = nn.Recurrent(HeldForAll(shape), engine=engine), []
        layer.register_state_hook(seen.append)
        ys, state = layer(tg.tensor(XS), lengths=[6, 3], all_states=all_states)
        assert state["k"].shape == ((T, *shape) if all_states else shape)
        (ys * ys).sum().backward()
        assert seen[0]["k"].shape == (T, *shape)
        found.append([ys.numpy(), seen[0]["h"].numpy(), seen[0]["k"].numpy()])
    for each in found[1:]:
        assert_same(each, found[0])
