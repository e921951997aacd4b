"""From DOT to SVG, PNG and PDF, by Graphviz."""
