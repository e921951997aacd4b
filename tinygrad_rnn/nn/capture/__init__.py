"""What a recorded step can read: tensors, which it reads at each call, and all else, which it is recorded for.

code.py        what a piece of code names, and whose code is followed
kinds.py       what an object is to somebody who looks for what may change in it
places.py      what can be changed while a step is recorded, each with what it held
generators.py  whether random numbers were drawn
walk.py        from a cell's module and its code to all that they reach
inventory.py   whether that is still the same, and how to keep it so
"""

from __future__ import annotations

from tinygrad_rnn.nn.capture.inventory import Inventory

__all__ = ["Inventory"]
