"""A compiled step in the graph: its programs, its calls, its memory, and what is told of it."""
