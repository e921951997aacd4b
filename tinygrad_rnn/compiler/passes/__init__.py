"""Rewrites of a circuit into an equal one; each is a function of a circuit, and none knows a backend."""
