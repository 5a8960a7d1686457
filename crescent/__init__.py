"""Crescent: a language model teaches itself for N rounds, and every round has to prove that it helped."""

__version__ = "0.1.0"
