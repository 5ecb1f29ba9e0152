"""The names of the losses, in plain data: no torch, so that `--help` stays quick."""

from enum import StrEnum


class LossKind(StrEnum):
    """Which loss a level is trained with."""

    CONTRASTIVE = "contrastive"
    """Pairs of relaxed bits pulled together, or pushed past a margin of twice the bits."""
    DSH = "dsh"
    """The same on the logits themselves, which a quantisation term draws to -1 and +1."""
    DPSH = "dpsh"
    """Likelihood of pairs, each image against the last logits of every training image."""
    DHN = "dhn"
    """Likelihood of pairs inside a batch."""
    HASHNET = "hashnet"
    """The same with classes of pairs balanced, on a tanh that sharpens while training goes on."""
    DTSH = "dtsh"
    """Likelihood of triplets: a similar pair nearer than a dissimilar one."""
    GREEDYHASH = "greedyhash"
    """A linear classifier on bits, trained straight through the threshold."""
    CSQ = "csq"
    """Each bit a yes-or-no question that the class code answers."""
    DPN = "dpn"
    """Each logit on its class code's side, by a hinge."""
    ORTHOHASH = "orthohash"
    """The class by the cosine of logits and class codes."""
    DQN = "dqn"
    """Cosines of pairs, for product quantisation: words of codebooks, not a Hamming code."""
    CONTRASTIVE_VIEWS = "contrastive-views"
    """No labels: two augmented views of a picture nearer than other pictures."""
