"""Attacks, each run in a process of its own: `python -m tests.bench.hostile`."""
