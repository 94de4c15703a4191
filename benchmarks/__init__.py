"""Measurements that take minutes: each is a command that prints a table and leaves a record in results/."""
