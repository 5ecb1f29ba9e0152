"""The losses as a trainer meets them: one call whatever the method needs, and a home for what it learns or remembers."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from encoder.errors import HashgrainError, Reason
from encoder.training.losses.classcodes import csq, dpn, orthohash
from encoder.training.losses.dqn import PART, WORDS, dqn, fit_codebooks
from encoder.training.losses.greedyhash import greedyhash
from encoder.training.losses.names import LossKind
from encoder.training.losses.pairwise import contrastive, dhn, dpsh, dtsh, hashnet

HASHNET_EPOCHS, HASHNET_STEP = 150, 20
"""HashNet sharpens by sqrt(1 + epoch // 20) over 150 epochs; a training of any length takes the same steps."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What a loss may know of a batch beside its logits; the arguments of `Criterion.forward`."""

    labels: Tensor
    rows: Tensor
    progress: float

    @property
    def similar(self) -> Tensor:
        """Return bool[n, n]: are two images of one class?"""
        return self.labels[:, None] == self.labels


class Criterion(nn.Module, ABC):
    """The loss of one level.

    Classifiers are parameters, for the optimiser; codes, memories and codebooks are buffers, for the checkpoint, and
    change in training mode only. In data-parallel training every process needs the logits, labels and rows of the whole
    batch: pairs and memories of a share of it are not the same loss.
    """

    def forward(self, logits: Tensor, labels: Tensor, rows: Tensor, progress: float) -> Tensor:
        """Return the loss of a batch, computed in float32 under autocast too.

        Args:
            logits: float32[n, K], as they leave the hash layer.
            labels: int64[n], class of each image, 0..C-1.
            rows: int64[n], which of the training items each image is, 0..items-1, no two the same.
            progress: share of the training that is done, 0..1.

        Returns:
            float32[]; finite, as is its gradient, for logits up to 1e4 and any labels.
        """
        with torch.autocast(logits.device.type, enabled=False):
            return self.loss(logits, Batch(labels, rows, progress))

    @abstractmethod
    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the loss of a batch, float32[], of float32[n, K]."""


class Stateless(Criterion):
    """A loss of nothing but the batch."""

    def __init__(self, function: Callable[[Tensor, Batch], Tensor]) -> None:
        super().__init__()
        self.function = function

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Apply the function."""
        return self.function(logits, batch)


class ClassCodes(Criterion):
    """A loss of logits, labels and the class codes, which are -1 or +1, float[C, K]."""

    codes: Tensor

    def __init__(self, function: Callable[[Tensor, Tensor, Tensor], Tensor], codes: Tensor) -> None:
        super().__init__()
        self.function = function
        self.register_buffer("codes", codes)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Apply the function to logits, labels and codes."""
        return self.function(logits, batch.labels, self.codes)


class GreedyHash(Criterion):
    """`greedyhash`, with its classifier of bits."""

    def __init__(self, nclasses: int, nbits: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(nbits, nclasses, bias=False)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Classify bits."""
        return greedyhash(logits, batch.labels, self.classifier.weight)


class Dpsh(Criterion):
    """`dpsh`, with the last logits of every training item.

    An item that was not seen yet has logits 0 and label -1: it is similar to nothing, and gives no gradient.
    """

    memory: Tensor
    labels: Tensor

    def __init__(self, nbits: int, items: int) -> None:
        super().__init__()
        self.register_buffer("memory", torch.zeros(items, nbits))
        self.register_buffer("labels", torch.full((items,), -1))

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Remember the batch, and compare it with everything remembered."""
        if self.training:
            self.memory[batch.rows] = logits.detach()
            self.labels[batch.rows] = batch.labels
        return dpsh(logits, self.memory, batch.labels[:, None] == self.labels)


class Dqn(Criterion):
    """`dqn`, with its codebooks, fitted anew to the last logits of all items whenever as many images have gone by."""

    memory: Tensor
    codebooks: Tensor
    seen: Tensor

    def __init__(self, nbits: int, items: int) -> None:
        super().__init__()
        self.register_buffer("memory", torch.zeros(items, nbits))
        self.register_buffer("codebooks", torch.zeros(nbits // PART, WORDS, PART))
        self.register_buffer("seen", torch.tensor(0))

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Remember the batch, refit the codebooks when it is time, and compare pairs."""
        if self.training:
            self.memory[batch.rows] = logits.detach()
            self.seen += len(logits)
            if self.seen >= len(self.memory):
                self.codebooks.copy_(fit_codebooks(self.memory))
                self.seen.zero_()
        return dqn(logits, batch.similar, self.codebooks)


def make_criterion(kind: LossKind, class_codes: Tensor, items: int) -> Criterion:
    """Return the loss called `kind`, with the constants of its source.

    Args:
        kind: any loss of labels.
        class_codes: -1 or +1, float32[C, K], a code of K bits for each of C classes; methods without class codes only look
            at its shape.
        items: training images, for methods that remember the logits of each.

    Raises:
        HashgrainError: `bad-value` for `contrastive-views`, which compares views and knows no labels.
    """
    nclasses, nbits = class_codes.shape
    match kind:
        case LossKind.CONTRASTIVE:
            return Stateless(_contrastive)
        case LossKind.DSH:
            return Stateless(lambda logits, batch: contrastive(logits, batch.similar))
        case LossKind.DPSH:
            return Dpsh(nbits, items)
        case LossKind.DHN:
            return Stateless(lambda logits, batch: dhn(logits, batch.similar))
        case LossKind.HASHNET:
            return Stateless(_hashnet)
        case LossKind.DTSH:
            return Stateless(lambda logits, batch: dtsh(logits, batch.labels))
        case LossKind.GREEDYHASH:
            return GreedyHash(nclasses, nbits)
        case LossKind.CSQ:
            return ClassCodes(lambda logits, labels, codes: csq(logits, codes[labels]), class_codes)
        case LossKind.DPN:
            return ClassCodes(lambda logits, labels, codes: dpn(logits, codes[labels]), class_codes)
        case LossKind.ORTHOHASH:
            return ClassCodes(orthohash, class_codes)
        case LossKind.DQN:
            return Dqn(nbits, items)
        case LossKind.CONTRASTIVE_VIEWS:
            raise HashgrainError(
                Reason.BAD_VALUE,
                f"the loss {kind} compares two views of a picture; choose another to train with labels",
            )


def _contrastive(logits: Tensor, batch: Batch) -> Tensor:
    """Return the plain pair loss on tanh u, which stands for the bits.

    Distances ignore a shift of all logits, and the threshold does not; the tanh ties the codes to the cube around it.
    """
    return contrastive(torch.tanh(logits), batch.similar, quantisation=0)


def _hashnet(logits: Tensor, batch: Batch) -> Tensor:
    epoch = batch.progress * HASHNET_EPOCHS
    return hashnet(logits, batch.similar, beta=math.sqrt(1 + epoch // HASHNET_STEP))
