"""The passes of the NumPy engine, which pays by the call: few and long ones."""

from functools import partial

from tinygrad_rnn.compiler.passes.copy_transposed import copy_transposed
from tinygrad_rnn.compiler.passes.merge_elementwise import merge_elementwise
from tinygrad_rnn.compiler.passes.merge_products import merge_products
from tinygrad_rnn.compiler.passes.merge_reductions import merge_reductions
from tinygrad_rnn.compiler.passes.pipeline import Pass

PASSES = (
    Pass("merge_products", partial(merge_products, by_activation=True)),
    Pass("merge_elementwise", merge_elementwise),
    Pass("merge_reductions", merge_reductions),
    Pass("copy_transposed", copy_transposed),
)
