"""Who compares codes: FAISS on a CPU and on a GPU (the only owners of faiss), and the scan.

Numpy arrays in, `matches` out. Knows nothing of generations, filters or labels.
"""
