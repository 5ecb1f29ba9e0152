"""Faults done on purpose: what a power cut, a full disk or a stranger does to files, by the thousand."""
