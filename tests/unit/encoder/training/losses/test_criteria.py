import math
import subprocess
import sys
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from encoder.errors import HashgrainError, Reason
from encoder.training.losses.classcodes import csq, dpn, orthohash
from encoder.training.losses.criteria import ClassCodes, Dpsh, Dqn, make_criterion
from encoder.training.losses.distillation import gram_distillation
from encoder.training.losses.dqn import WORDS, dqn, fit_codebooks, lookup_distances, quantise, reconstruct
from encoder.training.losses.greedyhash import greedyhash
from encoder.training.losses.names import LossKind
from encoder.training.losses.pairwise import balance, contrastive, dhn, dpsh, dtsh, hashnet
from encoder.training.losses.quantisation import gaps, signs, straight_through
from encoder.training.losses.views import contrastive_views, shared_variation

CLASSES, BITS = 4, 16
WITH_LABELS = [kind for kind in LossKind if kind is not LossKind.CONTRASTIVE_VIEWS]
SOME = np.random.default_rng(1)
CODES = SOME.choice([-1.0, 1.0], (CLASSES, BITS))
WEIGHT = SOME.standard_normal((CLASSES, BITS))
MEMORY, MEMORY_LABELS = SOME.standard_normal((5, BITS)), SOME.integers(0, CLASSES, 5)
CODEBOOKS = SOME.standard_normal((BITS // 8, WORDS, 8)) / math.sqrt(BITS)
TEACHER = SOME.standard_normal((9, 24))


# Slow, obvious answers: one pair, one triplet or one image at a time, in float64.


def of(u, labels):
    """Yield each pair of distinct images once, with whether they are of one class."""
    return [(u[i], u[j], labels[i] == labels[j]) for i in range(len(u)) for j in range(i + 1, len(u))]


def sgn(u):
    return np.where(u >= 0, 1.0, -1.0)


def nll(theta, s):
    """Minus the log-probability of s, sigmoid(theta) being that of s = 1."""
    return np.logaddexp(0, theta) - s * theta


def entropy(scores, label):
    return np.logaddexp.reduce(scores) - scores[label]


def cosine(a, b):
    return a @ b / np.sqrt((a @ a) * (b @ b))


def mean_or_zero(values):
    return np.mean(values) if len(values) else 0.0


def slow_contrastive(u, labels, alpha=0.01, margin=2 * BITS):
    def pair(a, b, same):
        d = np.sum((a - b) ** 2)
        gap = np.abs(np.abs(a) - 1).sum() + np.abs(np.abs(b) - 1).sum()
        return (d if same else max(margin - d, 0)) / 2 + alpha * gap

    return np.mean([pair(*each) for each in of(u, labels)])


def slow_balanced(u, labels):
    kinds = [
        [
            max(2 * BITS - d, 0) / 2 if not wanted else d / 2
            for a, b, same in of(u, labels)
            if same == wanted
            for d in [np.sum((a - b) ** 2)]
        ]
        for wanted in (True, False)
    ]
    return sum(np.mean(kind) for kind in kinds if kind)


def slow_dpsh(u, labels):
    pairs = [
        nll(a @ v / 2, y == z)
        for a, y in zip(u, labels, strict=True)
        for v, z in zip(MEMORY, MEMORY_LABELS, strict=True)
    ]
    return np.mean(pairs) + 0.1 * np.mean((u - sgn(u)) ** 2)


def slow_dhn(u, labels):
    gap = np.abs(u) - 1
    return np.mean([nll(a @ b / 2, s) for a, b, s in of(u, labels)]) + 0.1 * np.mean(
        np.logaddexp(gap, -gap) - np.log(2)
    )


def slow_hashnet(u, labels):
    """Weights |S|/|S1| and |S|/|S0| in a mean over S: the means of the two kinds of pairs, added."""
    kinds = [
        [nll(10 / BITS * (a @ b), s) for a, b, s in of(np.tanh(1.7 * u), labels) if s == wanted]
        for wanted in (True, False)
    ]
    return sum(np.mean(kind) for kind in kinds if kind)


def slow_dtsh(u, labels):
    n = range(len(u))
    leads = [
        (u[q] @ u[p] - u[q] @ u[other]) / 2 - BITS / 2
        for q in n for p in n for other in n
        if q != p and labels[q] == labels[p] and labels[q] != labels[other]
    ]  # fmt: skip
    return mean_or_zero([np.logaddexp(0, -lead) for lead in leads]) + np.mean((u - sgn(u)) ** 2)


def slow_greedyhash(u, labels):
    scores = [entropy(WEIGHT @ sgn(a), y) for a, y in zip(u, labels, strict=True)]
    return np.mean(scores) + 0.1 * np.mean(np.abs(np.abs(u) - 1) ** 3)


def slow_csq(u, labels):
    """(1 + tanh u) / 2 = e^u / (e^u + e^-u), whose logarithm stays exact where the quotient does not."""
    yes, no = u - np.logaddexp(u, -u), -u - np.logaddexp(u, -u)
    return -np.mean(np.where(CODES[labels] == 1, yes, no)) + 1e-4 * np.mean((np.abs(np.tanh(u)) - 1) ** 2)


def slow_dpn(u, labels):
    return np.mean(
        [sum(max(1 - a * t, 0) for a, t in zip(row, CODES[y], strict=True)) for row, y in zip(u, labels, strict=True)]
    )


def slow_orthohash(u, labels, smoothing=0.0):
    def image(a, y):
        scores = np.array([8 * (cosine(a, CODES[c]) - 0.2 * (c == y)) for c in range(CLASSES)])
        return (1 - smoothing) * entropy(scores, y) + smoothing * np.mean([entropy(scores, c) for c in range(CLASSES)])

    return np.mean([image(a, y) for a, y in zip(u, labels, strict=True)])


def slow_words(u):
    """Replace each eighth of a unit vector by its nearest word."""
    unit = u / np.linalg.norm(u)
    parts = unit.reshape(len(CODEBOOKS), -1)
    return np.concatenate(
        [min(words, key=lambda word: np.sum((word - part) ** 2)) for part, words in zip(parts, CODEBOOKS, strict=True)]
    )


def slow_dqn(u, labels):
    pairs = np.mean([((1 if s else -1) - cosine(a, b)) ** 2 for a, b, s in of(u, labels)])
    return pairs + 0.1 * np.mean([np.sum((a / np.linalg.norm(a) - slow_words(a)) ** 2) for a in u])


def slow_views(u, labels):
    """The other view of an image is itself with its logits in reverse."""
    bits, count, found = sgn(np.concatenate([u, u[:, ::-1]])), len(u), []
    for i, b in enumerate(bits):
        others = [j for j in range(2 * count) if j != i]
        scores = np.array([b @ bits[j] / BITS / 0.1 for j in others])
        found.append(entropy(scores, others.index((i + count) % (2 * count))))
    return np.mean(found) + 0.3 * slow_shared_variation(np.concatenate([u, u[:, ::-1]]))


def slow_shared_variation(u):
    r = [[np.mean((a - a.mean()) * (b - b.mean())) / a.std() / b.std() for b in u.T] for a in u.T]
    return (np.square(r).sum() - np.square(np.diag(r)).sum()) / u.shape[1]


def slow_gram(u, labels):
    def rows(v):
        return np.array([row / np.linalg.norm(row) for row in v @ v.T])

    return np.sum((rows(u) - rows(TEACHER[: len(u)])) ** 2) / len(u) ** 2


def like(values, u):
    return torch.as_tensor(values).to(u.dtype)


def same(labels):
    return labels[:, None] == labels


LOSSES: dict[str, tuple[Callable[..., torch.Tensor], Callable[..., float]]] = {
    "contrastive": (lambda u, y: contrastive(u, same(y)), slow_contrastive),
    "contrastive-plain": (
        lambda u, y: 2 * contrastive(u, same(y), margin=3, quantisation=0),
        lambda u, y: 2 * slow_contrastive(u, y, alpha=0, margin=3),
    ),
    "contrastive-balanced": (lambda u, y: contrastive(u, same(y), quantisation=0, balanced=True), slow_balanced),
    "dpsh": (lambda u, y: dpsh(u, like(MEMORY, u), y[:, None] == torch.from_numpy(MEMORY_LABELS)), slow_dpsh),
    "dhn": (lambda u, y: dhn(u, same(y)), slow_dhn),
    "hashnet": (lambda u, y: hashnet(u, same(y), beta=1.7), slow_hashnet),
    "dtsh": (dtsh, slow_dtsh),
    "greedyhash": (lambda u, y: greedyhash(u, y, like(WEIGHT, u)), slow_greedyhash),
    "csq": (lambda u, y: csq(u, like(CODES, u)[y]), slow_csq),
    "dpn": (lambda u, y: dpn(u, like(CODES, u)[y]), slow_dpn),
    "orthohash": (lambda u, y: orthohash(u, y, like(CODES, u)), slow_orthohash),
    "orthohash-smooth": (
        lambda u, y: orthohash(u, y, like(CODES, u), smoothing=0.15),
        partial(slow_orthohash, smoothing=0.15),
    ),
    "dqn": (lambda u, y: dqn(u, same(y), like(CODEBOOKS, u)), slow_dqn),
    "views": (lambda u, y: contrastive_views(u, u.flip(1)), slow_views),
    "gram": (lambda u, y: gram_distillation(u, like(TEACHER[: len(u)], u)), slow_gram),
}
THROUGH_THE_THRESHOLD = ("greedyhash", "views")


@pytest.fixture(autouse=True)
def one_thread():
    """So small tensors wait longer for a second thread than it computes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


names = pytest.mark.parametrize("name", LOSSES)


@st.composite
def batches(draw):
    """Logits small, usual or long, with labels that are mixed, all one class, or all different as far as they can be."""
    n = draw(st.integers(2, 7))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = draw(st.sampled_from([rng.integers(0, CLASSES, n), np.full(n, 2), np.arange(n) % CLASSES]))
    return rng.standard_normal((n, BITS)) * draw(st.sampled_from([0.01, 1, 4])), labels


@names
@settings(max_examples=25)
@given(batch=batches())
def test_a_loss_is_its_formula(name, batch):
    function, slow = LOSSES[name]
    logits, labels = batch
    expected = slow(logits, labels)
    assert np.isclose(function(torch.from_numpy(logits), torch.from_numpy(labels)).item(), expected, rtol=1e-7)
    rough = function(torch.from_numpy(logits).float(), torch.from_numpy(labels))
    assert rough.dtype == torch.float32
    assert np.isclose(rough.item(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in THROUGH_THE_THRESHOLD])
@pytest.mark.parametrize("labels", [[0, 1, 0, 2, 1], [3, 3, 3, 3, 3], [0, 1, 2, 3, 0]], ids=["mixed", "one", "others"])
def test_a_gradient_is_that_of_the_formula(name, labels, rng):
    logits = torch.from_numpy(rng.standard_normal((5, BITS))).requires_grad_()
    assert torch.autograd.gradcheck(lambda u: LOSSES[name][0](u, torch.tensor(labels)), (logits,))


def real_greedyhash(u, labels):
    return torch.nn.functional.cross_entropy(u @ like(WEIGHT, u).T, labels)


def real_views(u, labels):
    """NT-Xent of real vectors, one anchor at a time."""
    views, count, total = torch.cat([u, u.flip(1)]), len(u), torch.zeros((), dtype=u.dtype)
    for i in range(2 * count):
        others = [j for j in range(2 * count) if j != i]
        scores = torch.stack([views[i] @ views[j] / BITS / 0.1 for j in others])
        total = total - torch.log_softmax(scores, 0)[others.index((i + count) % (2 * count))] / (2 * count)
    return total


@pytest.mark.parametrize(
    ("function", "real"),
    [
        (lambda u, y: greedyhash(u, y, like(WEIGHT, u), quantisation=0), real_greedyhash),
        (lambda u, y: contrastive_views(u, u.flip(1), decorrelation=0), real_views),
    ],
    ids=THROUGH_THE_THRESHOLD,
)
def test_the_gradient_at_the_bits_reaches_the_logits_unchanged(function, real, rng):
    labels = torch.tensor([0, 1, 0, 2])
    logits = torch.from_numpy(rng.standard_normal((4, BITS))).requires_grad_()
    bits = signs(logits).requires_grad_()
    (found,) = torch.autograd.grad(function(logits, labels), logits)
    (expected,) = torch.autograd.grad(real(bits, labels), bits)
    assert torch.allclose(found, expected)
    assert expected.abs().max() > 1e-3


ODD_LABELS = {
    "none-similar": [0, 1, 2, 3],
    "all-similar": [1, 1, 1, 1],
    "two": [0, 0],
    "two-apart": [0, 1],
    "alone": [3],
}


@names
@pytest.mark.parametrize("labels", ODD_LABELS.values(), ids=ODD_LABELS)
@pytest.mark.parametrize("size", [0.0, 1e-20, 1e-3, 1.0, 1e4])
def test_loss_and_gradient_stay_finite(name, labels, size):
    signed = torch.where(torch.rand(len(labels), BITS, generator=torch.Generator().manual_seed(3)) > 0.5, size, -size)
    for logits in (signed, signed[:1].repeat(len(labels), 1)):  # the second: images that coincide
        u = logits.clone().requires_grad_()
        loss = LOSSES[name][0](u, torch.tensor(labels))
        loss.backward()
        assert loss.shape == ()
        assert loss.isfinite()
        assert u.grad is not None
        assert u.grad.isfinite().all()


def test_shared_variation_counts_what_logits_repeat(rng):
    own = torch.from_numpy(np.linalg.qr(rng.standard_normal((40, 5)) - 0.5)[0])
    own = torch.linalg.qr(own - own.mean(dim=0))[0]
    assert shared_variation(own).item() == pytest.approx(0, abs=1e-12)
    repeated = torch.cat([own, 7 - 3 * own], dim=1)  # each logit has one other that says the same
    assert shared_variation(repeated).item() == pytest.approx(1)
    assert shared_variation(torch.cat([own, torch.ones(40, 5)], dim=1)).item() == pytest.approx(0, abs=1e-12)
    assert torch.autograd.gradcheck(shared_variation, (torch.from_numpy(rng.standard_normal((6, 4))).requires_grad_(),))


def test_a_bit_is_one_from_zero_upward_and_straight_through_is_exact():
    logits = torch.tensor([-0.0, 0.0, 1e-45, -1e-45, 3e38, -3e38, 0.1], requires_grad=True)
    bits = straight_through(logits)
    assert bits.tolist() == signs(logits).tolist() == [1, 1, 1, -1, 1, -1, 1]
    factors = torch.arange(7.0)
    (gradient,) = torch.autograd.grad((bits * factors).sum(), logits)
    assert torch.equal(gradient, factors)


def test_a_logit_of_zero_is_pulled_to_the_side_its_bit_is_on():
    logits = torch.zeros(1, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(gaps(logits).square().sum(), logits)
    assert torch.all(gradient < 0)


@given(st.lists(st.booleans(), min_size=2, max_size=40))
def test_balance_gives_either_kind_of_pair_half_the_weight(alike):
    weights = balance(torch.tensor(alike)).numpy()
    assert np.isclose(weights.sum(), len(alike) * len(set(alike)))
    kinds = {kind: weights[np.array(alike) == kind].sum() for kind in set(alike)}
    assert np.allclose(list(kinds.values()), len(alike))


def test_the_teacher_learns_nothing_from_the_student(rng):
    student, teacher = (torch.from_numpy(rng.standard_normal((4, k))).requires_grad_() for k in (8, 16))
    gram_distillation(student, teacher).backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert gram_distillation(teacher, 3 * teacher) < 1e-12 < gram_distillation(student, teacher)


# Product quantisation


@pytest.fixture
def clustered(rng):
    """Unit vectors around 300 centres, more than a codebook has words."""
    centres = rng.standard_normal((300, BITS))
    return torch.from_numpy(np.repeat(centres, 4, 0) + 0.1 * rng.standard_normal((1200, BITS))).float()


def test_quantising_takes_the_nearest_word_of_each_part(rng):
    features = rng.standard_normal((20, BITS)).astype(np.float32)
    codes = quantise(torch.from_numpy(features), torch.from_numpy(CODEBOOKS).float())
    assert codes.dtype == torch.uint8
    assert codes.shape == (20, BITS // 8)
    found = reconstruct(codes, torch.from_numpy(CODEBOOKS))
    assert np.allclose(found, [slow_words(row) for row in features.astype(np.float64)])


def test_distances_by_table_are_distances_to_the_words(rng):
    queries, stored = (torch.from_numpy(rng.standard_normal((n, BITS))).float() for n in (3, 11))
    codebooks = torch.from_numpy(CODEBOOKS).float()
    codes = quantise(stored, codebooks)
    distances = lookup_distances(queries, codes, codebooks)
    assert distances.dtype == torch.float32
    for q, row in zip(queries.double().numpy(), distances, strict=True):
        assert np.allclose(
            row, [np.sum((q / np.linalg.norm(q) - slow_words(x)) ** 2) for x in stored.double().numpy()], atol=1e-6
        )
    assert torch.equal(lookup_distances(9 * queries, codes, codebooks).argsort(), distances.argsort())


def test_more_rounds_of_k_means_never_quantise_worse(clustered):
    units = torch.nn.functional.normalize(clustered)

    def error(rounds):
        codebooks = fit_codebooks(clustered, rounds=rounds)
        return (units - reconstruct(quantise(clustered, codebooks), codebooks)).square().sum(1).mean().item()

    errors = [error(rounds) for rounds in range(6)]
    assert (np.diff(errors) <= 1e-7).all()
    assert errors[-1] < 0.9 * errors[0]


@pytest.mark.parametrize("count", [1, 5, WORDS])
def test_so_few_vectors_that_each_is_a_word_are_stored_exactly(count, rng):
    features = torch.from_numpy(rng.standard_normal((count, BITS))).float()
    codebooks = fit_codebooks(features)
    assert codebooks.shape == (BITS // 8, WORDS, 8)
    units = torch.nn.functional.normalize(features)
    assert torch.allclose(reconstruct(quantise(features, codebooks), codebooks), units, atol=1e-6)
    for words, parts in zip(codebooks, units.reshape(count, -1, 8).swapaxes(0, 1), strict=True):
        assert torch.all(torch.cdist(words, parts).amin(1) < 1e-3)  # a word nearest to nothing stays where it was


# What the trainer uses


def criterion_of(kind, items=64):
    torch.manual_seed(5)
    return make_criterion(kind, torch.from_numpy(CODES).float(), items)


@pytest.fixture
def batch(rng):
    logits = torch.from_numpy(rng.standard_normal((12, BITS))).float()
    return logits, torch.from_numpy(rng.integers(0, CLASSES, 12)), torch.from_numpy(rng.permutation(64)[:12])


def with_paper_s_constants(kind, criterion, u, y, rows):
    if kind is LossKind.DPSH:
        memory, known = torch.zeros(64, BITS), torch.full((64,), -1)
        memory[rows], known[rows] = u, y
        return dpsh(u, memory, y[:, None] == known, eta=0.1)
    return {
        LossKind.CONTRASTIVE: lambda: contrastive(torch.tanh(u), same(y), margin=2 * BITS, quantisation=0),
        LossKind.DSH: lambda: contrastive(u, same(y), margin=2 * BITS, quantisation=0.01),
        LossKind.DHN: lambda: dhn(u, same(y), quantisation=0.1),
        LossKind.HASHNET: lambda: hashnet(u, same(y), beta=2.0, scale=10 / BITS),
        LossKind.DTSH: lambda: dtsh(u, y, margin=BITS / 2),
        LossKind.GREEDYHASH: lambda: greedyhash(u, y, next(criterion.parameters()), quantisation=0.1),
        LossKind.CSQ: lambda: csq(u, like(CODES, u)[y], quantisation=1e-4),
        LossKind.DPN: lambda: dpn(u, like(CODES, u)[y]),
        LossKind.ORTHOHASH: lambda: orthohash(u, y, like(CODES, u), scale=8, margin=0.2),
        LossKind.DQN: lambda: dqn(u, same(y), torch.zeros(BITS // 8, WORDS, 8)),
    }[kind]()


@pytest.mark.parametrize("kind", WITH_LABELS)
def test_a_criterion_is_its_loss_with_the_constants_of_its_source(kind, batch):
    """Half way, HashNet is at epoch 75 of 150: its tanh is sharpened by sqrt(1 + 3)."""
    criterion = criterion_of(kind)
    assert torch.allclose(criterion(*batch, 0.5), with_paper_s_constants(kind, criterion, *batch))


@pytest.mark.parametrize("progress", [0.0, 0.13, 0.14, 0.999, 1.0])
def test_hashnet_sharpens_in_the_steps_of_its_paper(progress, batch):
    logits, labels, _ = batch
    beta = math.sqrt(1 + int(150 * progress) // 20)
    assert torch.allclose(criterion_of(LossKind.HASHNET)(*batch, progress), hashnet(logits, same(labels), beta=beta))


def test_options_of_a_loss_are_bound_by_hand(batch):
    logits, labels, _ = batch
    codes = torch.from_numpy(CODES).float()
    criterion = ClassCodes(partial(orthohash, smoothing=0.1), codes)
    assert torch.equal(criterion(*batch, 0.0), orthohash(logits, labels, codes, smoothing=0.1))


def test_views_have_no_criterion():
    with pytest.raises(HashgrainError, match="contrastive-views") as caught:
        criterion_of(LossKind.CONTRASTIVE_VIEWS)
    assert caught.value.reason is Reason.BAD_VALUE


def test_names_of_losses_load_no_torch():
    subprocess.run(
        [sys.executable, "-c", "import sys, encoder.training.losses.names; sys.exit('torch' in sys.modules)"],
        check=True,
    )


@pytest.mark.parametrize("kind", WITH_LABELS)
def test_autocast_around_a_loss_changes_nothing(kind, batch):
    plain = criterion_of(kind)(*batch, 0.3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = criterion_of(kind)(*batch, 0.3)
        views = contrastive_views(batch[0], batch[0].roll(1, 0))
    assert torch.equal(plain, mixed)
    assert torch.equal(views, contrastive_views(batch[0], batch[0].roll(1, 0)))


@pytest.mark.parametrize("kind", WITH_LABELS)
def test_a_criterion_goes_on_from_its_saved_state(kind, batch):
    logits, labels, rows = batch
    first, second = criterion_of(kind, 24), make_criterion(kind, torch.ones(CLASSES, BITS), 24)
    rows = torch.arange(12)
    first(logits, labels, rows, 0.0)
    first(-logits, labels, rows + 12, 0.5)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(2 * logits, labels, rows, 0.7), second(2 * logits, labels, rows, 0.7))


@pytest.mark.parametrize("kind", [LossKind.DPSH, LossKind.DQN])
def test_what_is_held_out_is_not_remembered(kind, batch):
    criterion = criterion_of(kind).eval()
    before = {name: value.clone() for name, value in criterion.state_dict().items()}
    criterion(*batch, 0.5)
    assert all(torch.equal(before[name], value) for name, value in criterion.state_dict().items())


def test_an_item_not_seen_yet_gives_no_gradient(batch):
    logits, labels, rows = batch

    def gradient(items):
        u = logits.clone().requires_grad_()
        pairs = Dpsh(BITS, items)(u, labels, rows, 0.0) - 0.1 * gaps(u).square().mean()
        return torch.autograd.grad(pairs, u)[0]

    assert torch.allclose(64 * gradient(64), 128 * gradient(128), atol=1e-6)


def test_a_memory_holds_the_last_logits_of_each_item(batch):
    logits, labels, rows = batch
    criterion = Dpsh(BITS, 64)
    criterion(logits, labels, rows, 0.0)
    criterion(logits[:4] + 1, labels[:4], rows[:4], 0.1)
    assert torch.equal(criterion.memory[rows[4:]], logits[4:])
    assert torch.equal(criterion.memory[rows[:4]], logits[:4] + 1)
    assert (criterion.labels == -1).sum() == 64 - 12


def test_codebooks_are_refitted_when_every_item_has_gone_by(batch):
    logits, labels, _ = batch
    criterion = Dqn(BITS, 24)
    criterion(logits, labels, torch.arange(12), 0.0)
    assert not criterion.codebooks.any()
    criterion(-logits, labels, torch.arange(12, 24), 0.1)
    assert torch.equal(criterion.codebooks, fit_codebooks(torch.cat([logits, -logits])))
    fitted = criterion.codebooks.clone()
    criterion(2 + logits, labels, torch.arange(12), 0.2)
    assert torch.equal(criterion.codebooks, fitted)


# End to end: a linear hash layer has to find four dimensions of signal among twelve of louder noise


def things(count, rng):
    labels = np.arange(count) % CLASSES
    signal = 2.0 * np.eye(CLASSES)[labels] + 0.2 * rng.standard_normal((count, CLASSES))
    return np.hstack([signal, 3 * rng.standard_normal((count, 12))]).astype(np.float32), labels


def ordered(distances, labels):
    """How often something of one's class is nearer than something of another; ties count half, so chance is 0.5."""
    wins = []
    for row, (distance, label) in enumerate(zip(distances, labels, strict=True)):
        mine, others = labels == label, labels != label
        mine[row] = False
        wins.append(
            np.mean((distance[mine][:, None] < distance[others]) + 0.5 * (distance[mine][:, None] == distance[others]))
        )
    return np.mean(wins)


def distances_of(logits, criterion):
    if isinstance(criterion, Dqn):
        codebooks = fit_codebooks(logits)
        return lookup_distances(logits, quantise(logits, codebooks), codebooks).numpy()
    bits = (logits >= 0).numpy()
    return (bits[:, None] != bits).sum(2)


@pytest.mark.parametrize("kind", WITH_LABELS)
def test_training_brings_unseen_images_of_a_class_together(kind, rng):
    criterion = criterion_of(kind, items=96)
    layer = torch.nn.Linear(16, BITS)
    (train, labels), (unseen, unseen_labels) = things(96, rng), things(48, rng)
    optimiser = torch.optim.Adam([*layer.parameters(), *criterion.parameters()], lr=0.02)

    def score():
        with torch.no_grad():
            return ordered(distances_of(layer(torch.from_numpy(unseen)), criterion), unseen_labels)

    untrained = score()
    steps = 160
    for step in range(steps):
        rows = torch.from_numpy(rng.permutation(96)[:32])
        loss = criterion(layer(torch.from_numpy(train)[rows]), torch.from_numpy(labels)[rows], rows, step / steps)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert untrained < 0.7
    assert score() > 0.95


def test_training_on_views_brings_those_of_one_image_together(rng):
    torch.manual_seed(5)
    layer = torch.nn.Linear(32, BITS)
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.02)

    def views(count):
        """Two views share eight dimensions; the other 24, louder, are drawn for each."""
        shared = rng.standard_normal((count, 8))
        pair = [
            np.hstack([shared + 0.1 * rng.standard_normal((count, 8)), 2 * rng.standard_normal((count, 24))])
            for _ in range(2)
        ]
        return [torch.from_numpy(view).float() for view in pair]

    unseen = torch.cat(views(40))

    def score():
        with torch.no_grad():
            return ordered(distances_of(layer(unseen), None), np.arange(80) % 40)

    untrained = score()
    for _ in range(150):
        loss = contrastive_views(*(layer(view) for view in views(48)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert untrained < 0.7
    assert score() > 0.95
