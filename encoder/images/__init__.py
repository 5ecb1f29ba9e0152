"""Shards in, 8-bit RGB out: what a shard is, what a user may name as one, its images one after another, and the one decode.

Owns Pillow. Knows no network and no code file; an image that cannot be decoded is a `Reject` with a reason, never an exception
that ends a run.
"""
