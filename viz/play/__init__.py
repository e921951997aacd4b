"""Films and pages from an SVG."""
