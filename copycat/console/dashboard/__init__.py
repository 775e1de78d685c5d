"""The dashboard: a cluster at a glance, drawn in the terminal."""
