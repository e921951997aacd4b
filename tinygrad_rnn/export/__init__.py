"""Export: one step of a recurrent model as a program of another language, without this library, weights included."""

from tinygrad_rnn.export.c_writer import c

__all__ = ["c"]
