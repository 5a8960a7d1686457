"""Processes, files, secrets and facts about this machine."""
