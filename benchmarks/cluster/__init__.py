"""Past one machine: what encoding on a cluster and a search in slices cost beside one machine, measured and foretold."""
