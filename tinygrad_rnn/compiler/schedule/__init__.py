"""When each value of a circuit is computed, and where it lives."""
