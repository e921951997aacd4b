"""From places to DOT."""
