"""Paper steps I to III: invent questions, deduplicate them, and vote on their answers."""
