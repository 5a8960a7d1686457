"""Which votes become training pairs."""
