"""What the recorded graph says of time, states, names and values."""
