"""Hits as one HTML page that needs nothing else: pictures inside, no script from elsewhere."""
