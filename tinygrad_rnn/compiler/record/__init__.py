"""From a running cell to a circuit, forward and backward."""
