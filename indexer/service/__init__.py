"""An index behind HTTP: queries by picture, key, code and example, pictures by row, and a page; one process, one event loop.

Everything heavy runs in the threads of a few lanes (`lanes.py`), which let go of the interpreter: the loop only reads and writes.
"""
