"""What is recorded of a step, and when a recording may be used: for other batches, at other calls."""

from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest

import tinygrad_rnn as tg

from tinygrad_rnn import nn, ops
from tinygrad_rnn.compiler import engines
from tinygrad_rnn.compiler.ir.value import Unsupported
from tinygrad_rnn.compiler.record.record import record
from tinygrad_rnn.compiler.runtime.memory import Arenas
from tinygrad_rnn.compiler.runtime.settle import programs_of, record_until_stable, settled
from tinygrad_rnn.nn import recordings
from tinygrad_rnn.nn.recording import flattened, still_valid, structure_of

T, B, N = 4, 3, 4
W, b = tg.tensor(np.full((N, N), 0.5), requires_grad=True), tg.tensor(np.full(N, 0.1), requires_grad=True)
x, h = (tg.tensor(np.zeros((B, N)), requires_grad=True) for _ in range(2))


def step_of(formula):
    """step(x, [h]) whose y and new h are formula(x, h)."""

    def step(x, states):
        y = formula(x, *states)
        return [y], [y, *states[1:]]

    return step


def ops_of(c):
    return [v.op for v in c.order()]


# ---- the circuit -----------------------------------------------------------------------------------------------------


def test_a_gradient_has_the_shape_of_what_it_is_of():
    c, captured = record(step_of(lambda x, h: ops.tanh(x * b + h @ W)), x, [h])
    assert [v.shape for v in c.roots["dcaptured"]] == [t.shape for t in captured] == [b.shape, W.shape]


def test_gradients_of_what_is_read_twice_are_added():
    c, _ = record(step_of(lambda x, h: x * h + ops.tanh(x)), x, [h])
    assert c.roots["dx"][0].op == "add"


def test_a_gradient_of_what_stays_is_summed_over_the_steps():
    c, _ = record(step_of(lambda x, h: h * b), x, [h])
    assert c.roots["dcaptured"][0].op == "tsum"


def test_a_rule_is_given_zeros_for_the_output_that_nobody_reads():
    told = []

    @tg.primitive
    def both(a):
        return a * 2.0, a * 3.0

    @both.vjp
    def rule(g):
        told.append([each.shape for each in g])
        return (g[0] * 2.0 + g[1] * 3.0,)

    record(step_of(lambda x, h: both(x)[0] * h), x, [h])
    assert told == [[(B, N), (B, N)]]


def test_equal_values_are_one_unless_their_gradients_are_looked_at():
    step = step_of(lambda x, h: ops.tanh(x) * h + ops.tanh(x))
    assert [ops_of(record(step, x, [h], backward=False, distinct=d)[0]).count("tanh") for d in (False, True)] == [1, 2]


def test_what_is_the_same_at_every_step_moves_if_its_gradient_is_looked_at():
    found = []

    def formula(x, h):
        found.append(ops.tanh(b))
        return h * found[-1]

    for distinct in (False, True):
        record(step_of(formula), x, [h], distinct=distinct)
    assert [t.value.moves for t in found] == [False, True]


def test_a_tensor_of_another_recording_is_refused():
    kept = []
    step = step_of(lambda x, h: (kept.append(x), h * kept[0])[1])
    record(step, x, [h])
    with pytest.raises(Unsupported, match="keeps a tensor of one step for another one"):
        record(step, x, [h])


def test_a_step_that_catches_why_it_cannot_be_recorded_is_not_recorded():
    def formula(x, h):
        try:
            return h * x.item()
        except TypeError:
            return h * 2.0

    with pytest.raises(TypeError, match="cannot read a value"):
        record(step_of(formula), x, [h])


def test_small_arrays_are_constants_and_large_ones_are_read_anew():
    small, large = np.ones(N), np.ones((1 << 14, N))
    _, captured = record(step_of(lambda x, h: h * small + ops.sum(b * large, 0)), x, [h])
    small[:], large[:] = 2, 2
    assert [t.tolist() if t.size == N else "large" for t in captured] == [[1] * N, b.tolist(), "large"]
    assert captured[2] is large


OF_ONE_CONTENT = {
    "dtypes": (np.zeros(N), np.zeros(N, np.int64)),
    "shapes": (np.zeros(N), np.zeros((1, N))),
}


@pytest.mark.parametrize("arrays", OF_ONE_CONTENT.values(), ids=OF_ONE_CONTENT)
def test_arrays_of_the_same_bytes_are_told_apart_by_their(arrays):
    _, captured = record(step_of(lambda x, h: h + sum(ops.sum(ops.tanh(b.sum() * a)) for a in arrays)), x, [h])
    assert [(a.shape, a.dtype) for a in captured[1:]] == [(a.shape, a.dtype) for a in arrays]


# ---- settling --------------------------------------------------------------------------------------------------------


def changing(how):
    """A step that is another one each time it runs: how(x, h, how many times before)"""
    times = iter(range(9))
    return step_of(lambda x, h: how(x, h, next(times)))


CHANGING = {
    "its operations": lambda x, h, n: [ops.tanh, ops.sigmoid, ops.exp, ops.relu][n](h) * x,
    "its numbers": lambda x, h, n: h * (n + 0.5) * x,
    "what it captures": lambda x, h, n: h * np.full(N, n + 0.5) * x,
    "the shape of what it captures": lambda x, h, n: h * np.full(N if n else (1, N), 0.5) * x,
}


@pytest.mark.parametrize("how", CHANGING.values(), ids=CHANGING)
def test_a_step_is_refused_if_two_recordings_of_it_differ_in(how):
    with pytest.raises(Unsupported, match="two recordings of its step differ"):
        settled(changing(how), x, [h])
    with pytest.raises(Unsupported, match="two recordings of its step differ"):
        programs(changing(how))


