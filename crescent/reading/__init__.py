"""A finished or running run, read back from its folder."""
