"""Searches over the same codes, compared: `python -m benchmarks.search`."""
