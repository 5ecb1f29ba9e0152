"""Training: images and labels in memory, augmentation, class codes, schedule, checkpoints, and the job itself."""
