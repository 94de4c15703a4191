"""Runs and their records, the studies made of them, and the trained storyteller."""
