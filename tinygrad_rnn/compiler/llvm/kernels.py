"""What a fused loop is made of: matrix products with packed weights, and the functions of the calculus on vectors."""

from __future__ import annotations

import functools
import itertools

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tinygrad_rnn.compiler.llvm.assembly import I64, VOID, Module, vector
from tinygrad_rnn.compiler.llvm.builder import Code
from tinygrad_rnn.compiler.llvm.host import machine
from tinygrad_rnn.compiler.llvm.machine import LOCK, Machine, compiled

WIDE = 2  # vectors in a row of a tile of the product
BLOCK, CHUNK = 192, 256  # rows and columns of a block in a contraction: it stays in the L2 cache


# ---- products -------------------------------------------------------------------------------------------------------
#
# A tile of the result, `height` rows by WIDE vectors, stays in registers while k runs over the inner dimension: each
# step loads WIDE vectors of the right operand and one number of each row of the left one.


def named(kernel: str, dtype: Any) -> str:
    """What the kernel is called in machine code."""
    return f"tinygrad_rnn_{kernel}{8 * np.dtype(dtype).itemsize}"


class Library:
    """Kernels for each dtype as machine code, at hand for all other code by their names.

    arguments  how many each kernel has, by what it is called
    write      writes all of them into a module: write(module, dtype)
    """

    def __init__(self, name: str, arguments: dict[str, int], write: Callable[[Module, np.dtype], None]):
        self.name, self.arguments, self.write = name, arguments, write
        self.made: dict[np.dtype, Machine] = {}

    def of(self, dtype: Any) -> Machine:
        """The kernels for a dtype."""
        dtype = np.dtype(dtype)
        with LOCK:
            if dtype not in self.made:
                module = Module(self.name)
                self.write(module, dtype)
                made = compiled(str(module), thorough=True)
                for kernel in self.arguments:
                    made.publish(named(kernel, dtype))
                self.made[dtype] = made
            return self.made[dtype]

    def call(self, code: Code, kernel: str, arguments: list[Any]) -> None:
        """Call a kernel of the library."""
        self.of(code.dtype)
        function = code.external(named(kernel, code.dtype), VOID, [I64] * self.arguments[kernel])
        code.b.call(function, arguments)


@functools.cache
def packer(dtype: Any) -> tuple[Callable[..., None], int]:
    """The kernel that packs weights, for Python: pack(jobs, first, last, worker), and where it is."""
    name, kernels = named("pack", dtype), _library.of(dtype)
    return kernels.function(name, _library.arguments["pack"]), kernels.address(name)


def panel(dtype: Any) -> int:
    """Columns of a tile; packed weights have as many side by side, for all k, and zeros behind the last column."""
    return WIDE * machine()[2] // np.dtype(dtype).itemsize


