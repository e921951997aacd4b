"""What is written in LLVM's assembly language means to LLVM what llvmlite's own classes write."""

import re

from contextlib import ExitStack

import numpy as np
import pytest

llvm = pytest.importorskip("llvmlite.binding")

from llvmlite import ir  # noqa: E402

from tinygrad_rnn.compiler.llvm import assembly  # noqa: E402
from tinygrad_rnn.compiler.llvm.builder import Code  # noqa: E402

BINARY = ("add", "sub", "mul", "sdiv", "shl", "ashr", "and_", "or_")
SIGNS = ("<", "<=", ">", ">=", "==", "!=")
LINES = {
    **{f"{name} of {kind}": lambda b, x, name=name, kind=kind: getattr(b, name)(x[kind], x[kind])
       for name in BINARY for kind in ("i64", "ints")},
    **{f"{name} of {kind}": lambda b, x, name=name, kind=kind: getattr(b, name)(x[kind], x[kind])
       for name in ("fadd", "fsub", "fmul", "fdiv") for kind in ("float", "floats")},
    **{f"icmp {sign} of {kind}": lambda b, x, sign=sign, kind=kind: b.icmp_signed(sign, x[kind], x[kind])
       for sign in SIGNS for kind in ("i64", "ints")},
    **{f"fcmp {sign}, ordered": lambda b, x, sign=sign: b.fcmp_ordered(sign, x["floats"], x["floats"])
       for sign in SIGNS},
    **{f"fcmp {sign}, unordered": lambda b, x, sign=sign: b.fcmp_unordered(sign, x["float"], x["float"])
       for sign in SIGNS},
    "uno": lambda b, x: b.fcmp_unordered("uno", x["float"], x["float"]),
    "contract": lambda b, x: b.fadd(x["floats"], x["floats"], flags=x["contract"]),
    "fneg": lambda b, x: b.fneg(x["floats"]),
    "select": lambda b, x: b.select(x["mask"], x["floats"], x["floats"]),
    "zext": lambda b, x: b.zext(x["mask"], x["kinds"]["ints"]),
    "sitofp": lambda b, x: b.sitofp(x["i64"], x["kinds"]["float"]),
    "fptrunc": lambda b, x: b.fptrunc(x["double"], x["kinds"]["float"]),
    "bitcast": lambda b, x: b.bitcast(x["floats"], x["kinds"]["ints"]),
    "bitcast to itself": lambda b, x: b.fneg(b.bitcast(x["floats"], x["kinds"]["floats"])),
    "load": lambda b, x: b.load(b.inttoptr(x["i64"], x["where"])),
    "load with an alignment": lambda b, x: b.load(b.inttoptr(x["i64"], x["where"]), align=4),
    "store": lambda b, x: b.store(x["floats"], b.inttoptr(x["i64"], x["where"])),
    "store with an alignment": lambda b, x: b.store(x["floats"], b.inttoptr(x["i64"], x["where"]), align=4),
    "load atomic": lambda b, x: b.load_atomic(b.alloca(x["kinds"]["i64"]), "seq_cst", 8),
    "store atomic": lambda b, x: b.store_atomic(x["i64"], b.alloca(x["kinds"]["i64"]), "seq_cst", 8),
    "ptrtoint": lambda b, x: b.ptrtoint(b.alloca(x["kinds"]["floats"]), x["kinds"]["i64"]),
    "extract": lambda b, x: b.extract_element(x["floats"], x["two"]),
    "insert": lambda b, x: b.insert_element(x["undefined"], x["float"], x["two"]),
    "shuffle": lambda b, x: b.shuffle_vector(x["floats"], x["undefined"], x["lanes"]),
    "call": lambda b, x: b.call(x["sqrt"], [x["float"]]),
    "call of what is at an address": lambda b, x: b.call(b.inttoptr(x["i64"], x["function"]), [x["i64"]]),
}  # fmt: skip
KINDS = ("i64", "float", "double", "ints", "floats", "mask")


