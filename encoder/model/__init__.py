"""What makes a code: backbones in three stages, attention pooling, hash layers, and the model file that holds them.

Turns pictures into logits and codes on a device. Knows nothing of how hash layers are fitted or trained, and nothing of code files.
"""
