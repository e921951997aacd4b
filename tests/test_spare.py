"""Memory that is kept for the next call: nobody's who still looks at it."""

from pathlib import Path

import numpy as np
import pytest

from tinygrad_rnn.compiler.runtime import memory

cpython = pytest.mark.skipif(not memory._COUNTS, reason="references are counted otherwise here")


def test_arrays_are_of_the_shape_and_dtype_and_start_on_a_cache_line():
    for shape in (), (1,), (0, 3), (5, 7), (1000, 33):
        for dtype in np.float32, "f8", bool:
            array, at = memory.recycled(shape, dtype)
            assert (array.shape, array.dtype) == (shape, np.dtype(dtype))
            assert at == array.ctypes.data
            assert at % memory.LINE == 0
            array[...] = 1


def test_memory_that_somebody_looks_at_is_not_handed_out():
    held = [memory.recycled((100, 7 + i % 3), "f4")[0] for i in range(3 * memory.EACH)]
    for i, array in enumerate(held):
        array[...] = i
    views = [array.T[2:] if i % 2 else array for i, array in enumerate(held)]
    del held, array
    more = [memory.recycled((100, 8), "f4")[0] for _ in range(5)]
    for array in more:
        array[...] = -1
    for i, view in enumerate(views):
        assert (view == i).all()


@cpython
def test_memory_that_was_let_go_serves_another_shape_of_about_the_size():
    array, first = memory.recycled((411, 97), "f4")
    del array
    assert memory.recycled((97, 410), "f4")[1] == first


@cpython
@pytest.mark.parametrize("there", [0, 40 << 20])
def test_the_memory_that_is_kept_is_bounded_by_what_there_is(monkeypatch, there):
    monkeypatch.setattr(memory, "available", lambda: there)
    monkeypatch.setattr(memory, "_handed_out", {})
    monkeypatch.setattr(memory, "_size", [0])
    monkeypatch.setattr(memory, "_most", [0])
    monkeypatch.setattr(memory, "ARRAYS", 1 << 20)
    for i in range(1, 60):
        memory.recycled((i, 10_000), "f4")
    kept = sum(len(block) for known in memory._handed_out.values() for block, _, _ in known)
    assert kept == memory._size[0] <= max(1 << 20, there // 3) + 60 * 40_000 * 9 // 8 + 64
    assert len(memory._handed_out) < 5 if not there else kept > 8 << 20


def test_the_system_says_how_much_memory_there_is():
    found = memory.available()
    if Path("/proc/meminfo").exists():
        assert 1 << 20 < found < 1 << 50
    assert memory._in_kilobytes("/nosuch", "MemAvailable:") == 0 and memory._number("/nosuch") is None


def test_a_container_has_its_own_limit(monkeypatch):
    numbers = {"/sys/fs/cgroup/memory.max": 5 << 20, "/sys/fs/cgroup/memory.current": 2 << 20}
    monkeypatch.setattr(memory, "_number", numbers.get)
    monkeypatch.setattr(memory, "_in_kilobytes", lambda *_: 1 << 40)
    assert memory.available() == 3 << 20
    monkeypatch.setattr(memory, "_number", lambda path: None)  # "max"
    assert memory.available() == 1 << 40


def test_an_address_is_where_the_first_element_is():
    a = np.arange(24.0).reshape(4, 6)
    fixed = a[1:].copy()
    fixed.flags.writeable = False
    for array in a, a[1:, 2:], a.T, a[::-1], fixed, np.array(3.0):
        assert memory.address(array) == array.__array_interface__["data"][0]
