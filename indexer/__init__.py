"""Code files in, answers out: FAISS binary indexes on disk and Hamming search over them."""
