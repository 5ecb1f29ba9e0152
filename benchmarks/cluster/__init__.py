"""What the same commands take on a cluster."""
