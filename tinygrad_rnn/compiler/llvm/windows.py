"""Convolutions as machine code: products whose right operand is all windows of an image, which are not copied.

An image is copied into one with margins first. The numbers that one place in the windows takes there lie next to each
other for the windows of a row, as far as there are any: so a tile of a product reads its right operand where it is,
from addresses in a table. With a stride, the columns of the image with margins are sorted by their rest.

    convolve: y[n, k] = Σ W[t, k] windows[t]      deconvolve: the same of ∂L/∂y, its elements a stride apart, and of
    windows the other way round      correlate: out[t] += Σ windows[t] y[n]ᵀ over the images of all steps
"""

from __future__ import annotations

import functools

from typing import Any

import numpy as np

from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.compiler.llvm import kernels
from tinygrad_rnn.compiler.llvm.assembly import I64, Module
from tinygrad_rnn.compiler.llvm.builder import Code
from tinygrad_rnn.compiler.llvm.kernels import WIDE

# ---- where everything is --------------------------------------------------------------------------------------------

# What the kernels read, all distances in bytes:
# of the image that windows are taken of, its channels, the rows and columns that are copied, how far the first of them
# is, and how far images, channels, rows and columns are apart;
# of the one with margins, its numbers, how far its channels are apart, how far the first row is that is copied to, and
# how far these are apart, where a table with the place of each column is, and 1 if these lie side by side;
# of the windows, the terms of each, how many there are along both axes, how far those of two rows are apart, and a
# table of how far each term is, in a row of the weight and in the image;
# of the image with an element for each window, its channels; how far rows of the weight are apart for two of these; and
# how far images, channels, rows and columns are apart.
JOB = (
    "channels", "rows", "columns", "x_first", "x_image", "x_channel", "x_row", "x_column",
    "numbers", "channel", "first", "down", "places", "straight",
    "terms", "high", "wide", "below", "table",
    "others", "W_row", "y_image", "y_channel", "y_row", "y_column",
)  # fmt: skip


