"""Exports: a recorded step as a file that other programs run, ONNX, C or a page."""

from tinygrad_rnn.export.to_c import c
from tinygrad_rnn.export.to_html import html
from tinygrad_rnn.export.to_onnx import Ports, onnx

__all__ = ["Ports", "c", "html", "onnx"]
