"""The engine: recording, the backward sweep, what it frees, and the doors to it."""

import copy
import gc
import threading
import weakref

import numpy as np
import pytest

import tinygrad_rnn as tg

from tinygrad_rnn import nn, ops

rng = np.random.default_rng(11)


def leaf(*shape, dtype=np.float64):
    return tg.tensor(rng.standard_normal(shape).astype(dtype), requires_grad=True)


def number(value):
    return tg.tensor(np.float64(value), requires_grad=True)


@pytest.fixture
def no_gc():
    """What dies inside the test dies by reference counting."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


# ---- size ----------------------------------------------------------------------------------------------------------


def test_a_chain_of_a_hundred_thousand_operations_is_swept_and_freed_without_recursion():
    x = y = number(1.5)
    for _ in range(100_000):
        y = y * 0.9999
    y.backward()
    assert x.grad.item() == pytest.approx(0.9999**100_000, rel=1e-9)
    del y  # frees a chain of as many nodes


def test_ten_thousand_branches_from_one_tensor_add_up():
    x = leaf(3)
    total = 0
    for i in range(10_000):
        total = total + x * (i % 7)
    total.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), np.full(3, sum(i % 7 for i in range(10_000))))


def test_a_diamond_of_a_thousand_levels_does_not_cost_its_number_of_paths():
    x = y = number(1.0)
    for _ in range(1000):
        y = (y + y) * 0.5
    y.backward()
    assert x.grad.item() == 1.0


def test_one_node_with_ten_thousand_inputs_passes_each_its_gradient():
    xs = [number(i) for i in range(10_000)]
    (ops.stack(xs) * tg.tensor(np.arange(10_000.0))).sum().backward()
    assert [x.grad.item() for x in xs[::2500]] == [0, 2500, 5000, 7500]


# ---- freeing -------------------------------------------------------------------------------------------------------


def test_kept_arrays_die_as_the_sweep_passes(no_gc):
    x = leaf(5)
    first = x.tanh()
    second = first.tanh()
    y = second.tanh().sum()
    of_first, of_second = weakref.ref(first.array), weakref.ref(second.array)
    alive = []
    first.register_hook(lambda g: alive.append((of_first() is not None, of_second() is not None)))
    del first, second
    assert of_first() is not None
    assert of_second() is not None
    y.backward()
    assert alive == [(True, False)]
    assert of_first() is None


def test_without_backward_a_graph_dies_with_its_output(no_gc):
    x = leaf(5)
    h = x.exp()
    node, array = weakref.ref(h.node), weakref.ref(h.array)
    y = (h * h).sum()
    del h
    assert node() is not None
    del y
    assert node() is None
    assert array() is None


@pytest.mark.parametrize("engine", ["eager", "numpy"])
def test_a_recurrent_lstm_leaves_no_cycles_behind(engine, no_gc):
    rnn = nn.Recurrent(nn.LSTMCell(3, 4), engine=engine)
    xs = tg.tensor(np.ones((5, 2, 3), np.float32))
    rnn(xs)
    gc.collect()  # what recording a step leaves, once
    before = {id(o) for o in gc.get_objects()}
    for create_graph in (False, True):
        ys, _ = rnn(xs)
        node, array = weakref.ref(ys.node), weakref.ref(ys.array)
        g = tg.grad(ys.sum(), list(rnn.parameters()), create_graph=create_graph)
        del ys, g
        assert node() is None
        assert array() is None
    assert before
    assert gc.collect() == 0


def test_a_graph_kept_by_retain_graph_dies_with_its_output(no_gc):
    x = leaf(5)
    h = x.exp()
    array = weakref.ref(h.array)
    y = h.sum()
    del h
    y.backward(retain_graph=True)
    assert array() is not None
    del y
    assert array() is None


def test_no_grad_keeps_nothing(no_gc):
    x = leaf(5)
    with tg.no_grad():
        h = x.exp()
        array = weakref.ref(h.array)
        y = h.sum()
    del h
    assert array() is None
    assert not y.requires_grad


# ---- backward and grad ---------------------------------------------------------------------------------------------


def test_a_second_backward_names_retain_graph():
    x = leaf(3)
    y = (x * x).sum()
    y.backward()
    with pytest.raises(RuntimeError, match="retain_graph=True"):
        y.backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * x.numpy())


def test_with_retain_graph_a_second_backward_doubles_the_gradient():
    x = leaf(3)
    y = (x * x * x).sum()
    y.backward(retain_graph=True)
    first = x.grad.numpy()
    y.backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * first)
    np.testing.assert_allclose(first, 3 * x.numpy() ** 2)


def test_gradients_accumulate_over_graphs_until_they_are_set_to_none():
    x = leaf(3)
    for _ in range(3):
        (2 * x).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [6, 6, 6])
    x.grad = None
    (2 * x).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [2, 2, 2])


def test_a_gradient_that_was_read_does_not_change_when_more_is_added():
    x = leaf(3)
    x.sum().backward()
    seen = x.grad
    x.sum().backward()
    np.testing.assert_array_equal(seen.numpy(), [1, 1, 1])


def test_leaves_that_share_a_gradient_array_do_not_share_later_ones():
    a, b = leaf(3), leaf(3)
    (a + b).sum().backward()
    (a * 2).sum().backward()
    np.testing.assert_array_equal(a.grad.numpy(), [3, 3, 3])
    np.testing.assert_array_equal(b.grad.numpy(), [1, 1, 1])


def test_backward_of_a_tensor_that_is_no_scalar_needs_its_gradient():
    x = leaf(3)
    with pytest.raises(ValueError, match=r"^backward: the output must be a scalar, got shape \(3,\)"):
        (x * 2).backward()
    with pytest.raises(ValueError, match=r"^backward: the gradient must have the output's shape \(3,\), got \(2,\)"):
        (x * 2).backward(tg.tensor([1.0, 2.0]))
    (x * 2).backward(tg.tensor(np.array([1.0, 2.0, 3.0])))
    np.testing.assert_array_equal(x.grad.numpy(), [2, 4, 6])


def test_backward_of_what_was_not_recorded_says_so():
    with pytest.raises(ValueError, match=r"^backward: the tensor must be recorded"):
        tg.tensor(1.0).backward()


def test_grad_takes_several_inputs_and_outputs_and_leaves_grad_alone():
    a, b = leaf(3), leaf(2)
    y, z = a.exp() * a.sum(), (b * b).sum() * a[0]
    u = rng.standard_normal(3)
    da, db = tg.grad([y, z], [a, b], [tg.tensor(u), None])
    A, B = a.numpy(), b.numpy()
    np.testing.assert_allclose(da.numpy(), u * np.exp(A) * A.sum() + (u * np.exp(A)).sum() + [(B * B).sum(), 0, 0])
    np.testing.assert_allclose(db.numpy(), 2 * B * A[0])
    assert a.grad is None
    assert b.grad is None


def test_grad_of_one_input_is_one_tensor_and_of_a_list_a_tuple():
    x = number(3.0)
    assert tg.grad(x * x, x).item() == 6
    assert [g.item() for g in tg.grad(x * x, [x])] == [6]


def test_grad_by_an_intermediate_tensor_stops_there_or_goes_on():
    x = number(2.0)
    h = x * x
    y = h * h * x
    dh, dx = tg.grad(y, [h, x])
    assert dh.item() == 2 * 4 * 2
    assert dx.item() == 5 * 2**4


def test_grad_of_an_output_by_itself_is_the_seed():
    x = number(2.0)
    y = x * x
    assert [g.item() for g in tg.grad([y, y], [y, x])] == [2, 8]


def test_grad_says_which_input_is_unused_or_gives_zeros():
    a, b = leaf(2), leaf(3)
    y = a.sum()
    with pytest.raises(ValueError, match=r"^grad: outputs must depend on every input, input 1 is not used"):
        tg.grad(y, [a, b], retain_graph=True)
    da, db = tg.grad(a.sum(), [a, b], allow_unused=True)
    np.testing.assert_array_equal(da.numpy(), [1, 1])
    np.testing.assert_array_equal(db.numpy(), [0, 0, 0])


def test_grad_computes_only_what_leads_to_the_inputs():
    called = []

    @tg.primitive
    def watched(x):
        return 2 * x

    watched.vjp(x=lambda g: called.append(1) or 2 * g)
    a, b = number(1.0), number(1.0)
    y = watched(a) * watched(b)
    tg.grad(y, a)
    assert len(called) == 1


def test_create_graph_gives_the_derivatives_of_x_to_the_fourth_to_third_order():
    x = number(1.7)
    y = x**4
    for expected in (4 * 1.7**3, 12 * 1.7**2, 24 * 1.7, 24.0):
        y = tg.grad(y, x, create_graph=True)
        assert y.item() == pytest.approx(expected, rel=1e-12)


def test_backward_with_create_graph_leaves_a_gradient_that_can_be_differentiated():
    x = number(2.0)
    (x**3).backward(create_graph=True)
    assert tg.grad(x.grad, x).item() == pytest.approx(12)


def test_create_graph_records_inside_no_grad_too():
    x = number(2.0)
    y = x**3
    with tg.no_grad():
        g = tg.grad(y, x, create_graph=True)
    assert tg.grad(g, x).item() == pytest.approx(12)


def test_a_gradient_penalty_through_a_recurrent_lstm_is_that_of_differences():
    rnn = nn.Recurrent(nn.LSTMCell(2, 3)).to("float64")
    W = rnn.cell.W

    def penalty(w, xs):
        old = rnn.cell.W
        rnn.cell.W = w
        with tg.enable_grad():  # gradcheck calls it without
            ys, _ = rnn(xs)
            g = tg.grad((ys * ys).sum(), xs, create_graph=True)
        rnn.cell.W = old
        return (g * g).sum()

    assert tg.gradcheck(penalty, W, leaf(4, 2, 2), order=1)


# ---- hooks ---------------------------------------------------------------------------------------------------------


def test_a_hook_on_a_leaf_sees_and_changes_its_gradient_until_it_is_removed():
    x = leaf(2)
    seen = []
    remove = x.register_hook(lambda g: seen.append(g.numpy()) or 10 * g)
    (x * 3).sum().backward()
    np.testing.assert_array_equal(seen, [[3, 3]])
    np.testing.assert_array_equal(x.grad.numpy(), [30, 30])
    remove()
    remove()
    x.grad = None
    (x * 3).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [3, 3])
    assert len(seen) == 1


def test_a_hook_on_an_intermediate_sees_its_whole_gradient_once_and_changes_what_goes_on():
    x = number(2.0)
    h = x * 3
    seen = []
    h.register_hook(lambda g: seen.append(g.item()))
    h.register_hook(lambda g: -g)
    (h * 5 + h * 7).backward()
    assert seen == [12]
    assert x.grad.item() == -36


def test_a_hook_works_in_grad_and_in_a_recorded_backward():
    x = number(2.0)
    h = x * x
    remove = h.register_hook(lambda g: g * 2)
    y = h * h
    assert tg.grad(y, x, retain_graph=True).item() == 2 * 4 * 2**3
    g = tg.grad(y, x, create_graph=True)
    assert g.item() == 2 * 4 * 2**3
    remove()
    assert tg.grad(g, x).item() == 2 * 4 * 3 * 2**2


def test_a_hook_needs_a_recorded_tensor():
    with pytest.raises(ValueError, match=r"^register_hook: the tensor must be recorded"):
        tg.tensor(1.0).register_hook(print)


# ---- what is recorded ----------------------------------------------------------------------------------------------


def test_no_grad_and_enable_grad_work_as_blocks_and_as_decorators_and_nest():
    x = leaf(2)
    recorded = lambda: (x * 2).requires_grad
    assert tg.is_grad_enabled()
    with tg.no_grad():
        assert not recorded()
        assert not tg.is_grad_enabled()
        with tg.enable_grad():
            assert recorded()
        assert not recorded()
        assert tg.enable_grad()(recorded)()
    assert recorded()
    assert not tg.no_grad()(recorded)()
    with pytest.raises(ZeroDivisionError), tg.no_grad():
        1 / 0  # noqa: B018
    assert recorded()


def test_a_decorated_function_may_call_itself():
    @tg.no_grad()
    def depth(n):
        return [tg.is_grad_enabled(), *(depth(n - 1) if n else [])]

    assert depth(3) == [False] * 4
    assert tg.is_grad_enabled()


def test_no_grad_in_one_thread_does_not_reach_another():
    inside, done, found = threading.Event(), threading.Event(), []

    def other():
        with tg.no_grad(), tg.scope("other"):
            inside.set()
            done.wait(5)

    thread = threading.Thread(target=other)
    thread.start()
    inside.wait(5)
    x = number(2.0)
    y = x * x
    found.append((y.requires_grad, y.node.scope))
    done.set()
    thread.join()
    assert found == [(True, ())]
    assert tg.grad(y, x).item() == 4


def test_many_threads_may_record_and_differentiate_at_once():
    results = [None] * 8

    def work(i):
        x = number(float(i))
        y = x
        for _ in range(200):
            y = y + x * 2
        results[i] = tg.grad(y, x).item()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [401] * 8


def test_detach_stops_the_gradient_and_keeps_the_values():
    x = number(3.0)
    y = x * (x * x).detach()
    assert tg.grad(y, x).item() == 9
    assert not x.detach().requires_grad


def test_requires_grad_can_be_set_on_leaves_only():
    x = tg.tensor([1.0, 2.0])
    assert not x.requires_grad
    assert x.requires_grad_() is x
    assert x.requires_grad
    y = x * 2
    with pytest.raises(ValueError, match=r"^requires_grad_: only a leaf"):
        y.requires_grad_(False)
    x.requires_grad = False
    assert not (x * 2).requires_grad
    assert y.is_leaf is False
    assert x.is_leaf


@pytest.mark.parametrize("values", [[1, 2], [True, False]], ids=["integers", "booleans"])
def test_only_floats_can_require_a_gradient(values):
    with pytest.raises(ValueError, match=r"^requires_grad_: only floating-point tensors have gradients, got dtype"):
        tg.tensor(values, requires_grad=True)


def test_a_cast_to_integers_ends_the_gradient():
    x = leaf(3)
    assert not (x * 2).astype(np.int64).requires_grad


# ---- values that must not change -----------------------------------------------------------------------------------


def test_the_data_of_a_tensor_is_read_only():
    t = tg.tensor([1.0, 2.0])
    with pytest.raises(ValueError, match="read-only"):
        t.data[...] = 0
    with pytest.raises(ValueError, match="read-only"):
        np.asarray(t)[0] = 0
    assert t.tolist() == [1, 2]


def test_items_cannot_be_assigned():
    with pytest.raises(TypeError, match=r"^Tensor: items cannot be assigned.*ops\.where"):
        leaf(2)[0] = 1


@pytest.mark.parametrize("name", ["__iadd__", "__isub__", "__imul__", "__itruediv__"])
def test_a_leaf_cannot_be_updated_in_place_while_recording(name):
    w = leaf(2)
    before = w.numpy()
    with pytest.raises(RuntimeError, match="no_grad"):
        getattr(w, name)(2)
    np.testing.assert_array_equal(w.numpy(), before)


def test_an_update_in_no_grad_keeps_the_leaf_and_the_recorded_values():
    w = tg.tensor(np.array([1.0, 2.0]), requires_grad=True)
    same, node = w, w.node
    y = (w * w).sum()
    with tg.no_grad():
        w -= 10
        w *= 2
        w += 1
        w /= 3
    assert w is same
    assert w.node is node
    np.testing.assert_allclose(w.numpy(), (np.array([-9.0, -8.0]) * 2 + 1) / 3)
    y.backward()
    np.testing.assert_array_equal(w.grad.numpy(), [2, 4])


def test_an_update_keeps_the_leafs_dtype():
    w = leaf(2, dtype=np.float32)
    with tg.no_grad():
        w -= tg.tensor(np.ones(2))
    assert w.dtype == np.float32


def test_an_update_of_what_was_computed_makes_a_new_tensor():
    x = leaf(2)
    y = old = x * 2
    y += 1
    assert y is not old
    np.testing.assert_allclose(y.numpy(), old.numpy() + 1)
    np.testing.assert_array_equal(tg.grad(y.sum(), x).numpy(), [2, 2])


def test_data_takes_new_values_of_the_same_shape_for_leaves_only():
    w = leaf(2, dtype=np.float32)
    source = np.array([3.0, 4.0])
    w.data = source
    source[:] = 0
    assert w.tolist() == [3, 4]
    assert w.dtype == np.float32
    with pytest.raises(ValueError, match=r"shape must stay \(2,\), got \(3,\)"):
        w.data = np.zeros(3)
    with pytest.raises(ValueError, match="only a leaf"):
        (w * 2).data = np.zeros(2)


RAW = {
    "mul": (lambda x, a: x * a, lambda a: a.copy(), lambda: rng.standard_normal(4)),
    "mul on the right": (lambda x, a: a * x, lambda a: a.copy(), lambda: rng.standard_normal(4)),
    "where": (lambda x, a: ops.where(a, x, 0), lambda a: a * 1.0, lambda: np.array([True, False, True, False])),
    "masked_fill": (lambda x, a: x.masked_fill(a, 0), lambda a: ~a * 1.0, lambda: np.array([True, False, True, False])),
    "matmul": (lambda x, a: x @ a, lambda a: a.copy(), lambda: rng.standard_normal(4)),
    "einsum": (lambda x, a: ops.einsum("i,i->", x, a), lambda a: a.copy(), lambda: rng.standard_normal(4)),
    "getitem": (lambda x, a: x[a], lambda a: np.bincount(a, minlength=4), lambda: np.array([0, 0, 3])),
    "mask": (lambda x, a: x[a], lambda a: a * 1.0, lambda: np.array([True, False, True, False])),
    "items of a tuple": (lambda x, a: x[a, None], lambda a: np.bincount(a, minlength=4), lambda: np.array([0, 0, 3])),
    "take": (lambda x, a: ops.take(x, a), lambda a: np.bincount(a, minlength=4), lambda: np.array([0, 0, 3])),
    "take_along_axis": (
        lambda x, a: ops.take_along_axis(x, a, 0),
        lambda a: np.bincount(a, minlength=4),
        lambda: np.array([0, 0, 3]),
    ),
    "embedding": (
        lambda x, a: ops.embedding(a, x.reshape(4, 1)),
        lambda a: np.bincount(a, minlength=4),
        lambda: np.array([0, 0, 3]),
    ),
}


@pytest.mark.parametrize("f, gradient, make", RAW.values(), ids=RAW)
def test_an_array_that_its_owner_changes_after_the_operation_does_not_change_the_gradient(f, gradient, make):
    x, a = leaf(4), make()
    expected = gradient(a)
    y = f(x, a).sum()
    a[...] = a[::-1].copy() if a.dtype == bool else a * 0 + 1
    np.testing.assert_allclose(tg.grad(y, x).numpy(), expected)


def test_the_targets_of_a_loss_may_be_overwritten_before_backward():
    logits, targets = leaf(3, 5), np.array([1, 2, 3])
    loss = nn.cross_entropy(logits, targets, reduction="sum")
    targets[:] = 0
    loss.backward()
    p = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(1, keepdims=True)
    np.testing.assert_allclose(logits.grad.numpy(), p - np.eye(5)[[1, 2, 3]])


def test_a_tensor_does_not_share_memory_with_what_it_was_made_from():
    source = np.ones(3)
    t = tg.tensor(source)
    source[:] = 5
    assert t.tolist() == [1, 1, 1]
    again = tg.tensor(t)
    assert not np.shares_memory(again.array, t.array)
    t.numpy()[:] = 7
    assert t.tolist() == [1, 1, 1]


# ---- several outputs -----------------------------------------------------------------------------------------------


def test_outputs_that_nobody_reads_have_gradient_zero():
    x = leaf(4, 3)
    first, _, third, _ = x.unbind()
    (2 * first + third).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [[2] * 3, [0] * 3, [1] * 3, [0] * 3])
    a, _ = x.split([1, 3])
    g = tg.grad((a * a).sum(), x, create_graph=True)
    np.testing.assert_allclose(g.numpy(), np.concatenate([2 * x.numpy()[:1], np.zeros((3, 3))]))
    np.testing.assert_array_equal(tg.grad(g.sum(), x).numpy()[:, 0], [2, 0, 0, 0])


def test_an_output_that_is_read_twice_gets_both_gradients():
    x = leaf(2, 3)
    a, b = x
    (a * a + a * b).sum().backward()
    A, B = x.numpy()
    np.testing.assert_allclose(x.grad.numpy(), [2 * A + B, A])


def test_slicing_a_sequence_step_by_step_makes_one_array_of_its_size(monkeypatch):
    T, made = 200, []
    xs, weights = leaf(T, 2, 3), rng.standard_normal((T, 1, 1))
    for name in ("zeros", "zeros_like", "empty", "empty_like", "full"):
        original = getattr(np, name)

        def counted(*args, original=original, **kwargs):
            array = original(*args, **kwargs)
            made.append(array.shape)
            return array

        monkeypatch.setattr(np, name, counted)
    total = 0
    for t in range(T):
        total = total + xs[t] * weights[t]
    total.sum().backward()
    assert made.count((T, 2, 3)) <= 1
    np.testing.assert_allclose(xs.grad.numpy(), np.broadcast_to(weights, (T, 2, 3)))


def test_slices_that_overlap_add_up_beside_other_readers_of_the_whole():
    x = leaf(5)
    y = (x * 10).sum() + x[1:4].sum() + x[2:].sum() + x[2] + x[np.array([0, 0])].sum() + x.sum()
    y.backward()
    np.testing.assert_array_equal(x.grad.numpy(), [13, 12, 14, 13, 12])


def test_a_slice_does_not_write_into_a_gradient_that_another_tensor_holds():
    x, z = leaf(3), leaf(3)
    y = (x + z).sum() + x[0] * 5 + x[1] * 7
    y.backward()
    np.testing.assert_array_equal(x.grad.numpy(), [6, 8, 1])
    np.testing.assert_array_equal(z.grad.numpy(), [1, 1, 1])


def test_a_sum_is_not_written_into_a_gradient_that_another_tensor_holds():
    x, z = leaf(3), leaf(3)
    y = (x * 5).sum() + ((x + z) * 2).sum()
    y.backward()
    np.testing.assert_array_equal(x.grad.numpy(), [7, 7, 7])
    np.testing.assert_array_equal(z.grad.numpy(), [2, 2, 2])


@pytest.mark.parametrize("key", [None, (), ...], ids=repr)
def test_items_of_a_tensor_without_axes_add_up_with_its_other_readers(key):
    x = number(2.0)
    y = x * 1
    assert tg.grad(y[key].sum() * 3 + y * 2, x).item() == 5
    y = x * 1
    assert tg.grad(y * 2 + y[key].sum() * 3, x).item() == 5


def test_the_seed_that_was_passed_in_is_not_written_into():
    x = leaf(3)
    seed = tg.tensor(np.ones(3))
    y = x + 0
    (tg.grad([y, y[0]], x, [seed, tg.tensor(np.float64(5))]))
    np.testing.assert_array_equal(seed.numpy(), [1, 1, 1])


@pytest.mark.parametrize("steps, rows", [(3, 2), (90, 40)], ids=["few rows", "rows in several batches"])
def test_the_gradient_of_a_shared_weight_is_the_sum_over_its_uses(steps, rows):
    W = leaf(3, 4)
    xs = [leaf(rows, 3) for _ in range(steps)]
    us = [rng.standard_normal((rows, 4)) for _ in range(steps)]
    total = sum(((x @ W).tanh() * u).sum() for x, u in zip(xs, us, strict=True)) + (W * W).sum()
    expected = 2 * W.numpy()
    for x, u in zip(xs, us, strict=True):
        expected += x.numpy().T @ (u * (1 - np.tanh(x.numpy() @ W.numpy()) ** 2))
    for create_graph in (False, True):
        found = tg.grad(total, W, create_graph=create_graph, retain_graph=True)
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-11, atol=1e-11)


def test_a_gradient_is_an_array_of_its_own_with_the_leafs_shape_and_dtype():
    x = leaf(3, 4, dtype=np.float32)
    x.sum().backward()
    assert isinstance(x.grad.array, np.ndarray)
    assert 0 not in x.grad.array.strides
    assert (x.grad.shape, x.grad.dtype) == ((3, 4), np.float32)
    s = number(2.0)
    (s * 3).backward()
    assert isinstance(s.grad.array, np.ndarray)


# ---- scopes --------------------------------------------------------------------------------------------------------


class Block(nn.Module):
    def __init__(self):
        self.inner = [nn.Linear(2, 2), nn.Linear(2, 2)]

    def forward(self, x):
        return self.inner[1](self.inner[0](x).tanh())


class Model(nn.Module):
    def __init__(self):
        self.block = Block()

    def forward(self, x):
        with tg.scope("twice"):
            return self.block(x) * 2


def test_scopes_name_the_module_path_and_blocks_of_ones_own():
    y = Model()(tg.tensor([[1.0, 2.0]]))
    assert y.node.scope == ("Model", "twice")
    product = y.node.inputs[0]
    assert product.op.name == "add"
    assert product.scope == ("Model", "twice", "block", "inner.1")


def test_scopes_name_the_time_step():
    ys, _ = nn.Recurrent(nn.RNNCell(2, 3), engine="eager")(tg.tensor(np.zeros((4, 1, 2), np.float32)))
    steps = [node.scope for node in ys.node.inputs]
    assert steps == [("Recurrent", t, "cell") for t in range(4)]


def test_a_scope_ends_with_its_block_even_by_an_error():
    with pytest.raises(ZeroDivisionError), tg.scope("bad"):
        1 / 0  # noqa: B018
    assert (number(1.0) * 2).node.scope == ()


# ---- primitives of one's own ---------------------------------------------------------------------------------------


@tg.primitive
def hypot(a, b):
    return (a * a + b * b) ** 0.5


hypot.vjp(a=lambda g, a, y: g * a / y, b=lambda g, b, y: g * b / y)


def test_a_primitive_with_a_rule_for_each_argument_broadcasts_and_has_second_derivatives():
    assert tg.gradcheck(hypot, leaf(3, 2), leaf(2))
    assert hypot(3.0, 4.0) == 5


def test_a_primitive_with_a_joint_rule_is_told_which_gradients_are_wanted():
    told = []

    @tg.primitive
    def product(a, b):
        return a * b

    @product.vjp
    def product_rule(g, a, b, tracked):
        told.append(tracked)
        return g * b, g * a

    assert tg.gradcheck(product, leaf(3), leaf(2, 3))
    told.clear()
    tg.grad(product(leaf(3), a := leaf(3)).sum(), a)
    tg.grad(product(tg.tensor(np.ones(3)), a).sum(), a)
    assert told == [(True, True), (False, True)]


def test_a_primitive_may_have_several_outputs():
    @tg.primitive
    def sincos(x):
        return np.sin(x), np.cos(x)

    @sincos.vjp
    def sincos_rule(g, y):
        (ds, dc), (s, c) = g, y
        return (ds * c - dc * s,)

    x = leaf(3)
    s, c = sincos(x)
    np.testing.assert_allclose(s.numpy() ** 2 + c.numpy() ** 2, 1)
    np.testing.assert_allclose(tg.grad(s.sum(), x).numpy(), np.cos(x.numpy()))
    assert tg.gradcheck(sincos, leaf(3))


def test_the_outputs_of_a_primitive_may_differ_in_shape_and_dtype():
    @tg.primitive
    def halves(x, *, at):
        return x[:at], x[at:].astype(np.float32)

    halves.vjp(x=lambda g: ops.concat([g[0], g[1].astype(np.float64)]))
    x = leaf(5)
    low, high = halves(x, at=2)
    assert (low.dtype, high.dtype) == (np.float64, np.float32)
    np.testing.assert_array_equal(tg.grad(low.sum(), x, retain_graph=True).numpy(), [1, 1, 0, 0, 0])
    np.testing.assert_array_equal(tg.grad(high.sum(), x).numpy(), [0, 0, 1, 1, 1])


def test_a_primitive_has_static_keyword_arguments_that_its_rule_may_ask_for():
    @tg.primitive
    def scale(x, *, factor=2.0):
        return x * factor

    scale.vjp(x=lambda g, factor: g * factor)
    x = number(1.0)
    assert tg.grad(scale(x), x).item() == 2
    assert tg.grad(scale(x, factor=5.0), x).item() == 5
    assert scale(x, factor=5.0).node.static == {"factor": 5.0}


def test_a_rule_may_ask_for_shapes_and_dtypes_without_keeping_the_array(no_gc):
    @tg.primitive
    def total(x):
        return x.sum()

    total.vjp(x=lambda g, x_shape, x_dtype: ops.broadcast_to(g, x_shape).astype(x_dtype))
    x = leaf(2, 3, dtype=np.float32)
    h = x * 2
    kept = weakref.ref(h.array)
    y = total(h)
    del h
    assert kept() is None
    np.testing.assert_array_equal(tg.grad(y, x).numpy(), np.full((2, 3), 2))


def test_a_primitive_may_take_any_number_of_arguments():
    @tg.primitive
    def longest(*xs):
        return np.maximum.reduce(xs)

    @longest.vjp
    def longest_rule(g, xs, y):
        return [g * (x == y) for x in xs]

    assert tg.gradcheck(longest, leaf(4), leaf(4), leaf(4))


def test_an_argument_without_a_rule_has_no_gradient():
    @tg.primitive
    def gate(x, m):
        return x * m

    gate.vjp(x=lambda g, m: g * m)
    x, m = leaf(3), leaf(3)
    gate(x, m).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), m.numpy())
    assert m.grad is None


def test_a_missing_or_misspelled_rule_says_what_to_do():
    @tg.primitive
    def bare(x):
        return x * 1

    assert bare(tg.tensor([2.0])).tolist() == [2]
    with pytest.raises(TypeError, match=r"^bare: it has no derivative rule.*bare\.vjp"):
        bare(leaf(2))
    with tg.no_grad():
        assert bare(leaf(2)).shape == (2,)
    with pytest.raises(ValueError, match=r"^bare\.vjp: rules must be for arguments \['x'\], got one for \['z'\]"):
        bare.vjp(z=lambda g: g)
    with pytest.raises(ValueError, match=r"^bare\.vjp: a rule can need .* got 'weight'"):
        bare.vjp(x=lambda g, weight: g)


def test_gradcheck_finds_a_wrong_first_derivative_and_names_the_input():
    @tg.primitive
    def wrong(a, b):
        return a * b * b

    wrong.vjp(a=lambda g, b: g * b * b, b=lambda g, a, b: g * a * b)
    with pytest.raises(AssertionError, match=r"^gradcheck: the first derivative by input 1 "):
        tg.gradcheck(wrong, leaf(3), leaf(3))
    assert tg.gradcheck(lambda a: wrong(a, 2.0), leaf(3))


def test_gradcheck_finds_a_wrong_second_derivative():
    @tg.primitive
    def square(x):
        return x * x

    square.vjp(x=lambda g, x: g * x)

    @tg.primitive
    def cube(x):
        return x * x * x

    cube.vjp(x=lambda g, x: g * 3 * square(x))
    assert tg.gradcheck(cube, leaf(3), order=1)
    with pytest.raises(AssertionError, match=r"^gradcheck: the second derivative by input 0 "):
        tg.gradcheck(cube, leaf(3))


def test_gradcheck_finds_a_gradient_that_is_missing():
    with pytest.raises(AssertionError, match=r"^gradcheck: the first derivative by input 0 "):
        tg.gradcheck(lambda x: (x * x).detach() * 1.0, leaf(3))
    with pytest.raises(AssertionError, match=r"^gradcheck: the first derivative by input 0 "):
        tg.gradcheck(lambda x: x * x.detach(), leaf(3))


def test_gradcheck_wants_float64_and_varies_only_what_requires_a_gradient():
    with pytest.raises(ValueError, match=r"^gradcheck: inputs must be float64, input 0 is float32"):
        tg.gradcheck(ops.exp, leaf(2, dtype=np.float32))
    assert tg.gradcheck(lambda x, c: x * c.detach(), leaf(2), tg.tensor(np.ones(2)))


# ---- NumPy ---------------------------------------------------------------------------------------------------------


def test_numpy_reads_a_tensor():
    t = tg.tensor(np.array([1.5, 2.5]))
    np.testing.assert_array_equal(np.asarray(t), [1.5, 2.5])
    assert np.asarray(t, np.float32).dtype == np.float32
    writable = np.array(t)
    writable[:] = 0
    assert t.tolist() == [1.5, 2.5]
    np.testing.assert_array_equal(np.from_dlpack(t), [1.5, 2.5])
    assert float(t[0]) == 1.5


def test_what_dlpack_hands_out_cannot_change_the_tensor():
    t = tg.tensor(np.array([1.5, 2.5]))
    shared = np.from_dlpack(t)
    if shared.flags.writeable:
        shared[:] = 0
    assert t.tolist() == [1.5, 2.5]


def test_numpys_functions_and_arrays_record():
    x = leaf(3)
    a = rng.standard_normal(3)
    for y, slope in [
        (np.tanh(x), 1 - np.tanh(x.numpy()) ** 2),
        (a * x, a),
        (a - x, -np.ones(3)),
        (np.multiply(x, a), a),
        (np.float64(2) * x, 2 * np.ones(3)),
        (np.power(x, 2), 2 * x.numpy()),
        (np.negative(x), -np.ones(3)),
        (np.absolute(x), np.sign(x.numpy())),
        (np.sin(x), np.cos(x.numpy())),
        (np.cos(x), -np.sin(x.numpy())),
        (np.expm1(x), np.exp(x.numpy())),
        (np.fmod(x, 0.7), np.ones(3)),
        (np.mod(x, 0.7), np.ones(3)),
        (np.logaddexp(x, a), 1 / (1 + np.exp(a - x.numpy()))),
        (np.floor(x) * x, np.floor(x.numpy())),
        (np.rint(x) * x, np.rint(x.numpy())),
    ]:
        assert isinstance(y, tg.Tensor)
        np.testing.assert_allclose(tg.grad(y.sum(), x).numpy(), slope)
    M = rng.standard_normal((2, 3))
    np.testing.assert_allclose(tg.grad((M @ x).sum(), x).numpy(), M.sum(0))
    assert isinstance(a > x, tg.Tensor)
    np.testing.assert_array_equal((a > x).numpy(), a > x.numpy())


@pytest.mark.parametrize(
    "call",
    [
        lambda x: np.arctan(x),
        lambda x: np.add.reduce(x),
        lambda x: np.add(x, 1, out=np.zeros(3)),
        lambda x: np.add.outer(x, x),
    ],
    ids=["unknown", "method", "out", "outer"],
)
def test_a_function_that_cannot_be_recorded_is_refused(call):
    with pytest.raises(TypeError, match=r"^Tensor: np\.\w+ cannot be recorded; .*numpy\(\)"):
        call(leaf(3))


# ---- making and reading tensors ------------------------------------------------------------------------------------

DTYPES = [
    (1.5, np.float32),
    ([1.0, 2.0], np.float32),
    ([[1, 2]], np.int64),
    (True, np.bool_),
    ([], np.float32),
    (np.float64(1), np.float64),
    (np.ones(2), np.float64),
    (np.ones(2, np.float16), np.float16),
    ([np.float64(1), np.float64(2)], np.float64),
    ([np.ones(2), np.ones(2)], np.float64),
    (np.arange(3, dtype=np.int32), np.int32),
    ([1, 2.5], np.float32),
    (range(3), np.int64),
]


@pytest.mark.parametrize("values, dtype", DTYPES, ids=[repr(v) for v, _ in DTYPES])
def test_numbers_become_float32_and_arrays_keep_their_dtype(values, dtype):
    t = tg.tensor(values)
    assert t.dtype == dtype
    np.testing.assert_array_equal(t.numpy(), np.array(values))
    assert tg.tensor(values, dtype=np.float16).dtype == np.float16


NO_NUMBERS = ["text", [None, 1], object(), 1j, np.array(["a"]), np.array([1j])]


@pytest.mark.parametrize("values", NO_NUMBERS, ids=lambda v: type(v).__name__)
def test_what_is_no_real_number_is_refused(values):
    with pytest.raises(TypeError, match=r"^tensor: values must be"):
        tg.tensor(values)


def test_a_list_of_tensors_becomes_a_tensor_where_no_history_is_lost():
    with pytest.raises(TypeError, match="would leave the graph"):
        tg.tensor([leaf(2), leaf(2)])
    for t in tg.tensor([leaf(2).detach()] * 2), tg.no_grad()(tg.tensor)([leaf(2), leaf(2)]):
        assert t.shape == (2, 2)
        assert not t.requires_grad


def test_a_tensor_tells_what_it_is():
    t = tg.tensor(np.ones((2, 3), np.float32))
    assert (t.shape, t.ndim, t.size, t.dtype, t.device, len(t)) == ((2, 3), 2, 6, np.float32, "cpu", 2)
    assert t.tolist() == [[1, 1, 1], [1, 1, 1]]
    assert [row.shape for row in t] == [(3,), (3,)]
    assert hash(t) != hash(tg.tensor(t))


def test_a_tensor_of_one_element_is_a_python_number_where_one_is_asked_for():
    assert type(tg.tensor([[2.5]]).item()) is float
    assert type(tg.tensor(7).item()) is int
    assert (float(tg.tensor(2.5)), int(tg.tensor(2.5)), bool(tg.tensor(0.0)), bool(tg.tensor(True))) == (
        2.5,
        2,
        False,
        True,
    )
    assert ["a", "b", "c"][tg.tensor(1)] == "b"
    assert list(range(tg.tensor(3))) == [0, 1, 2]


@pytest.mark.parametrize(
    "call, kind",
    [
        (lambda: tg.tensor([1.0, 2.0]).item(), ValueError),
        (lambda: bool(tg.tensor([1.0, 2.0])), ValueError),
        (lambda: [1, 2][tg.tensor(1.0)], TypeError),
        (lambda: len(tg.tensor(1.0)), TypeError),
        (lambda: iter(tg.tensor(1.0)), TypeError),
    ],
    ids=["item", "bool", "index", "len", "iter"],
)
def test_a_tensor_that_is_no_such_number_says_so(call, kind):
    with pytest.raises(kind):
        call()


def test_repr_shows_values_dtype_and_where_it_comes_from():
    assert repr(tg.tensor([1.0, 2.5])) == "tensor([1. , 2.5])"
    assert repr(tg.tensor(np.array([1.0]))) == "tensor([1.], dtype=float64)"
    assert repr(tg.tensor([1, 2])) == "tensor([1, 2])"
    x = tg.tensor([1.0], requires_grad=True)
    assert repr(x) == "tensor([1.], requires_grad=True)"
    assert repr(x * 2) == "tensor([2.], op=mul)"


def test_names_are_for_leaves():
    x = tg.tensor([1.0])
    x.name = "input"
    assert x.name == "input"
    x.requires_grad_()
    assert x.name == "input"
    with pytest.raises(ValueError, match=r"^name: only a leaf can be named"):
        (x * 2).name = "y"


def test_grad_can_be_replaced_by_one_of_the_same_shape():
    x = leaf(2)
    x.grad = tg.tensor(np.array([1.0, 2.0]))
    x.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [2, 3])
    with pytest.raises(ValueError, match=r"^grad: must have shape \(2,\), got \(3,\)"):
        x.grad = tg.tensor(np.zeros(3))
    with pytest.raises(ValueError, match=r"^grad: only a leaf"):
        tg.tensor([1.0]).grad = tg.tensor([1.0])


def test_the_state_of_the_generator_can_be_saved_and_put_back():
    tg.manual_seed(3)
    state = tg.get_rng_state()
    before = copy.deepcopy(state)
    first = nn.init.normal((5,)).tolist()
    assert nn.init.normal((5,)).tolist() != first
    assert state == before
    tg.set_rng_state(state)
    assert nn.init.normal((5,)).tolist() == first
    tg.manual_seed(3)
    assert nn.init.normal((5,)).tolist() == first
    with pytest.raises(ValueError, match=r"^set_rng_state: "):
        tg.set_rng_state({"bit_generator": "MT19937"})
