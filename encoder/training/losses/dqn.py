"""Deep quantisation network: vectors compared by cosine, stored as words of codebooks.

NOT a Hamming code. The K logits are cut into M = K / 8 parts, each stored as the number of its nearest of 256 words: one
byte a part, so K bits in all, but bytes of near pictures need share no bit. Distances come from tables, one float32 a
part and word, which a query's real-valued vector is measured against; no Hamming index can search these codes.

The cosine has no regard for length, so everything here brings its logits to length 1 first. The paper does not, but
then shrinking every vector lowers the quantisation error at no cost to the cosines.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from encoder.training.losses.pairwise import mean, of_pairs
from encoder.training.losses.quantisation import EPSILON

WORDS = 256
"""Words of a codebook: what one byte can tell apart."""
PART = 8
"""Logits that one codebook covers, so that K logits are stored in K bits."""
ROUNDS = 10
"""Rounds of k-means of one refit; the network has moved on by the next."""
SAMPLE = 64 * WORDS
"""Vectors that a codebook is fitted to at most, 64 a word."""


def dqn(logits: Tensor, similar: Tensor, codebooks: Tensor, *, quantisation: float = 0.1) -> Tensor:
    """Mean over pairs of (s - cos(u_i, u_j))^2, s = -1 or +1, plus quantisation * mean ||u/|u| - its words||^2.

    Args:
        logits: u, float[n, K].
        similar: bool[n, n].
        codebooks: float[M, 256, K / M]; they get no gradient. All zero before the first fit: the second term is then 1.
        quantisation: weight of the second term.

    Returns:
        float[], at least 0.

    Source: Cao et al., Deep quantization network for efficient image retrieval, AAAI 2016.
    """
    units = F.normalize(logits, dim=1, eps=EPSILON)
    sides = 2.0 * of_pairs(similar) - 1
    pairs = mean((sides - of_pairs(units @ units.T)).square())
    words = reconstruct(quantise(logits.detach(), codebooks), codebooks)
    return pairs + quantisation * (units - words).square().sum(dim=1).mean()


def quantise(features: Tensor, codebooks: Tensor) -> Tensor:
    """Return the number of the nearest word to each part of each vector.

    Args:
        features: float[n, K], of any length.
        codebooks: float[M, 256, K / M].

    Returns:
        uint8[n, M]. One byte a part, but not bits to be compared by Hamming distance.
    """
    nearest = [_nearest(part, words) for part, words in zip(_parts(features, len(codebooks)), codebooks, strict=True)]
    return torch.stack(nearest, dim=1).to(torch.uint8)


def reconstruct(codes: Tensor, codebooks: Tensor) -> Tensor:
    """Return the vectors that codes stand for: float[n, K] of uint8[n, M]."""
    parts = [words[code.long()] for words, code in zip(codebooks, codes.T, strict=True)]
    return torch.cat(parts, dim=1)


def lookup_distances(queries: Tensor, codes: Tensor, codebooks: Tensor) -> Tensor:
    """Return ||q/|q| - words of x||^2 between queries and stored codes, by table: the asymmetric distance.

    Args:
        queries: q, float[nq, K], of any length; they are not quantised.
        codes: uint8[nb, M].
        codebooks: float[M, 256, K / M].

    Returns:
        float32[nq, nb], at least 0.

    Source: Jégou et al., Product quantization for nearest neighbor search, PAMI 2011.
    """
    distances = torch.zeros(len(queries), len(codes), device=queries.device)
    for part, words, code in zip(_parts(queries, len(codebooks)), codebooks, codes.T, strict=True):
        table = (part[:, None] - words).square().sum(dim=2)
        distances += table[:, code.long()]
    return distances


@torch.no_grad()
def fit_codebooks(features: Tensor, *, rounds: int = ROUNDS) -> Tensor:
    """Fit codebooks to vectors by k-means in each part, started from vectors at even steps.

    Args:
        features: float[n, K], n >= 1, K a multiple of 8. At most 64 * 256 of them are used, at even steps.
        rounds: of k-means. A word that is nearest to nothing stays where it is.

    Returns:
        float[K / 8, 256, 8].
    """
    sample = features[_even_steps(len(features), min(len(features), SAMPLE))]
    return torch.stack([_fit_words(part, rounds) for part in _parts(sample, features.shape[1] // PART)])


def _fit_words(points: Tensor, rounds: int) -> Tensor:
    """Fit float[256, PART] to float[n, PART]."""
    words = points[_even_steps(len(points), WORDS)]
    for _ in range(rounds):
        nearest = _nearest(points, words)
        counts = nearest.bincount(minlength=WORDS)[:, None]
        sums = torch.zeros_like(words).index_add_(0, nearest, points)
        words = torch.where(counts > 0, sums / counts.clamp_min(1), words)
    return words


def _nearest(points: Tensor, words: Tensor) -> Tensor:
    """Return int64[n], the word nearest to each point: argmin |w|^2 - 2 <p, w>."""
    return torch.addmm(words.square().sum(dim=1), points, words.T, alpha=-2).argmin(dim=1)


def _parts(features: Tensor, count: int) -> Tensor:
    """Cut vectors of length 1 into parts: float[n, K] to float[count, n, K / count]."""
    return F.normalize(features, dim=1, eps=EPSILON).reshape(len(features), count, -1).transpose(0, 1)


def _even_steps(total: int, count: int) -> Tensor:
    """Return int64[count], rows 0..total-1 at even steps, with repeats where there are fewer rows."""
    return torch.arange(count) * total // count
