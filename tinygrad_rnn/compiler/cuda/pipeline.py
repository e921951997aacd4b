"""The passes of the CUDA engine, which pays by the launch: few kernels, and few products, of any dtypes."""

from functools import partial

from tinygrad_rnn.compiler.passes.lower_softmax import lower_softmax
from tinygrad_rnn.compiler.passes.merge_products import merge_products
from tinygrad_rnn.compiler.passes.pipeline import Pass

PASSES = (
    Pass("lower_softmax", lower_softmax),
    Pass("merge_products", partial(merge_products, by_activation=False)),
)
