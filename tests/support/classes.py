"""Features in classes, and what codes make of them, written out with dense matrices."""

import itertools

import numpy as np


def clusters(images, dim, nclasses, seed):
    """Float32 features around a centre per class, and the classes in turn."""
    rng = np.random.default_rng(seed)
    classes = np.arange(images) % nclasses
    return (rng.standard_normal((nclasses, dim))[classes] + rng.standard_normal((images, dim))).astype(
        np.float32
    ), classes


def similarity(classes):
    """S: 1 for two of one class, -1 for others, 0 where one has no label."""
    same = np.where(classes[:, None] == classes, 1.0, -1.0)
    return np.where((classes[:, None] >= 0) & (classes >= 0), same, 0.0)


def error(codes, classes, nbits):
    """||(1/K) H H' - S||^2."""
    return np.square(codes @ codes.T / nbits - similarity(classes)).sum()


def every_code(images, nbits=1):
    """Each matrix of signs that there is: [2^(images nbits), images, nbits]."""
    return np.array(list(itertools.product([-1.0, 1.0], repeat=images * nbits))).reshape(-1, images, nbits)
