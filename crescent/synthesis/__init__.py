"""Paper steps I to III: questions are invented, deduplicated and voted on."""
