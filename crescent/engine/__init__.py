"""The engine that generates all text: its server, its client and the journal of completions."""
