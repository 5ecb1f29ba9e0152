"""Inverted lists as a build writes them, without the rest of it."""

from indexer.engines.faiss_cpu import assign, train, write_lists


def write_ivf(path, codes, nlist, seed=0):
    """Write an IndexBinaryIVF over uint8[n, code_size], with centroids of its own; ids are its rows."""
    centroids = train(codes, nlist, seed)
    write_lists(path, codes, assign(codes, centroids), centroids)
