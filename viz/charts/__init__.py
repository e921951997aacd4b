"""Charts of numbers: attention weights, norms of gradients."""
