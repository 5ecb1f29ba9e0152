"""Whether everything that can use a GPU is right and fast on the one at hand, in one run of minutes: docs/GPU.md."""
