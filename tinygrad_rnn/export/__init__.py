"""Exports: a recorded step as a file that other programs run, ONNX or C."""

from tinygrad_rnn.export.to_c import c

__all__ = ["c"]
