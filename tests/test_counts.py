"""What the stand-in for CuPy counts, what it does late, and how it rounds halves: as CuPy 14.2 and a GPU do."""

import gc
import weakref

import numpy as np
import pytest

from conftest import REAL_GPU

import tinygrad_rnn as tg

from tinygrad_rnn import nn

HOST = np.arange(6.0).reshape(2, 3)


@pytest.fixture
def stand_in(cupy):
    if REAL_GPU:
        pytest.skip("about the stand-in")
    return cupy


# ---- launches, syncs, copies -----------------------------------------------------------------------------------------

COUNTED = {
    "an operator": (lambda c, a: a + a, 1, 0, 0),
    "NumPy's function": (lambda c, a: np.exp(a), 1, 0, 0),
    "an update": (lambda c, a: a.__iadd__(1.0), 1, 0, 0),
    "an empty array": (lambda c, a: a[:0] + 1, 0, 0, 0),
    "memory": (lambda c, a: c.empty((2, 3)), 0, 0, 0),
    "zeros": (lambda c, a: c.zeros_like(a), 1, 0, 0),
    "a sum": (lambda c, a: a.sum(axis=0), 1, 0, 0),
    "a product": (lambda c, a: a @ a.T, 1, 0, 0),
    "a product of stacks": (lambda c, a: a[None] @ a[None].swapaxes(1, 2), 2, 0, 0),
    "an inner product": (lambda c, a: c.vdot(a, a), 2, 0, 0),
    "views": (lambda c, a: c.flip(a.T.reshape(3, 2)[1:, None], 0), 0, 0, 0),
    "a reshape that copies": (lambda c, a: a.T.reshape(6), 1, 0, 0),
    "the same dtype": (lambda c, a: a.astype(np.float64, copy=False), 0, 0, 0),
    "another dtype": (lambda c, a: a.astype(np.float32, copy=False), 1, 0, 0),
    "an item of an array": (lambda c, a: a[1], 0, 0, 0),
    "rows by an array": (lambda c, a: a[c.zeros(2, np.int64)], 2, 0, 0),
    "rows by a list": (lambda c, a: a[[0, 1]], 1, 0, 1),
    "items by two arrays": (lambda c, a: a[c.zeros(2, np.int64), c.zeros(2, np.int64)], 6, 0, 0),
    "a mask": (lambda c, a: a[a > 1], 4, 1, 0),
    "places": (lambda c, a: c.flatnonzero(a), 3, 1, 0),
    "setting a part": (lambda c, a: a.__setitem__(0, a[1]), 1, 0, 0),
    "setting a number": (lambda c, a: a.__setitem__(0, 1.0), 1, 0, 0),
    "setting a number at places": (lambda c, a: a.__setitem__(c.zeros(1, np.int64), 1.0), 2, 0, 1),
    "setting what is there": (lambda c, a: a.__setitem__(0, a[0]), 0, 0, 0),
    "a join": (lambda c, a: c.concatenate([a, a, a]), 3, 0, 0),
    "an array of the host": (lambda c, a: c.asarray(HOST), 0, 0, 1),
    "a number": (lambda c, a: c.asarray(1.0), 0, 0, 1),
    "an array that is there": (lambda c, a: c.asarray(a), 0, 0, 0),
    "a copy": (lambda c, a: c.array(a), 1, 0, 0),
    "a copy to a place": (lambda c, a: c.copyto(a, a * 2), 2, 0, 0),
    "get": (lambda c, a: a.get(), 0, 1, 0),
    "item": (lambda c, a: a[0, 0].item(), 0, 1, 0),
    "tolist": (lambda c, a: a.tolist(), 0, 1, 0),
    "bool": (lambda c, a: bool(a[0, 0]), 0, 1, 0),
    "float": (lambda c, a: float(a[0, 0]), 0, 1, 0),
    "int": (lambda c, a: int(a[0, 0]), 0, 1, 0),
    "if": (lambda c, a: 1 if a[0, 0] > 1 else 0, 1, 1, 0),
    "asnumpy": (lambda c, a: c.asnumpy(a), 0, 1, 0),
    "set": (lambda c, a: a.set(HOST), 0, 1, 1),
    "set on a stream": (lambda c, a: a.set(HOST, c.cuda.Stream()), 0, 0, 1),
    "waiting": (lambda c, a: c.cuda.get_current_stream().synchronize(), 0, 1, 0),
}


@pytest.mark.parametrize("call, launches, syncs, copies", COUNTED.values(), ids=COUNTED)
def test_calls_cost(call, launches, syncs, copies, stand_in):
    a = stand_in.asarray(HOST)
    with stand_in.counted() as counts:
        call(stand_in, a)
    assert (counts.launches, counts.syncs, counts.copies) == (launches, syncs, copies), counts


def test_kernels_of_ones_own_cost_a_launch(stand_in):
    a = stand_in.asarray(HOST)
    twice = stand_in.ElementwiseKernel("T x", "T y", "y = 2 * x")
    raw = stand_in.RawKernel('extern "C" __global__ void kernel(double* x) { *x = 7; }', "kernel")
    twice(a)
    with stand_in.counted() as counts:
        twice(a)
        twice(a[:0])
        raw((1,), (1,), (a,))
    assert (counts.launches, counts.syncs, counts.copies) == (2, 0, 0), counts


def test_counts_say_where_in_the_library_something_is(stand_in):
    loss = nn.mse_loss(tg.tensor(HOST, device="gpu"), tg.zeros(2, 3, dtype="float64", device="gpu"))
    with stand_in.counted() as outer:
        with stand_in.counted() as inner:
            loss.item()
        loss.item()
    assert (inner.syncs, outer.syncs) == (1, 2)
    (place,) = inner.places("sync")
    assert place.startswith("item at tensor.py:")
    assert outer.places("sync") == {place: 2}
    loss.item()
    assert outer.syncs == 2


