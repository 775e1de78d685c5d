"""The messages between clients and servers and among servers."""
