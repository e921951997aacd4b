"""What must hold of options and of logits; ValueErrors in one line, with the name of the public function first."""

from __future__ import annotations

import math

from typing import Any

import numpy as np


def require(who: str, holds: bool, what: str, got: object) -> None:
    """ValueError "who: what, got …" where something does not hold."""
    if not holds:
        raise ValueError(f"{who}: {what}, got {got}")


def check_ids(who: str, **ids: Any) -> None:
    """Token ids, by the names of the options that give them."""
    for name, value in ids.items():
        whole = isinstance(value, (int, np.integer)) and bool(value >= 0)
        require(who, whole, f"{name} must be an id, an integer of at least 0", value)


def check_sampling(who: str, temperature: float, top_k: int, top_p: float) -> None:
    """The options of `sample_tokens`: ValueError unless each is within its limits."""
    require(who, 0 <= temperature < math.inf, "temperature must be a finite number of at least 0", temperature)
    require(who, top_k >= 0, "top_k must be at least 0", top_k)
    require(who, 0 < top_p <= 1, "top_p must be greater than 0 and at most 1", top_p)


def check_finite(who: str, logits: np.ndarray) -> None:
    """Logits without an infinity or a NaN among them: a model that has diverged gives these."""
    finite = np.isfinite(logits)
    if not finite.all():
        raise ValueError(f"{who}: logits must be finite numbers, got {logits[~finite][0]}")
