"""Scores of rankings with ties, and the counts they are made from.

A code of 64 bits knows 65 distances, so most items of a database are tied with many others, and the order a sort happens
to leave them in moves a mean average precision by percents. Nothing here sorts items: a ranking is kept as the number of
items of each relevance grade at each distance level, and every score is its expectation over all orders of tied items,
in closed form. Scores are per query; a query with nothing to find scores 0, `answerable` tells which those are, and who
takes a mean says how many it left out.

In the formulas n_d items, r_d of them relevant, stand at level d, and N_d, R_d at the levels before it.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from encoder.evaluation.counts import Counts, Integers, Scores, blocks, stream

Flags: TypeAlias = npt.NDArray[np.bool_]
Normaliser: TypeAlias = Literal["min", "all", "found"]
"""What the precisions at relevant items are divided by: min(R, relevant), relevant, or relevant found in the top R."""


def answerable(counts: Counts, *, relevant: int = 1) -> Flags:
    """Return bool[nq]: whether there is anything of grade `relevant` or more to find. Only these belong in a mean."""
    found: Flags = _hits(counts, relevant).sum(axis=1) > 0
    return found


def average_precision(
    counts: Counts, at: int | None = None, normaliser: Normaliser = "min", *, relevant: int = 1
) -> Scores:
    """Return AP@R, the precision at each relevant item of the top R, summed and normalised.

    The sum's expectation is sum_d (r_d / n_d) sum_t [R_d + 1 + (t - 1) (r_d - 1) / (n_d - 1)] / (N_d + t) over the ranks
    t = 1..n_d of each level with N_d + t <= R. For "found", numerator and normaliser hang together in the level that R
    cuts: there it is the exact mean over the (hypergeometric) number of relevant items that fall above the cut.

    Args:
        counts: see `Counts`.
        at: R; None for the whole ranking.
        normaliser: "min" for min(R, relevant), "all" for all relevant, "found" for those in the top R. "found" gives 1
            to a single hit at rank 1; it is here because much published code uses it, for comparison only.
        relevant: the lowest grade that counts as relevant.

    Source: McSherry and Najork, Computing information retrieval performance measures efficiently in the presence of tied
    scores, ECIR 2008; He et al., Hashing as tie-aware learning to rank, CVPR 2018. The mean for "found" is our own.
    """
    hits = _hits(counts, relevant)
    ties = _Ties.of(counts, hits, hits)
    at = _whole(counts) if at is None else at
    if normaliser == "found":
        return _mean_of_found(ties, at)
    return _over(ties.precisions(ties.within(at), ties.size, hits).sum(axis=1), _findable(hits, at, normaliser))


def precision_at(counts: Counts, k: int, *, relevant: int = 1) -> Scores:
    """Return the relevant share of the top k: [R_d + r_d (k - N_d) / n_d] / k, d the level that holds rank k.

    Divides by k also when there are fewer items. Source: McSherry and Najork, ECIR 2008.
    """
    return _worth_within(counts, _steps(counts, relevant), k) / k


def recall_at(counts: Counts, k: int, *, relevant: int = 1) -> Scores:
    """Return the share of the relevant items that is in the top k: precision@k * k / relevant."""
    return _over(_worth_within(counts, _steps(counts, relevant), k), _hits(counts, relevant).sum(axis=1))


def precision_within(counts: Counts, radius: int, *, relevant: int = 1) -> Scores:
    """Return the relevant share of the items at distance <= radius; 0 where there are none (`empty_balls`)."""
    ball = counts[:, :, : radius + 1].sum(axis=2)
    return _over(ball[relevant:].sum(axis=0), ball.sum(axis=0))


def empty_balls(counts: Counts, radius: int) -> Flags:
    """Return bool[nq]: whether no item at all is at distance <= radius. State its mean beside `precision_within`'s."""
    empty: Flags = counts[:, :, : radius + 1].sum(axis=(0, 2)) == 0
    return empty


def precision_recall(counts: Counts, *, relevant: int = 1) -> tuple[Scores, Scores]:
    """Return precision and recall within every radius, float64[nlevels] each, as means over answerable queries.

    One point per radius and nothing in between: inside a tie there is no order to cut. An empty ball has precision 0.
    """
    answered = counts[:, answerable(counts, relevant=relevant)]
    hits = _hits(answered, relevant).cumsum(axis=1)
    precision = _over(hits, answered.sum(axis=0).cumsum(axis=1))
    recall = _over(hits, hits[:, -1:])
    nqueries = max(1, len(hits))
    return precision.sum(axis=0) / nqueries, recall.sum(axis=0) / nqueries


