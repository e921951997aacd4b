"""Interleaved timing: competitors take turns in one process, so that a change of the machine's speed meets them all."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import statistics
import time

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

PEERS = ("numpy", "numba", "torch", "jax", "mygrad", "autograd")


class Times(NamedTuple):
    """Seconds for one call, one for each round, in the order of the rounds."""

    rounds: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    @property
    def least(self) -> float:
        return min(self.rounds)

    @property
    def quartiles(self) -> tuple[float, float]:
        return quartiles(self.rounds)


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def _run_for(seconds: float, function: Callable[[], object]) -> float:
    """Call the function for that long, at least once; the mean of its calls in seconds."""
    calls, start = 0, time.perf_counter()
    while True:
        function()
        calls += 1
        passed = time.perf_counter() - start
        if passed >= seconds:
            return passed / calls


def interleaved(
    competitors: Mapping[str, Callable[[], object]], *, rounds: int = 15, slice_s: float = 0.2, settle_s: float = 0.25
) -> dict[str, Times]:
    """Time the competitors in turn, `rounds` times, for `slice_s` seconds each.

    Before each slice its competitor runs `settle_s` seconds untimed: idle threads of the one before spin on for a while
    (OpenBLAS's for 2²⁸ cycles, 0.1 s) and take a core from whoever is next. With 0 it does not:
    a GPU has no such threads. The garbage collector stays as it is.
    """
    settle = partial(_run_for, settle_s) if settle_s else lambda function: None
    for function in competitors.values():
        settle(function)
    times: dict[str, list[float]] = {name: [] for name in competitors}
    for _ in range(rounds):
        for name, function in competitors.items():
            settle(function)
            times[name].append(_run_for(slice_s, function))
    return {name: Times(seconds) for name, seconds in times.items()}


def ratios(times: Times, to: Times) -> list[float]:
    """Our time over theirs, round by round."""
    return [a / b for a, b in zip(times.rounds, to.rounds, strict=True)]


def best(times: Mapping[str, Times], names: Sequence[str]) -> str:
    """Whichever of the names has the least median: the variant of a peer that counts."""
    return min(names, key=lambda name: times[name].median)


def print_times(title: str, times: Mapping[str, Times], ours: str) -> None:
    """A line for each competitor: milliseconds, quartiles, and the ratio ours / theirs with its quartiles."""
    print(f"\n{title}")
    print(f"  {'':<28}{'median ms':>10}{'quartiles':>18}{'least':>9}   ours/this (quartiles)")
    for name, t in times.items():
        low, high = (1e3 * q for q in t.quartiles)
        line = f"  {name:<28}{1e3 * t.median:>10.3f}{f'{low:.3f}–{high:.3f}':>18}{1e3 * t.least:>9.3f}"
        print(line if name == ours else f"{line}   {ratio_text(ratios(times[ours], t))}")


def ratio_text(values: Sequence[float]) -> str:
    low, high = quartiles(values)
    return f"{statistics.median(values):.2f} ({low:.2f}–{high:.2f})"


# ---- what was measured on what --------------------------------------------------------------------------------------


def print_header() -> None:
    """The machine, the versions and the date."""
    print(f"{datetime.date.today()}  {cpu_model()}, {os.cpu_count()} cores  Python {platform.python_version()}")
    print("  ".join(f"{name} {version(name)}" for name in PEERS if version(name)))
    print(f"BLAS of NumPy: {blas()}  load {os.getloadavg()[0]:.2f}")


def cpu_model() -> str:
    """What the system calls the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def version(package: str) -> str:
    """Its version, or nothing if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def blas() -> str:
    """The BLAS libraries that are loaded, with their threads; without threadpoolctl the one that NumPy names."""
    import numpy as np

    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return str(np.show_config("dicts")["Build Dependencies"]["blas"]["name"])
    np.ones((2, 2)) @ np.ones((2, 2))
    pools = [p for p in threadpool_info() if p["user_api"] == "blas"]
    return ", ".join(f"{p['internal_api']} {p['version']} ({p['num_threads']} threads)" for p in pools)
