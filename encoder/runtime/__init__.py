"""What any program of this kind needs: files here and at URLs, durable writes, worker threads, timings, the terminal.

Owns fsspec and rich. Knows nothing of images or codes.
"""
