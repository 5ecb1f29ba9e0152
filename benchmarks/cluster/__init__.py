"""What a cluster of Ray costs beside one machine: `python -m benchmarks.cluster.encode`, `python -m benchmarks.cluster.resume`."""
