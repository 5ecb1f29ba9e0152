"""Labels as people bring them: values and their kinds, sidecars, and tables of labels."""