def test_a_state_that_no_step_changes_is_captured():
    c, captured, states, constant = record_until_stable(step_of(lambda x, h, k: ops.tanh(h * k + x)), x, [h, W[:B]], {})
    assert constant == {1} and len(c.states) == 1 and len(states) == 2
    assert captured[0] is states[1]


def test_a_state_becomes_what_the_step_makes_of_it():
    row = tg.tensor(np.zeros((1, N), np.float32))
    c, _, states, _ = record_until_stable(step_of(lambda x, h: ops.tanh(h + x)), x, [row], {})
    assert [(s.shape, s.dtype) for s in (*states, *c.states)] == [((B, N), np.float64)] * 2


REFUSED = {
    "its state must keep its dtype": lambda x, h: x > 0,
    "its state must keep its shapes": lambda x, h: ops.concat([h, x], 1),
}


@pytest.mark.parametrize("reason, formula", REFUSED.items(), ids=REFUSED)
def test_a_step_is_refused_because(reason, formula):
    with pytest.raises(Unsupported, match=reason):
        record_until_stable(step_of(formula), x, [h], {})


def test_a_step_is_refused_that_returns_another_number_of_states():
    with pytest.raises(Unsupported, match="its state must keep its 1 tensors, the new one has 2"):
        record_until_stable(lambda x, states: ([x], [x, x]), x, [h], {})


# ---- batches of other sizes ------------------------------------------------------------------------------------------


def programs(step):
    found = record_until_stable(step, x, [h], options := {})
    return programs_of(step, x, found, engines.find("numpy"), Arenas(), options)


def along_columns(x, h):
    """The rows of the batch lie along columns that are put side by side."""
    t = ops.tanh(h @ W)
    return x + (ops.concat([h.T, t.T], 1) @ ops.concat([x, t], 0)).sum(0)


def in_columns(x, h):
    turned = ops.tanh(h @ W).T
    return x + ops.concat([turned[:, :1], turned[:, 1:]], 1).T


FOR_ONE_BATCH = {
    "has another operation for each size": lambda x, h: (ops.tanh if len(x) == B else ops.sigmoid)(h + x),
    "has a number for each size": lambda x, h: h * float(len(x)) + x,
    "captures an array for each size": lambda x, h: h * np.full(N, float(len(x))) + x,
    "has a size of its own": lambda x, h: h + x * np.ones((B, 1)),
    "takes the batch apart": in_columns,
    "lays the batch along columns": along_columns,
}


def test_a_step_is_planned_for_batches_of_every_size():
    assert programs(step_of(lambda x, h: ops.tanh(h @ W + x))).batch not in (0, B)


@pytest.mark.parametrize("formula", FOR_ONE_BATCH.values(), ids=FOR_ONE_BATCH)
def test_a_step_is_planned_for_one_batch_if_it(formula):
    assert programs(step_of(formula)).batch == 0


# ---- at other calls --------------------------------------------------------------------------------------------------


def recording(outside=(), looked_up=()):
    """As much of a recording as tells whether it may be used again."""
    return SimpleNamespace(outside=outside, looked_up=looked_up)


def value(t, **changed):
    """What a tensor was in the circuit."""
    return SimpleNamespace(**{"shape": t.shape, "dtype": t.dtype, "tracked": t.requires_grad, **changed})


def test_a_recording_is_valid_while_what_its_key_does_not_tell_is_as_it_was():
    held = np.array([1.0, np.nan])
    assert still_valid(recording([(W, value(W))], [(held, held.copy())]))
    assert not still_valid(recording(looked_up=[(held, np.array([2.0, np.nan]))]))
    for changed in ({"shape": (N,)}, {"dtype": np.dtype("float32")}, {"tracked": False}):
        assert not still_valid(recording([(W, value(W, **changed))]))


Pair = namedtuple("Pair", "first second")


def test_a_state_is_known_by_how_it_is_built_and_what_its_tensors_are_like():
    t = x.detach()
    states = [t, x, t[:1], t.astype("float32"), (t, t), Pair(t, t), [t, t], (t, (t, t)), {"a": t}, {"b": t}]
    known = [structure_of(s) for s in states]
    assert all(known[i] != known[k] for i in range(len(known)) for k in range(i))
    assert structure_of((t, x)) == structure_of((t * 1, x.detach().requires_grad_()))


def test_a_tensor_that_a_state_has_twice_is_two_leaves():
    rnn = nn.Recurrent(nn.LSTMCell(2, N))
    t = tg.zeros(B, N)
    _, (first, second), _, _ = flattened(rnn.cell, rnn.cell, type(rnn.cell.initial_state(B))(t, t))
    assert first is not second and first is not t


def test_a_call_gets_what_it_asks_for_whatever_was_asked_before():
    rnn, xs = nn.Recurrent(nn.GRUCell(2, N), engine="numpy"), tg.tensor(np.ones((T, B, 2), np.float32))
    seen = []
    for turn in (1, 2):
        assert rnn(xs)[1].shape == (B, N)
        assert rnn(xs, all_states=True)[1].shape == (T, B, N)
        remove = rnn.register_state_hook(seen.append)
        rnn(xs)[0].sum().backward()
        remove()
        assert [g.shape for g in seen] == [(T, B, N)] * turn


def test_what_was_recorded_is_found_again_when_the_cell_is_as_it_was(monkeypatch):
    made, again = [], recordings.record
    monkeypatch.setattr(recordings, "record", lambda *args: made.append(1) or again(*args))
    rnn, xs = nn.Recurrent(nn.GRUCell(2, N), engine="numpy"), tg.zeros(T, B, 2)
    for training in (True, False, True, False):
        rnn.train(training)(xs)
    assert len(made) == 2
