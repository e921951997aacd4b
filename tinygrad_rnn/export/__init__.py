"""Exports: a recorded step as a file that other programs run, ONNX or C."""

from tinygrad_rnn.export.to_c import c
from tinygrad_rnn.export.to_onnx import Ports, onnx

__all__ = ["Ports", "c", "onnx"]
