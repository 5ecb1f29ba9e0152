"""An index searched in slices: contiguous groups of segments, each held by somebody else, and one exact answer."""
