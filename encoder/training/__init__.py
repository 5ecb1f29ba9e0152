"""Networks trained with labels: images in memory, augmentation, class codes, losses, schedule, checkpoints, and the job itself.

Ends as a plain model file, as a fit does. Knows nothing of code files.
"""
