"""The losses by name: pure functions of logits and classes, one file per family, and what a trainer calls."""
