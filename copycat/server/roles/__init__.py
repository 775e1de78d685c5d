"""The roles of a server: exactly one of them at any time decides what it does."""
