"""The client: a session with the cluster that survives the loss of any one connection."""
