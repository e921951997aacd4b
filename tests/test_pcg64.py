"""A seed's numbers on a GPU are NumPy's to the bit, whatever was drawn before; the generator goes on likewise."""

import threading
import time

import numpy as np
import nvrtc
import pytest
import strict_cupy

from conftest import REAL_GPU

import tinygrad_rnn as tg

from tinygrad_rnn import nn, ops
from tinygrad_rnn.autograd import pcg64, random
from tinygrad_rnn.nn.layers import Dropout

SIZES = [0, 1, 2, 3, 5, 16, 17, 1023, 1024, 1025, 2047, 2049, 5000]
SEEDS = [0, 7, 123456789, 2**127]


def twins(seed):
    return np.random.default_rng(seed), np.random.default_rng(seed)


def on_gpu(kind, n, rng):
    """Draw on the GPU, from `rng`."""
    if kind == "mask":
        return random.mask((n,), 0.3, rng, dtype=np.dtype("f4"), device="gpu:0").get()
    return random.drawn((n,), rng, "gpu:0", kind).get()


def on_cpu(kind, n, rng):
    if kind == "mask":
        return (rng.random(n, np.float32) >= np.float32(0.3)) * np.float32(1 / 0.7)
    return rng.random(n, kind)


def check(kind, n, ours, numpys):
    found, expected = on_gpu(kind, n, ours), on_cpu(kind, n, numpys)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)
    assert ours.bit_generator.state == numpys.bit_generator.state


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", ["float32", "float64", "mask"])
def test_the_numbers_of_a_seed_are_numpys(kind, seed, gpu):
    for n in SIZES:
        check(kind, n, *twins(seed))


@pytest.mark.parametrize("seed", SEEDS)
def test_draws_of_any_kind_may_follow_each_other(seed, gpu):
    """float32 numbers are halves of words: of an odd count one is left over, for the next."""
    ours, numpys = twins(seed)
    order = np.random.default_rng(1)
    for _ in range(80):
        kind = ["float32", "float32", "float64", "mask", "host", "words", "normal"][order.integers(7)]
        if kind == "host":
            assert ours.random(3, np.float32).tolist() == numpys.random(3, np.float32).tolist()
        elif kind == "words":
            assert ours.integers(5, size=2).tolist() == numpys.integers(5, size=2).tolist()
        elif kind == "normal":
            assert ours.normal() == numpys.normal()
        else:
            check(kind, int(order.integers(0, 40)), ours, numpys)


def test_generators_that_were_spawned_saved_or_far_ahead_go_on_as_numpys(gpu):
    ours, numpys = twins(3)
    for a, b in zip(ours.spawn(2), numpys.spawn(2), strict=True):
        check("float32", 7, a, b)
    check("float32", 3, ours, numpys)
    kept = ours.bit_generator.state
    first = on_gpu("float32", 9, ours)
    ours.bit_generator.state = kept
    np.testing.assert_array_equal(on_gpu("float32", 9, ours), first)
    numpys.random(9, np.float32)
    for rng in (ours, numpys):
        rng.bit_generator.advance(2**100 + 5)
    check("mask", 33, ours, numpys)


def test_the_librarys_state_is_saved_and_set_on_either_device(gpu):
    tg.manual_seed(5)
    ops.uniform(3)
    state = tg.get_rng_state()
    first = ops.uniform(6).numpy()
    tg.set_rng_state(state)
    np.testing.assert_array_equal(ops.uniform(6, device="cpu").numpy(), first)
    np.testing.assert_array_equal(first, np.random.default_rng(5).random(9, np.float32)[3:])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("p", [0.1, 0.3, 0.999])
def test_a_mask_is_the_cpus_in_every_dtype(p, dtype, gpu):
    found, expected = (
        [ops.random.dropout_mask((7, 33), p, rng, like=tg.zeros(1, dtype=dtype, device=device)) for _ in range(2)]
        for device, rng in zip(("gpu", "cpu"), twins(2), strict=True)
    )
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype == dtype
        assert a.device == "gpu:0"
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_a_mask_keeps_those_numbers_of_uniform_that_are_at_least_p():
    for dtype in ("float16", "float32", "float64"):
        a, b = twins(0)
        like = tg.zeros(1, dtype=dtype)
        kept = (ops.uniform((99,), a, like=like) >= 0.3).numpy()
        expected = kept.astype(dtype) * np.dtype(dtype).type(1 / 0.7)
        np.testing.assert_array_equal(ops.random.dropout_mask((99,), 0.3, b, like=like).numpy(), expected)


@pytest.mark.parametrize("kind", [np.random.PCG64DXSM, np.random.MT19937, np.random.Philox])
def test_numbers_of_another_generator_are_drawn_on_the_host(kind, gpu):
    a, b, c = (np.random.Generator(kind(4)) for _ in range(3))
    np.testing.assert_array_equal(ops.uniform((5,), a).numpy(), c.random(5, np.float32))
    assert set(ops.random.dropout_mask((50,), 0.5, b, like=tg.zeros(1)).numpy()) == {0, 2}


def test_initial_weights_are_the_same_on_both_devices(gpu):
    for make in (lambda: nn.LSTMCell(5, 7), lambda: nn.Linear(3, 4), lambda: nn.Embedding(9, 3)):
        found = []
        for device in ("gpu", "cpu"):
            tg.manual_seed(1)
            with tg.device(device):
                found.append([p.numpy() for p in make().parameters()])
        for a, b in zip(*found, strict=True):
            np.testing.assert_array_equal(a, b)


class Slow:
    """A generator that lets other threads in wherever its state is read."""

    def __init__(self, seed):
        self.bit_generator, self.mine = self, np.random.PCG64(seed)
        self.lock, self.advance = self.mine.lock, self.mine.advance

    @property
    def state(self):
        read = self.mine.state
        time.sleep(1e-3)
        return read

    @state.setter
    def state(self, state):
        self.mine.state = state


@pytest.mark.parametrize("take", [pcg64._words, pcg64._halves])
def test_threads_share_a_generator_without_drawing_a_number_twice(take):
    shared, starts = Slow(6), []
    threads = [threading.Thread(target=lambda: starts.append(take(shared, 2)[1].item())) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(set(starts)) == 8


# ---- nothing waits, nothing is copied ----


@pytest.mark.skipif(REAL_GPU, reason="the stand-in counts")
def test_dropout_is_a_kernel_for_the_mask_and_one_to_apply_it(gpu):
    layer, x = Dropout(0.25), tg.tensor(np.ones((4, 5)), requires_grad=True)
    with strict_cupy.counted() as counts:
        y = layer(x)
    assert counts.launches <= 2 and counts.copies == counts.syncs == 0, counts
    (2 * y).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), 2 * y.numpy())


@pytest.mark.skipif(nvrtc.library() is None, reason="NVRTC is not installed")
@pytest.mark.parametrize("architecture", nvrtc.ARCHITECTURES)
def test_the_kernels_compile_for_gpus(architecture):
    assert nvrtc.compiled(pcg64.SOURCE, architecture, "-device-int128")
