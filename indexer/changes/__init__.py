"""What changes an index after it was built: rows added, removed and replaced, earlier generations taken up again.

Every change is a new generation, whole before it is the current one; readers of an earlier one keep it.
"""
