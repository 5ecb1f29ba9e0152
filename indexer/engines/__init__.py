"""Who compares codes: FAISS on a CPU and on a GPU, and the scan.

Numpy arrays in, `matches` out. Knows nothing of generations, filters or labels.
"""
