"""The index on disk: generations, manifests, segments, columns and levels, written once and mapped when read.

Knows nothing of queries.
"""
