"""Measurements of Copycat and of its peers on one machine; not part of the wheel.

``make bench`` runs them. Three server processes of one system at a time, all on loopback, with
their clients in processes of their own on the same cores: what is compared is work per
operation and delay, not what a cluster of three machines could do.

``make bench-simulation`` measures something else: how fast the simulated world of the tests is.
"""
