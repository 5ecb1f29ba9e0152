"""Hash functions fitted in minutes to a sample of features, one file per method; all end as the same `HashLayer`.

The methods are numpy alone. Knows nothing of training by gradient and nothing of code files.
"""
