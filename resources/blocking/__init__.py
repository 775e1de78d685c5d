"""The blocking handles: the same verbs as the asyncio ones, for programs without an event loop."""
