"""What the `evaluate` flow is made of: subjects, protocols, probes, baselines, scores and the report."""
