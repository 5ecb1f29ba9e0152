"""What to train, in plain data: no torch, so that `--help` is quick."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from encoder.enum_names import take_names
from encoder.levels import Level
from encoder.model.spec import BackboneSpec, Pooling
from encoder.training.losses.names import LossKind


@dataclass(frozen=True, slots=True)
class Phase:
    """One stretch of the schedule."""

    epochs: float
    rate: float
    """Highest learning rate, of a batch of 256; it grows and shrinks in proportion to the batch."""
    levels: tuple[Level, ...]
    """The levels whose losses count."""
    trunk: float = 0.0
    """Learning rate of the backbone as a share of `rate`; 0 freezes it."""
    warmup: float = 0.2
    """Share of the phase in which the rate climbs; it falls to 0 in the rest, both in a straight line."""
    copies: int = 0
    """Changed copies of each picture whose features are computed once, in a phase that trains hash layers alone; an epoch
    then shows them all. 0: every picture goes through the network in every step, and attention and exits learn, too."""

    def __post_init__(self) -> None:
        take_names(self)


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """Everything that decides what comes out, next to the images."""

    phases: tuple[Phase, ...]
    backbone: BackboneSpec = field(default_factory=lambda: BackboneSpec("threeblock"))
    weights: str = "none"
    image_size: int = 32
    pooling: Pooling = Pooling.ATTENTION
    bits: Mapping[Level, int] = field(default_factory=dict)
    exits: Mapping[Level, tuple[int, ...]] = field(default_factory=dict)
    """Widths of the convolutions of levels with an exit of their own."""
    losses: Mapping[Level, LossKind] = field(default_factory=dict)
    weight: Mapping[Level, float] = field(default_factory=dict)
    """Of each level's loss in the sum; 1 where nothing is said."""
    labels: Mapping[Level, str] | None = None
    """Which JSON field says what is the same at a level; None: see `classes.fields_for`. A level without one of its own goes
    by that of the class (level mid), else by the first there is."""
    nested: bool = True
    """Fused class codes share bits among classes of one kind."""
    standardise: bool = True
    """Batch norms around the hash layers, folded into them at the end."""
    distillation: float = 0.0
    """Weight of the fused code's similarities as a teacher of the other levels."""
    batch: int = 256
    frozen_norms: bool = False
    """The trunk's batch norms keep the statistics of the given weights: batches of few pictures would blur them."""
    decay: float = 5e-4
    """Weight decay."""
    momentum: float = 0.9
    smoothing: float = 0.0
    """Label smoothing of losses that classify."""
    pad: int = 4
    """Largest shift in pixels, for pictures that are kept at the network's size."""
    cutout: int = 8
    """Side in pixels of the square that is greyed out; 0 for none."""
    area: tuple[float, float] | None = None
    """Share of a picture's area that is cut out at random, for pictures that are kept larger than the network's size."""
    held_out: float = 0.02
    """Share of the images that are not trained on, but score each epoch."""
    patience: int = 0
    """Epochs without a better held-out score after which a phase ends; 0: it runs to its end, where the rate is 0."""
    classes_left_out: float = 0.0
    """Share of the classes that are not trained on at all, for the protocol `unseen-classes`."""
    half: bool = False
    """The model file keeps 16-bit weights."""
    seed: int = 0

    def __post_init__(self) -> None:
        take_names(self)
