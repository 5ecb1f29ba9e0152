"""Exact Hamming search over codes where they lie in memory, on all cores. Knows neither files nor faiss."""
