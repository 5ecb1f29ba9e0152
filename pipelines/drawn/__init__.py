"""The pictures that the demo draws: a collection of things with classes and kinds, from a seed."""