def packed_shape(shape: tuple[int, int], dtype: Any) -> tuple[int, int, int]:
    """The shape of packed weights (K, N): (panels, K, columns)."""
    return (-(-shape[1] // panel(dtype)), shape[0], panel(dtype))


def _pack(module: Module, dtype: Any) -> None:
    """Copy weights into panels, job by job. f(jobs, first, last, worker); a job is a row of JOB"""
    code = Code(module, named("pack", dtype), 4, dtype)
    jobs, first, last, _ = code.arguments
    one = _pack_one(module, dtype)
    with code.loop(first, last) as i:
        job = code.add(jobs, code.mul(i, 8 * len(JOB)))
        code.b.call(one, [code.load_integer(job, at) for at in range(len(JOB))])
    code.finish()


JOB = ("K", "N", "W", "row", "column", "out", "panel")


def _pack_one(module: Module, dtype: Any) -> Any:
    """Copy weights W (K, N) into panels that lie `panel` bytes apart, the first one at `out`. Strides in bytes."""
    code = Code(module, f"pack_one{np.dtype(dtype).itemsize}", len(JOB), dtype, inner=True)
    K, N, W, row, column, out, apart = code.arguments
    b, item, size = code.b, code.item, code.lanes * code.item
    beside = b.icmp_signed("==", column, code.integer(item))
    with code.loop(0, N, panel(dtype)) as j:
        source = code.add(W, code.mul(j, column))
        target = code.add(out, code.mul(b.sdiv(j, code.integer(panel(dtype))), apart))
        masks = [code.first(b.sub(b.sub(N, j), code.integer(code.lanes * i))) for i in range(WIDE)]
        with b.if_else(beside) as (then, otherwise):
            with then, code.loop(0, K) as k:
                for i in range(WIDE):
                    found = code.load(code.add(source, code.mul(k, row), i * size), masks[i])
                    code.store(found, code.add(target, code.mul(k, WIDE * size), i * size))
            with otherwise:
                pack_turned(code, K, least(code, b.sub(N, j), code.integer(panel(dtype))), source, row, column, target)
    code.finish()
    return code.function


def pack_turned(code: Code, K: Any, columns: Any, W: Any, row: Any, column: Any, out: Any) -> None:
    """A panel of a W whose columns do not lie side by side: a vector of k at a time, if these do."""
    b, item, lanes = code.b, code.item, code.lanes
    place = lambda k, i: code.add(out, code.mul(k, WIDE * lanes * item), code.mul(i, item))
    beside = b.icmp_signed("==", row, code.integer(item))
    whole = b.select(beside, b.and_(K, code.integer(-lanes)), code.integer(0))
    with code.loop(0, whole, lanes) as k, code.loop(0, columns) as i:
        found = code.load(code.add(W, code.mul(i, column), code.mul(k, item)))
        for n in range(lanes):
            code.store_one(b.extract_element(found, code.integer(n)), place(code.add(k, n), i))
    with code.loop(0, columns) as i, code.loop(whole, K) as k:
        code.store_one(code.load_one(code.add(W, code.mul(i, column), code.mul(k, row))), place(k, i))


def _product(module: Module, dtype: Any) -> None:
    """out = start + a @ W, W packed; start may be 0. All sizes in elements but strides in bytes:

    f(rows, N, K, a, a_row, W, start, start_row, out, out_row)
    """
    code = Code(module, named("product", dtype), 10, dtype)
    rows, N, K, a, a_row, W, start, start_row, out, out_row = code.arguments
    tiles = {h: _product_tile(module, dtype, h) for h in code.heights}
    pair = _product_tile(module, dtype, 1, panels=2)
    b, columns = code.b, panel(dtype)
    # A single row is done two panels at a time: each of its numbers is spread once for both.
    single = b.and_(b.icmp_signed("==", rows, code.integer(1)), b.icmp_signed(">", N, code.integer(columns)))
    paired = b.select(
        single,
        b.mul(b.sdiv(code.add(N, columns - 1), code.integer(2 * columns)), code.integer(2 * columns)),
        code.integer(0),
    )
    with code.loop(0, paired, 2 * columns) as j:
        at = code.mul(j, code.item)
        first = b.select(b.icmp_signed("==", start, code.integer(0)), start, code.add(start, at))
        weights = code.add(W, code.mul(code.mul(j, K), code.item))
        b.call(pair, [b.sub(N, j), K, a, a_row, weights, first, start_row, code.add(out, at), out_row])
    with code.loop(paired, N, columns) as j:
        weights = code.add(W, code.mul(code.mul(j, K), code.item))
        at = code.mul(j, code.item)
        done: Any = code.integer(0)
        for h in code.heights:
            stop = code.add(done, b.mul(b.sdiv(b.sub(rows, done), code.integer(h)), code.integer(h)))
            with code.loop(done, stop, h) as i:
                first = b.select(
                    b.icmp_signed("==", start, code.integer(0)), start, code.add(start, at, code.mul(i, start_row))
                )
                b.call(tiles[h], [b.sub(N, j), K, code.add(a, code.mul(i, a_row)), a_row, weights, first, start_row,
                                  code.add(out, at, code.mul(i, out_row)), out_row])  # fmt: skip
            done = stop
    code.finish()


def _product_tile(module: Module, dtype: Any, height: int, panels: int = 1) -> Any:
    """f(columns, K, a, a_row, W, start, start_row, out, out_row): one tile, of at most that many columns"""
    code = Code(module, f"tile{height}x{panels}x{np.dtype(dtype).itemsize}", 9, dtype, inner=True)
    columns, K, a, a_row, W, start, start_row, out, out_row = code.arguments
    b, item, size, wide = code.b, code.item, code.lanes * code.item, WIDE * panels
    masks = [code.first(b.sub(columns, code.integer(code.lanes * j))) for j in range(wide)]
    # A low tile adds up several sums side by side: the next product need not wait for the last one.
    chains = max(1, min(4, code.heights[0] // height) // panels)
    sums = {(c, i, j): code.top.alloca(code.vector) for c in range(chains) for i in range(height) for j in range(wide)}
    ways = [code.add(W, code.mul(code.mul(K, WIDE * size), p)) for p in range(panels)]  # to each panel
    for slot in sums.values():  # registers, once LLVM has looked at them
        b.store(code.constant(0.0), slot)
    cell = lambda p, row, i, j: code.add(p, code.mul(row, i), j * size)
    with b.if_then(b.icmp_signed("!=", start, code.integer(0))):
        for i, j in itertools.product(range(height), range(wide)):
            b.store(code.load(cell(start, start_row, i, j), masks[j]), sums[0, i, j])

    def step(k: Any, c: int) -> None:
        right = [code.load(code.add(way, code.mul(k, WIDE * size), j * size)) for way in ways for j in range(WIDE)]
        for i in range(height):
            left = code.spread(code.load_one(code.add(a, code.mul(a_row, i), code.mul(k, item))))
            for j in range(wide):
                b.store(code.fma(left, right[j], b.load(sums[c, i, j])), sums[c, i, j])

    in_chains(code, K, chains, step)
    for i, j in itertools.product(range(height), range(wide)):
        total = functools.reduce(b.fadd, [b.load(sums[c, i, j]) for c in range(chains)])
        code.store(total, cell(out, out_row, i, j), masks[j])
    code.finish()
    return code.function


def in_chains(code: Code, n: Any, chains: int, step: Callable[[Any, int], None]) -> None:
    """step(i, chain) for i from 0 to n: several chains side by side, and the rest in the first one."""
    whole = code.mul(code.b.sdiv(n, code.integer(chains)), chains)
    with code.loop(0, whole, chains) as i:
        for chain in range(chains):
            step(code.add(i, chain), chain)
    with code.loop(whole, n) as i:
        step(i, 0)


def _contraction(module: Module, dtype: Any) -> None:
    """out (+)= Σ a[t, n]ᵀ g[t, n] over steps t and rows n: the gradient of a weight. Strides in bytes:

    f(M, N, steps, a, a_step, g, g_step, rows, a_row, g_row, out, out_row, add)   add: to what is in out?

    BLOCK rows at a time: a panel of the columns of g is copied side by side first, because its rows may lie a power of
    two apart, where all would fall into the same few lines of the cache.
    """
    code = Code(module, named("contraction", dtype), 13, dtype)
    M, N, steps, a, a_step, g, g_step, rows, a_row, g_row, out, out_row, add = code.arguments
    tiles = {h: _contraction_tile(module, dtype, h) for h in code.heights}
    b, item, zero = code.b, code.item, code.integer(0)
    scratch = [code.top.ptrtoint(code.top.alloca(f"[{n} x {code.vector}]"), I64)
               for n in (WIDE * BLOCK, CHUNK * BLOCK // code.lanes)]  # fmt: skip
    with code.loop(0, rows, BLOCK) as r:
        some = least(code, b.sub(rows, r), code.integer(BLOCK))
        per = b.sdiv(code.integer(BLOCK), some)
        with (
            code.loop(0, b.sdiv(b.sub(code.add(steps, per), code.integer(1)), per)) as block,
            code.loop(0, M, CHUNK) as m,
        ):
            s = b.mul(block, per)
            count, height = least(code, b.sub(steps, s), per), least(code, b.sub(M, m), code.integer(CHUNK))
            more = b.or_(add, b.zext(b.icmp_signed("!=", code.add(r, s), zero), I64))
            left = code.add(a, code.mul(s, a_step), code.mul(r, a_row), code.mul(m, item))
            right = code.add(g, code.mul(s, g_step), code.mul(r, g_row))
            k = code.mul(count, some)
            for h, i in tiles_of(code, height):
                _gather_rows(code, code.add(left, code.mul(i, item)), a_step, a_row, count, some, h,
                             code.add(scratch[1], code.mul(code.mul(i, k), item)))  # fmt: skip
            with code.loop(0, N, panel(dtype)) as j:
                at = code.mul(j, item)
                _gather(code, code.add(right, at), g_step, g_row, count, some, b.sub(N, j), scratch[0])
                for h, i in tiles_of(code, height):
                    b.call(tiles[h], [b.sub(N, j), k, code.add(scratch[1], code.mul(code.mul(i, k), item)), scratch[0],
                                      code.add(out, code.mul(code.add(m, i), out_row), at), out_row, more])  # fmt: skip
    code.finish()


def tiles_of(code: Code, rows: Any) -> Iterator[tuple[int, Any]]:
    """Loops over tiles of so many rows: the highest first, lower ones for the rest. Yields (height, first row)."""
    b, done = code.b, code.integer(0)
    for h in code.heights:
        stop = code.add(done, b.mul(b.sdiv(b.sub(rows, done), code.integer(h)), code.integer(h)))
        with code.loop(done, stop, h) as i:
            yield h, i
        done = stop


def _gather_rows(code: Code, a: Any, a_step: Any, a_row: Any, steps: Any, rows: Any, height: int, out: Any) -> None:
    """Copy `height` neighbours of each of the rows of some steps, one row after the other."""
    b, kind = code.b, vector(code.real, height)
    with code.loop(0, steps) as t, code.loop(0, rows) as n:
        source = b.inttoptr(code.add(a, code.mul(t, a_step), code.mul(n, a_row)), f"{kind}*")
        target = code.add(out, code.mul(code.add(code.mul(t, rows), n), height * code.item))
        found = b.load(source, code.item)
        b.store(found, b.inttoptr(target, f"{kind}*"), code.item)


def _all(module: Module, dtype: np.dtype) -> None:
    for write in (_pack, _product, _contraction):
        write(module, dtype)


_library = Library("kernels", {"pack": 4, "product": 10, "contraction": 13}, _all)
call = _library.call


def least(code: Code, x: Any, y: Any) -> Any:
    """The smaller one of two integers."""
    return code.b.select(code.b.icmp_signed("<", x, y), x, y)


def _gather(code: Code, g: Any, g_step: Any, g_row: Any, steps: Any, rows: Any, columns: Any, out: Any) -> None:
    """Copy a panel: `columns` of the rows of some steps, one row after the other."""
    b, size = code.b, code.lanes * code.item
    masks = [code.first(b.sub(columns, code.integer(code.lanes * j))) for j in range(WIDE)]
    with code.loop(0, steps) as t, code.loop(0, rows) as n:
        source = code.add(g, code.mul(t, g_step), code.mul(n, g_row))
        target = code.add(out, code.mul(code.add(code.mul(t, rows), n), WIDE * size))
        for j in range(WIDE):
            code.store(code.load(code.add(source, j * size), masks[j]), code.add(target, j * size))


def _contraction_tile(module: Module, dtype: Any, height: int) -> Any:
    """f(columns, K, a, g, out, out_row, add): one tile, from gathered rows"""
    code = Code(module, f"sums{height}x{np.dtype(dtype).itemsize}", 7, dtype, inner=True)
    columns, K, a, g, out, out_row, add = code.arguments
    b, item, lanes = code.b, code.item, code.lanes
    masks = [code.first(b.sub(columns, code.integer(lanes * j))) for j in range(WIDE)]
    cell = lambda i, j: code.add(out, code.mul(out_row, i), j * lanes * item)
    tile = [(i, j) for i in range(height) for j in range(WIDE)]
    slots = {c: code.top.alloca(code.vector) for c in tile}  # registers, once LLVM has looked at them
    for c in tile:
        b.store(code.constant(0.0), slots[c])
    with code.loop(0, K) as k:
        p, q = code.add(a, code.mul(k, height * item)), code.add(g, code.mul(k, WIDE * lanes * item))
        gs = [code.load(code.add(q, j * lanes * item)) for j in range(WIDE)]
        for i in range(height):
            x = code.spread(code.load_one(code.add(p, i * item)))
            for j in range(WIDE):
                b.store(code.fma(x, gs[j], b.load(slots[i, j])), slots[i, j])
    with b.if_then(b.icmp_signed("!=", add, code.integer(0))):
        for c in tile:
            b.store(b.fadd(b.load(slots[c]), code.load(cell(*c), masks[c[1]])), slots[c])
    for c in tile:
        code.store(b.load(slots[c]), cell(*c), masks[c[1]])
    code.finish()
    return code.function
