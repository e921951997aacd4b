"""Records one step of any cell, and runs it over time, forward and backward, as a compiled program."""
