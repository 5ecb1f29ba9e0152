"""What a service answers, how quickly, and for how long: over HTTP, on this machine alone."""
