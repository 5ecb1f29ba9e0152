"""Past one machine: what a search in slices costs, measured and foretold."""
