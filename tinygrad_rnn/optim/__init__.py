"""How parameters follow from their gradients: optimisers, clipping, learning-rate schedules."""

from tinygrad_rnn.optim.clip import clip_grad_norm_, clip_grad_value_
from tinygrad_rnn.optim.moving_average import ExponentialMovingAverage
from tinygrad_rnn.optim.optimizers import SGD, Adam, AdamW, Optimizer, RMSprop
from tinygrad_rnn.optim.schedules import Plateau, Schedule, constant, cosine, one_cycle, step_decay, warmup
from tinygrad_rnn.optim.zero_redundancy import ZeroRedundancyOptimizer

__all__ = [
    "SGD", "Adam", "AdamW", "ExponentialMovingAverage", "Optimizer", "Plateau", "RMSprop", "Schedule",
    "ZeroRedundancyOptimizer", "clip_grad_norm_", "clip_grad_value_", "constant", "cosine", "one_cycle", "step_decay",
    "warmup",
]  # fmt: skip
