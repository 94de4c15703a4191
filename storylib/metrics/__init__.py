"""Metrics as pure functions, one file per family; their registry, intervals and tests."""
