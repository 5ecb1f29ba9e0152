"""Rankings scored: items counted by distance and relevance, tie-aware metrics of the counts, plots.

Pure numpy over codes. Knows nothing of images, models or files of codes.
"""
