"""The server: Raft, sessions and resources over one replicated log."""
