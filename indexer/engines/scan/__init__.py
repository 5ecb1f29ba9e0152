"""Our own exact Hamming search over FAISS's memory, with kernels compiled by numba and all cores for one query."""