# ---- streams ---------------------------------------------------------------------------------------------------------


def a_batch(cupy, stream):
    pinned = cupy.cuda.alloc_pinned_memory(HOST.nbytes)  # or more
    host = np.frombuffer(pinned, np.float64, HOST.size).reshape(HOST.shape)
    host[...] = HOST
    there = cupy.empty(HOST.shape)
    there.set(host, stream)
    return host, there


WAITS = {
    "event": lambda c, s: c.cuda.get_current_stream().wait_event(s.record()),
    "stream": lambda c, s: s.synchronize(),
    "device": lambda c, s: c.cuda.Device().synchronize(),
    "host": lambda c, s: s.record().synchronize(),
}


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_a_copy_on_a_stream_is_there_once_somebody_waits_for_it(wait, cupy):
    stream = cupy.cuda.Stream(non_blocking=True)
    _, there = a_batch(cupy, stream)
    wait(cupy, stream)
    np.testing.assert_array_equal(there.get(), HOST)


def test_what_is_read_before_its_copy_is_waited_for_is_not_there(stand_in):
    stream = stand_in.cuda.Stream(non_blocking=True)
    before = stream.record()
    host, there = a_batch(stand_in, stream)
    after = stream.record()
    stand_in.cuda.get_current_stream().wait_event(before)
    assert np.isnan(there.get()).all() and not after.done
    host[...] = 7  # too early: the copy has not been made
    after.synchronize()
    assert set(there.get().ravel()) == {7} and after.done


def test_the_null_stream_waits_for_streams_that_block(cupy):
    _, there = a_batch(cupy, cupy.cuda.Stream())
    np.testing.assert_array_equal((there * 2).get(), 2 * HOST)


def test_work_on_a_stream_waits_for_the_copies_before_it(cupy):
    with cupy.cuda.Stream(non_blocking=True) as stream:
        _, there = a_batch(cupy, stream)
        doubled, also = there * 2, cupy.asarray(HOST) * 2
    stream.synchronize()
    np.testing.assert_array_equal(doubled.get(), 2 * HOST)
    np.testing.assert_array_equal(also.get(), 2 * HOST)


def test_an_array_that_another_stream_makes_is_not_there_before_it_is_waited_for(stand_in):
    host = HOST.copy()
    with stand_in.cuda.Stream(non_blocking=True) as stream:
        there = stand_in.asarray(host)
    host[...] = 7  # CuPy has copied it to a buffer of its own
    assert np.isnan(there.get()).all()
    stand_in.cuda.get_current_stream().wait_event(stream.record())
    np.testing.assert_array_equal(there.get(), HOST)


@pytest.mark.parametrize("other", [HOST.astype(np.float32), HOST.T, HOST.tolist()], ids=["dtype", "shape", "list"])
def test_set_takes_what_fits(other, cupy):
    with pytest.raises((TypeError, ValueError)):
        cupy.asarray(HOST).set(other)


# ---- memory, halves, references --------------------------------------------------------------------------------------


def test_memory_is_full_of_what_nobody_wrote(stand_in):
    assert np.isnan(stand_in.empty((2, 3), np.float16).get()).all()
    assert stand_in.empty((), np.int32).item() == -1


def test_an_array_that_is_larger_than_the_pool_may_be_is_out_of_memory(cupy):
    pool = cupy.get_default_memory_pool()
    before = pool.get_limit()
    pool.set_limit(size=1 << 20)
    try:
        with pytest.raises(cupy.cuda.memory.OutOfMemoryError, match="Out of memory"):
            cupy.zeros(1 << 20, np.float64)
    finally:
        pool.set_limit(size=before)


def test_halves_are_added_in_float_along_every_axis(cupy):
    ones = cupy.ones((3000, 2), np.float16)
    for found in ones.sum(axis=0), ones.T.sum(axis=1), (ones * 0 + 1).sum(axis=0):
        assert (found.dtype, found.tolist()) == (np.float16, [3000, 3000])
    assert ones.mean(axis=0).tolist() == [1, 1]
    np.testing.assert_array_equal((ones.T @ ones).get(), np.full((2, 2), 3000))


def test_each_function_of_halves_rounds_its_result(cupy):
    x = cupy.asarray(np.float16([12]))
    assert np.exp(x).tolist() == [np.inf]  # 162755 in float
    assert (1 / (1 + np.exp(x))).tolist() == [0]


def test_a_weak_reference_to_an_array_ends_with_it(cupy):
    a = cupy.zeros(3)
    seen = weakref.ref(a)
    assert seen() is a
    del a
    gc.collect()
    assert seen() is None


def test_a_product_is_written_to_its_place(cupy):
    a = cupy.asarray(HOST)
    out = cupy.empty((2, 2))
    assert cupy.matmul(a, a.T, out=out) is out
    np.testing.assert_array_equal(out.get(), HOST @ HOST.T)
    with pytest.raises(ValueError):
        cupy.matmul(a, a.T, out=cupy.empty((2, 3)))


def test_vdot_and_copyto_are_numpys(cupy):
    a = cupy.asarray(HOST)
    assert cupy.vdot(a, a).item() == np.vdot(HOST, HOST)
    cupy.copyto(a, cupy.asarray(HOST[0]))
    np.testing.assert_array_equal(a.get(), np.stack([HOST[0]] * 2))
    with pytest.raises((TypeError, AttributeError, ValueError)):
        cupy.copyto(a, HOST)


def test_a_device_says_what_it_can(cupy):
    assert int(cupy.cuda.Device(0).compute_capability) >= 60
    assert cupy.cuda.runtime.getDeviceProperties(0)["warpSize"] == 32