def ours(write):
    module = assembly.Module("m")
    four = lambda kind: assembly.vector(kind, 4)
    kinds = dict(zip(KINDS, ("i64", "float", "double", four("i32"), four("float"), four("i1")), strict=True))
    f = assembly.Function(module, "f", assembly.VOID, list(kinds.values()), inner=False)
    b = assembly.Builder(f.block("entry"))
    write(b, {
        **dict(zip(KINDS, f.arguments, strict=True)), "kinds": kinds, "contract": " contract",
        "where": f"{four('float')}*",
        "two": assembly.constant("i32", 2), "undefined": assembly.undefined(four("float")),
        "lanes": assembly.constants(four("i32"), [3, 0, 1, 1]),
        "sqrt": assembly.Function(module, "sqrtf", "float", ["float"]), "function": assembly.function("void", ["i64"]),
    })  # fmt: skip
    b.ret_void()
    return str(module)


def theirs(write):
    module = ir.Module("m")
    i64, real, four = ir.IntType(64), ir.FloatType(), lambda kind: ir.VectorType(kind, 4)
    kinds = dict(
        zip(KINDS, (i64, real, ir.DoubleType(), four(ir.IntType(32)), four(real), four(ir.IntType(1))), strict=True)
    )
    f = ir.Function(module, ir.FunctionType(ir.VoidType(), list(kinds.values())), "f")
    b = ir.IRBuilder(f.append_basic_block("entry"))
    write(b, {
        **dict(zip(KINDS, f.args, strict=True)), "kinds": kinds, "contract": ("contract",),
        "where": four(real).as_pointer(),
        "two": ir.Constant(ir.IntType(32), 2), "undefined": ir.Constant(four(real), ir.Undefined),
        "lanes": ir.Constant(four(ir.IntType(32)), [3, 0, 1, 1]),
        "sqrt": ir.Function(module, ir.FunctionType(real, [real]), "sqrtf"),
        "function": ir.FunctionType(ir.VoidType(), [i64]).as_pointer(),
    })  # fmt: skip
    b.ret_void()
    return str(module)


def read(text):
    """What LLVM understands, as it says it."""
    module = llvm.parse_assembly(text)
    module.verify()
    return str(module)


@pytest.mark.parametrize("write", LINES.values(), ids=LINES)
def test_a_line_says_what_llvmlites_says(write):
    assert read(ours(write)) == read(theirs(write))


@pytest.mark.parametrize("kind", ["float", "double"])
@pytest.mark.parametrize("x", [0.0, -0.0, 1.5, 0.1, -3e-42, 1e-300, 7e37, np.inf, -np.inf, np.nan, 2], ids=str)
def test_a_number_is_the_one_that_llvmlite_writes(x, kind):
    rounded = float(np.float32(x)) if kind == "float" else float(x)
    number = ir.Constant(ir.FloatType() if kind == "float" else ir.DoubleType(), rounded)
    assert assembly.constant(kind, x).name == number.get_reference()
    assert assembly.constant(f"<2 x {kind}>", x).name == f"<{number}, {number}>"


def test_a_constant_that_float32_cannot_hold_is_infinite_as_in_numpy():
    with pytest.warns(RuntimeWarning, match="overflow"):
        assert assembly.constant("float", 1e300) == assembly.constant("float", np.inf)


def test_loops_and_branches_within_each_other_are_those_that_llvm_reads():
    module = assembly.Module("m")
    code = Code(module, "f", 2, "float32")
    first, last = code.arguments
    with ExitStack() as stack:
        i = stack.enter_context(code.loop(first, last))
        j = stack.enter_context(code.loop(i, last, 3, down=True))
        stack.enter_context(code.b.if_then(code.b.icmp_signed("<", i, j)))
        then, otherwise = stack.enter_context(code.b.if_else(code.b.icmp_signed("==", i, j)))
        with then, code.loop(0, i) as k:
            code.store_one(code.load_one(k), j)
        with otherwise:
            code.store(code.constant(1.0), j)
    code.finish()
    found = re.findall(r"= phi i64 \[ (\S+), \S+ \], \[ (\S+), \S+ \]", read(str(module)))
    assert len(found) == 3
    assert all(start != later for start, later in found)


def test_names_of_blocks_within_each_other_do_not_grow_for_ever():
    code = Code(assembly.Module("m"), "f", 1, "float32")
    with ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(code.b.if_then(code.b.icmp_signed("<", *code.arguments * 2)))
    code.finish()
    assert len({block.name for block in code.function.blocks}) == len(code.function.blocks)
    assert max(len(block.name) for block in code.function.blocks) < 70
    read(str(code.module))
