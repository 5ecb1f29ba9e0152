"""The code file: one HDF5 file per shard, sealed by a digest, written whole or not at all. Owns h5py.

Knows what a row is made of, and nothing of networks.
"""
