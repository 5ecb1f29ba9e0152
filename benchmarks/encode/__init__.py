"""Encoding against what the machine can do and what a user would write: `python -m benchmarks.encode`."""
