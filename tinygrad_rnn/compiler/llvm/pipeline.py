"""The passes of the LLVM engine, which pays by the number that is read or written: loops of one dtype."""

from functools import partial

from tinygrad_rnn.compiler.llvm.one_dtype import one_dtype
from tinygrad_rnn.compiler.passes.lower_softmax import lower_softmax
from tinygrad_rnn.compiler.passes.merge_products import merge_products
from tinygrad_rnn.compiler.passes.pipeline import Pass
from tinygrad_rnn.compiler.passes.sum_rows import sum_rows

PASSES = (
    Pass("lower_softmax", lower_softmax),
    Pass("one_dtype", one_dtype),
    Pass("sum_rows", sum_rows),
    Pass("merge_products", partial(merge_products, by_activation=False)),
)
