"""Shards to code files, the encoder's main job: on one device or several, in order, resumable, with counts that add up.

Knows nothing of how a model came to be.
"""