class Windows:
    """How the windows of a value's operand lie in an image with margins, in numbers: of whatever strides.

    shape   of what is copied, one image: (C, rows, columns)
    first   of the rows and the columns that have a place: those before are cut off
    count   how many rows and columns are copied
    start   the row of the first one; down: between two
    places  the column of each column
    plane   (rows, columns) with margins
    terms   the place of each term of the first window; below: between the windows of two rows
    outs    how many windows there are, along both axes
    kernel  the terms of a channel
    """

    def __init__(self, v: Value):
        x, size, stride, dilation = v.args[0], v.static["size"], v.static["stride"], v.static["dilation"]
        self.shape = x.shape[1:]
        turned = v.op == "deconvolve"
        self.outs = v.shape[2:] if turned else (v if v.op == "convolve" else v.args[1]).shape[2:]
        step, spread = ((1, 1), stride) if turned else (stride, (1, 1))
        offset = [d * (k - 1) - p[0] if turned else p[0]
                  for k, d, p in zip(size, dilation, v.static["padding"], strict=True)]  # fmt: skip
        needed = [(n - 1) * s + d * (k - 1) + 1 for n, s, d, k in zip(self.outs, step, dilation, size, strict=True)]
        part = -(-needed[1] // step[1])  # columns of one rest
        self.plane = needed[0], part * step[1]
        column = lambda at: at % step[1] * part + at // step[1]
        self.first = [max(0, -(o // s)) for o, s in zip(offset, spread, strict=True)]
        self.count = [
            max(0, min(n, (m - 1 - o) // s + 1) - f)
            for n, m, o, s, f in zip(self.shape[1:], needed, offset, spread, self.first, strict=True)
        ]
        self.start, self.down = offset[0] + self.first[0] * spread[0], spread[0]
        self.places = [column(offset[1] + (self.first[1] + j) * spread[1]) for j in range(self.count[1])]
        self.below = step[0] * self.plane[1]
        rows, across = ([d * (k - 1 - i if turned else i) for i in range(k)]
                        for k, d in zip(size, dilation, strict=True))  # fmt: skip
        self.terms = [
            c * self.plane[0] * self.plane[1] + i * self.plane[1] + column(j)
            for c in range(self.shape[0]) for i in rows for j in across
        ]  # fmt: skip
        self.kernel = size[0] * size[1]

    @property
    def numbers(self) -> int:
        """Of an image with margins."""
        return self.shape[0] * self.plane[0] * self.plane[1]

    def room(self, v: Value) -> int:
        """The bytes that a worker needs: an image with margins, and behind it the other one with its channels last."""
        wide = kernels.panel(v.dtype)
        more = 0
        if v.op == "correlate":
            more = self.outs[0] * self.outs[1] * wide
        return (self._behind(v.dtype) + more + 2 * wide) * v.dtype.itemsize

    def _behind(self, dtype: np.dtype) -> int:
        """Where the other image begins: rows of windows may be read beyond the end."""
        wide = kernels.panel(dtype)
        return -(-(self.numbers + 2 * wide) // wide) * wide


def room(v: Value) -> int:
    """The bytes that a worker needs for a value."""
    return Windows(v).room(v)


def job(v: Value, x: tuple[int, ...], other: tuple[int, ...], W: tuple[int, int]) -> list[np.ndarray]:
    """The integers that the kernels read for a value, and what they point at.

    x       the strides of the image that windows are taken of
    other   those of the image that has an element for each window
    W       those of the weight; not of "correlate", which has none
    """
    w, item = Windows(v), v.dtype.itemsize
    places = np.array([p * item for p in w.places] or [0], np.int64)
    terms = np.zeros((len(w.terms), 2), np.int64)
    terms[:, 1] = np.array(w.terms) * item
    W_row = 0
    if v.op == "convolve":
        terms[:, 0], W_row = np.arange(len(terms)) * W[0], W[1]
    elif v.op == "deconvolve":  # the terms are those of the other channels
        k, inside = np.divmod(np.arange(len(terms)), w.kernel)
        terms[:, 0], W_row = inside * W[0] + k * W[1], w.kernel * W[0]
    straight = x[3] == item and all(b - a == 1 for a, b in zip(w.places, w.places[1:], strict=False))
    numbers = {
        "channels": w.shape[0], "rows": w.count[0], "columns": w.count[1],
        "x_first": w.first[0] * x[2] + w.first[1] * x[3], "x_image": x[0], "x_channel": x[1], "x_row": x[2],
        "x_column": x[3], "numbers": w._behind(v.dtype), "channel": w.plane[0] * w.plane[1] * item,
        "first": w.start * w.plane[1] * item, "down": w.down * w.plane[1] * item, "places": places.ctypes.data,
        "straight": int(straight), "terms": len(terms), "high": w.outs[0], "wide": w.outs[1],
        "below": w.below * item, "table": terms.ctypes.data,
        "others": (v.args[1] if v.op == "correlate" else v).shape[1], "W_row": W_row,
        "y_image": other[0], "y_channel": other[1], "y_row": other[2],
        "y_column": other[3],
    }  # fmt: skip
    return [np.array([numbers[name] for name in JOB], np.int64), places, terms]


# ---- kernels --------------------------------------------------------------------------------------------------------


def _both(module: Module, dtype: np.dtype) -> None:
    fill = _fill(module, dtype)
    _convolve(module, dtype, fill)
    _correlate(module, dtype, fill)


call = kernels.Library("windows", {"convolve": 7, "correlate": 8}, _both).call


class _Job:
    """The integers of a job, read when they are first asked for, at the start of a function."""

    def __init__(self, code: Code, address: Any):
        self.code, self.at, self.read = code, address, dict[str, Any]()

    def __getattr__(self, name: str) -> Any:
        if name not in self.read:
            top = self.code.top
            where = top.inttoptr(top.add(self.at, Code.integer(8 * JOB.index(name))), f"{I64}*")
            self.read[name] = top.load(where)
        return self.read[name]


def _clear(code: Code, address: Any, numbers: Any) -> None:
    """Zeros; a multiple of the lanes."""
    with code.loop(0, numbers, code.lanes) as i:
        code.store(code.constant(0.0), code.add(address, code.mul(i, code.item)))


def _fill(module: Module, dtype: Any) -> Any:
    """f(job, x, scratch): copy an image into one with margins, which are there."""
    code = Code(module, f"fill{np.dtype(dtype).itemsize}", 3, dtype, inner=True)
    address, x, scratch = code.arguments
    j, b = _Job(code, address), code.b
    straight = b.icmp_signed("==", j.straight, code.integer(1))
    with code.loop(0, j.channels) as c, code.loop(0, j.rows) as r:
        source = code.add(x, j.x_first, code.mul(c, j.x_channel), code.mul(r, j.x_row))
        target = code.add(scratch, j.first, code.mul(c, j.channel), code.mul(r, j.down))
        with b.if_else(straight) as (then, otherwise):
            with then:
                row = code.add(target, code.load_integer(j.places))

                def copy(k: Any, mask: Any, source: Any = source, row: Any = row) -> None:
                    at = code.mul(k, code.item)
                    code.store(code.load(code.add(source, at), mask), code.add(row, at), mask)

                code.over(0, j.columns, copy)
            with otherwise, code.loop(0, j.columns) as k:
                place = code.load_integer(code.add(j.places, code.mul(k, 8)))
                code.store_one(code.load_one(code.add(source, code.mul(k, j.x_column))), code.add(target, place))
    code.finish()
    return code.function


def _convolve(module: Module, dtype: Any, fill: Any) -> None:
    """y[n] = the product of the weight with the windows of x[n], for images from first to last.

    f(job, first, last, x, W, y, scratch)
    """
    code = Code(module, kernels.named("convolve", dtype), 7, dtype)
    address, first, last, x, W, y, scratch = code.arguments
    tiles = {h: _tile(module, dtype, h) for h in code.heights}
    j, b, lanes = _Job(code, address), code.b, code.lanes
    each = b.sdiv(code.add(j.wide, lanes - 1), code.integer(lanes))  # vectors of a row
    vectors = code.mul(j.high, each)
    _clear(code, scratch, j.numbers)
    with code.loop(first, last) as n:
        b.call(fill, [address, code.add(x, code.mul(n, j.x_image)), scratch])
        image = code.add(y, code.mul(n, j.y_image))
        for h, m in kernels.tiles_of(code, j.others):
            weights, out = code.add(W, code.mul(m, j.W_row)), code.add(image, code.mul(m, j.y_channel))
            with code.loop(0, vectors, WIDE) as u:
                some = []
                for i in range(WIDE):
                    row = b.sdiv(code.add(u, i), each)
                    column = code.mul(b.sub(code.add(u, i), code.mul(row, each)), lanes)
                    inside = b.icmp_signed("<", code.add(u, i), vectors)
                    row = b.select(inside, row, code.integer(0))
                    count = b.select(inside, b.sub(j.wide, column), code.integer(0))
                    at = code.mul(column, code.item)
                    some += [
                        code.add(scratch, code.mul(row, j.below), at),
                        code.add(out, code.mul(row, j.y_row), at),
                        count,
                    ]
                b.call(tiles[h], [j.terms, j.table, weights, j.W_row, j.y_channel, *some])
    code.finish()


def _tile(module: Module, dtype: Any, height: int) -> Any:
    """f(terms, table, W, W_row, out_row, (image, out, columns) for each vector): one tile"""
    code = Code(module, f"windows{height}x{np.dtype(dtype).itemsize}", 5 + 3 * WIDE, dtype, inner=True)
    terms, table, W, W_row, out_row, *some = code.arguments
    b, images, outs = code.b, some[::3], some[1::3]
    masks = [code.first(count) for count in some[2::3]]
    chains = max(1, min(4, code.heights[0] // height))
    tile = [(i, k) for i in range(height) for k in range(WIDE)]
    slots = {(c, *at): code.top.alloca(code.vector) for c in range(chains) for at in tile}  # registers
    for slot in slots.values():
        b.store(code.constant(0.0), slot)
    rows = [code.add(W, code.mul(W_row, i)) for i in range(height)]

    def step(at: Any, c: int) -> None:
        entry = code.add(table, code.mul(at, 16))
        weight, place = code.load_integer(entry), code.load_integer(entry, 1)
        right = [code.load(code.add(image, place)) for image in images]
        for i in range(height):
            left = code.spread(code.load_one(code.add(rows[i], weight)))
            for k in range(WIDE):
                b.store(code.fma(left, right[k], b.load(slots[c, i, k])), slots[c, i, k])

    kernels.in_chains(code, terms, chains, step)
    for i, k in tile:
        total = functools.reduce(b.fadd, [b.load(slots[c, i, k]) for c in range(chains)])
        code.store(total, code.add(outs[k], code.mul(out_row, i)), masks[k])
    code.finish()
    return code.function


def _correlate(module: Module, dtype: Any, fill: Any) -> None:
    """out[t, k] += Σ windows[t] g[n, k], over the windows of images from first to last.

    f(job, first, last, x, g, out, out_row, scratch)
    """
    code = Code(module, kernels.named("correlate", dtype), 8, dtype)
    address, first, last, x, g, out, out_row, scratch = code.arguments
    tiles = {h: _correlation_tile(module, dtype, h) for h in code.heights}
    j, b, wide = _Job(code, address), code.b, kernels.panel(dtype)
    right = code.add(scratch, code.mul(j.numbers, code.item))
    panels = b.sdiv(code.add(j.others, wide - 1), code.integer(wide))
    _clear(code, scratch, j.numbers)
    with code.loop(first, last) as n:
        b.call(fill, [address, code.add(x, code.mul(n, j.x_image)), scratch])
        with code.loop(0, panels) as p:
            column = code.mul(p, wide)
            columns = b.sub(j.others, column)
            some = kernels.least(code, columns, code.integer(wide))
            source = code.add(g, code.mul(n, j.y_image), code.mul(column, j.y_channel))
            with code.loop(0, j.high) as r:
                row, there = code.mul(r, j.y_row), code.mul(code.mul(r, j.wide), wide * code.item)
                kernels.pack_turned(
                    code, j.wide, some, code.add(source, row), j.y_column, j.y_channel, code.add(right, there)
                )
            for h, t in kernels.tiles_of(code, j.terms):
                target = code.add(out, code.mul(t, out_row), code.mul(column, code.item))
                places = code.add(j.table, code.mul(t, 16))
                b.call(tiles[h], [columns, j.high, j.wide, scratch, j.below, places, right, target, out_row])
    code.finish()


def _correlation_tile(module: Module, dtype: Any, height: int) -> Any:
    """f(columns, high, wide, image, below, places, right, out, out_row): one tile, of the windows of one image"""
    code = Code(module, f"correlated{height}x{np.dtype(dtype).itemsize}", 9, dtype, inner=True)
    columns, high, wide, image, below, places, right, out, out_row = code.arguments
    b, item, lanes = code.b, code.item, code.lanes
    masks = [code.first(b.sub(columns, code.integer(lanes * k))) for k in range(WIDE)]
    tile = [(i, k) for i in range(height) for k in range(WIDE)]
    slots = {at: code.top.alloca(code.vector) for at in tile}  # registers
    for slot in slots.values():
        b.store(code.constant(0.0), slot)
    starts = [code.add(image, code.load_integer(code.add(places, 16 * i), 1)) for i in range(height)]
    with code.loop(0, high) as r:
        rows = [code.add(start, code.mul(r, below)) for start in starts]
        there = code.add(right, code.mul(code.mul(r, wide), WIDE * lanes * item))
        with code.loop(0, wide) as c:
            gs = [code.load(code.add(there, code.mul(c, WIDE * lanes * item), k * lanes * item)) for k in range(WIDE)]
            for i in range(height):
                x = code.spread(code.load_one(code.add(rows[i], code.mul(c, item))))
                for k in range(WIDE):
                    b.store(code.fma(x, gs[k], b.load(slots[i, k])), slots[i, k])
    cell = lambda i, k: code.add(out, code.mul(out_row, i), k * lanes * item)
    for i, k in tile:
        code.store(b.fadd(b.load(slots[i, k]), code.load(cell(i, k), masks[k])), cell(i, k), masks[k])
    code.finish()
    return code.function
