"""Measurements of Copycat and of its peers on one machine; not part of the wheel."""
