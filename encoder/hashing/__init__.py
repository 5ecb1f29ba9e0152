"""Hash functions fitted to pooled features: one file each, all ending as a `HashLayer`."""