def ndcg_at(counts: Counts, k: int) -> Scores:
    """Return NDCG@k with gain 2^grade - 1 and discount 1 / log2(1 + rank), over the DCG@k of the best ranking.

    Expected: sum_d (mean gain of level d) * (sum of the discounts of its ranks up to k). Source: Järvelin and
    Kekäläinen, Cumulated gain-based evaluation of IR techniques, TOIS 2002; ties as in McSherry and Najork, ECIR 2008.
    """
    return _over(_dcg(counts, k), _dcg(_best(counts), k))


def acg_at(counts: Counts, p: int) -> Scores:
    """Return ACG@p, the mean grade of the top p, 0..ngrades - 1. Divides by p also when there are fewer items.

    Source: Järvelin and Kekäläinen, IR evaluation methods for retrieving highly relevant documents, SIGIR 2000.
    """
    return _worth_within(counts, np.arange(len(counts)), p) / p


def wap_at(counts: Counts, p: int) -> Scores:
    """Return WAP@p: the mean of ACG@i over the ranks i <= p that hold an item of grade >= 1; 0 if none does.

    It is average precision with grades for hits, 0..ngrades - 1, normalised by what was found; the expectation is exact
    as there: given its number of hits, each of a level's hits is worth the level's mean grade of hits.

    Source: Zhao et al., Deep semantic ranking based hashing for multi-label image retrieval, CVPR 2015.
    """
    return _mean_of_found(_Ties.of(counts, _hits(counts, 1), _worth(counts, np.arange(len(counts)))), p)


def mahp_at(counts: Counts, at: int) -> Scores:
    """Return the mean of HP@1..HP@R, R at most the number of items; its mean over queries is mAHP@R.

    HP@k is the similarity of the top k, summed, over that of the best ranking; similarity = grade / (ngrades - 1), that is 1 -
    height of the lowest common ancestor / height of the tree, for a tree of the label columns. Source: Deng et al., Hierarchical
    semantic indexing for large scale image retrieval, CVPR 2011.

    Source: Barz and Denzler, Hierarchy-based image embeddings for semantic image retrieval, WACV 2019. Their code takes
    the trapezoids' area over R, which is this minus (HP@1 + HP@R) / 2R, and 1 - 1/R for a perfect ranking.
    """
    return stream(lambda part: counts[:, part], lambda some: _mean_hp(some, at), blocks(counts.shape[1], at))


@dataclass(frozen=True, slots=True)
class _Ties:
    """What the precision at each hit needs to know of a level: int64[nq, nlevels] each, or one level of each query."""

    size: Integers
    before: Integers
    hits: Integers
    hits_before: Integers
    gain: Integers
    """What the level's hits are worth together."""
    gain_before: Integers

    @classmethod
    def of(cls, counts: Counts, hits: Integers, gain: Integers) -> "_Ties":
        size = counts.sum(axis=0)
        return cls(size, _before(size), hits, _before(hits), gain, _before(gain))

    def within(self, at: int) -> Integers:
        """Return how many ranks of each level are in the top `at`."""
        return np.clip(at - self.before, 0, self.size)

    def pick(self, level: Integers) -> "_Ties":
        """Return one level of each query."""
        every = (self.size, self.before, self.hits, self.hits_before, self.gain, self.gain_before)
        return _Ties(*(_pick(values, level) for values in every))

    def precisions(self, taken: Integers, among: Integers, hits: Integers) -> Scores:
        """Expect, over the first `taken` ranks, the sum of [hit] * (gain up to this rank) / rank.

        `hits` of the level's first `among` ranks hold a hit, in any order; each is worth the level's mean.
        """
        worth = _over(self.gain, self.hits)
        another = worth * _over(np.maximum(hits - 1, 0), among - 1)
        return _over(hits, among) * _ramp(self.before, taken, self.gain_before + worth, another)


def _mean_of_found(ties: _Ties, at: int) -> Scores:
    """Expect the sum of [hit] * (gain up to this rank) / rank over the top `at`, divided by the hits there."""
    taken = ties.within(at)
    whole = taken == ties.size
    above = np.where(whole, ties.precisions(taken, ties.size, ties.hits), 0).sum(axis=1)
    found = np.where(whole, ties.hits, 0).sum(axis=1)
    level = (~whole).argmax(axis=1)
    cut, room = ties.pick(level), np.where(whole.all(axis=1), 0, _pick(taken, level))
    score = np.zeros(len(above))
    for hits in range(int(np.minimum(room, cut.hits).max(initial=0)) + 1):
        chance = _hypergeometric(hits, room, cut.hits, cut.size)
        score += chance * _over(above + cut.precisions(room, room, np.full_like(room, hits)), found + hits)
    return score


