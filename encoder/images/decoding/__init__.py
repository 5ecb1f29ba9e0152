"""Bytes of an image to 8-bit RGB, every limit checked first. The only owner of Pillow's decoders and of those beside it."""
