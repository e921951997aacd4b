"""Cells drawn at random compute the same eagerly, on each compiled engine and, where there is PyTorch, on that."""

import importlib.util

import numpy as np
import pytest

from random_cells import Drawer, differences, outcome, torch, torch_outcome

CELLS, CHUNK = 2000, 20  # of the slow test: all of them, and so many in each test
ENGINES = ["numpy"] if importlib.util.find_spec("llvmlite") is None else ["numpy", "compiled"]


def check(seed):
    """What differs for a cell, in words."""
    drawn = Drawer(seed)
    expected = outcome(drawn, "eager")
    assert all(np.isfinite(array.astype("f8")).all() for array in expected.values())
    found = {engine: outcome(drawn, engine) for engine in ENGINES}
    bad = [f"{seed}, {e}: {line}" for e in found for line in differences(found[e], expected, drawn)]
    if torch is not None:
        known = {name: array for name, array in expected.items() if not name.startswith("shown")}
        lines = differences(torch_outcome(drawn), known, drawn)
        bad += [f"{seed}, torch: {line}" for line in lines]
    return bad


@pytest.mark.parametrize("seed", range(3))
def test_a_random_cell_is_the_same_everywhere(seed):
    assert check(seed) == []


@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, CELLS, CHUNK))
def test_many_random_cells_are_the_same_everywhere(start):
    assert [line for seed in range(start, start + CHUNK) for line in check(seed)] == []