def _hypergeometric(drawn_hits: int, drawn: Integers, hits: Integers, size: Integers) -> Scores:
    """Return the chance of `drawn_hits` among `drawn` of `size` items of which `hits` are hits."""
    missed, drawn_missed = size - hits, drawn - drawn_hits
    possible = (drawn_hits <= hits) & (drawn_missed >= 0) & (drawn_missed <= missed)
    logs = np.concatenate([[0.0], np.log(np.arange(1, size.max(initial=0) + 1)).cumsum()])

    def choose(n: Integers, k: Integers | int) -> Scores:
        within = np.clip(k, 0, n)
        ways: Scores = logs[n] - logs[within] - logs[n - within]
        return ways

    chance = np.exp(choose(hits, drawn_hits) + choose(missed, drawn_missed) - choose(size, drawn))
    return np.where(possible, chance, 0)


def _ramp(before: Integers, taken: Integers, start: Scores, step: Scores) -> Scores:
    """Return sum_{t=1..taken} (start + step (t - 1)) / (before + t), from the prefix sums H of 1 / t.

    With a = start - step it is step * taken + (a - step * before) (H(before + taken) - H(before)).
    """
    last = before + taken
    harmonic = np.concatenate([[0.0], (1 / np.arange(1, last.max(initial=0) + 1)).cumsum()])
    total: Scores = step * taken + (start - step - step * before) * (harmonic[last] - harmonic[before])
    return total


def _dcg(counts: Counts, k: int) -> Scores:
    size = counts.sum(axis=0)
    before = _before(size)
    discounts = np.concatenate([[0.0], (1 / np.log2(np.arange(2, _whole(counts) + 2))).cumsum()])
    gain = _over(_worth(counts, 2 ** np.arange(len(counts)) - 1), size)
    total: Scores = (gain * (discounts[np.clip(k, before, before + size)] - discounts[before])).sum(axis=1)
    return total


def _mean_hp(counts: Counts, at: int) -> Scores:
    items = counts.sum(axis=(0, 2))
    similar, most = (_grade_by_rank(some, at).cumsum(axis=1) for some in (counts, _best(counts)))
    ranked = np.arange(1, at + 1) <= items[:, None]
    return _over((_over(similar, most) * ranked).sum(axis=1), np.minimum(at, items))


def _grade_by_rank(counts: Counts, at: int) -> Scores:
    """Return the expected grade at ranks 1..at, float64[nq, at]; 0 after the last item."""
    size = counts.sum(axis=0)
    grade = _over(_worth(counts, np.arange(len(counts))), size)
    taken = np.clip(at - _before(size), 0, size)
    rest = at - taken.sum(axis=1, keepdims=True)
    ranks = np.concatenate([taken, rest], axis=1).ravel()
    return np.repeat(np.pad(grade, ((0, 0), (0, 1))).ravel(), ranks).reshape(len(grade), at)


def _best(counts: Counts) -> Counts:
    """Return the counts of the best ranking: one level a grade, the highest first."""
    ngrades = len(counts)
    best = np.zeros((ngrades, counts.shape[1], ngrades), dtype=np.int64)
    best[np.arange(ngrades), :, np.arange(ngrades)[::-1]] = counts.sum(axis=2)
    return best


def _worth_within(counts: Counts, worth: Integers, k: int) -> Scores:
    """Expect the sum of what the top k are worth, by grade."""
    size = counts.sum(axis=0)
    total: Scores = (_over(_worth(counts, worth), size) * np.clip(k - _before(size), 0, size)).sum(axis=1)
    return total


def _worth(counts: Counts, worth: Integers) -> Integers:
    """Return int64[nq, nlevels], what each level's items are worth together when a grade's item is worth worth[grade]."""
    return np.tensordot(worth, counts, axes=1)


def _steps(counts: Counts, relevant: int) -> Integers:
    """Return what a grade is worth where only relevance counts: 0 or 1."""
    return (np.arange(len(counts)) >= relevant).astype(np.int64)


def _hits(counts: Counts, relevant: int) -> Integers:
    hits: Integers = counts[relevant:].sum(axis=0)
    return hits


def _findable(hits: Integers, at: int, normaliser: Normaliser) -> Integers:
    every: Integers = hits.sum(axis=1)
    return every if normaliser == "all" else np.minimum(at, every)


def _whole(counts: Counts) -> int:
    return int(counts.sum(axis=(0, 2)).max(initial=0))


def _before(values: Integers) -> Integers:
    """Return the sum of the levels before each."""
    return values.cumsum(axis=1) - values


def _pick(values: Integers, level: Integers) -> Integers:
    return np.take_along_axis(values, level[:, None], axis=1)[:, 0]


def _over(part: Scores | Integers, whole: Integers | Scores) -> Scores:
    """Divide, with 0 / 0 = 0: no items, nothing found."""
    return part / np.where(whole == 0, 1, whole)
