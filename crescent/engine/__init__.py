"""Where text comes from: the server, its client and the journal of completions."""
