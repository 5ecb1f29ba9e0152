"""Whole flows, one file each: demo, benchmark, and what chains the steps of `encoder` and `indexer`."""
