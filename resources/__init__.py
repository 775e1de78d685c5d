"""What users come for: each resource is one file with its machine and its handle."""
