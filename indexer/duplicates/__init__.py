"""Near-duplicates of a whole collection: every two rows within a radius, in groups, to look through and to remove."""
