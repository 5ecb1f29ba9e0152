"""One level searched over all segments, several levels combined, and hits ordered again by logits.

Knows neither keys nor labels nor pictures: rows and distances alone.
"""
