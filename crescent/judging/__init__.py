"""Whether a child is better than its parent."""
