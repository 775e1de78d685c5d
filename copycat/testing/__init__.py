"""Whole clusters in a simulated world, and the checker of what their clients saw."""
