"""Scores made again from stored responses and from published outputs, without an engine."""
