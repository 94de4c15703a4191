"""Measurements that are taken by hand; their records are published in ``results``."""
