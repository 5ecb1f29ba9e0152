import hashlib

import numpy as np
import pytest
import torch

from encoder.bits import binarize, hamming, unpack
from encoder.hashing.names import HashKind
from encoder.images.decoding.decode import decode_square
from encoder.images.expand import expand
from encoder.images.limits import Limits
from encoder.levels import Level
from encoder.model.image_encoder import ImageEncoder
from encoder.model.model_file import load_model
from pipelines.evaluation.baselines import (
    HASHES,
    class_ids,
    hashed,
    learned_from,
    predict_classes,
    random_codes,
    read_images,
    standardise,
)
from pipelines.evaluation.scoring import RADIUS
from tests.support.pictures import encoded, write_tar


def codes_of(ranking):
    assert ranking.values is not None
    assert ranking.values.dtype == np.uint8
    return ranking.values.view(np.uint8)


@pytest.fixture
def clusters(rng):
    """200 features of 5 classes that a plane can tell apart, and their classes; the first 50 rows are test images."""
    classes = rng.integers(0, 5, 200)
    centres = 3 * rng.standard_normal((5, 24))
    features = (centres[classes] + rng.standard_normal((200, 24))).astype(np.float32)
    standardise(features, np.arange(50, 200))
    return features, classes


def test_standardised_features_are_centred_on_the_fitting_rows_and_have_length_one(rng):
    features = rng.standard_normal((100, 8)).astype(np.float32) + 5
    fitting = np.arange(40, 100)
    shifted = features - features[fitting].mean(axis=0)
    standardise(features, fitting)
    assert np.allclose(features, shifted / np.linalg.norm(shifted, axis=1, keepdims=True), atol=1e-5)


def test_a_feature_at_the_mean_stays_finite():
    features = np.array([[1, 1], [0, 0], [2, 2]], np.float32)
    standardise(features, np.arange(3))
    assert features[0].tolist() == [0, 0]


def test_random_codes_come_from_the_seed():
    first, again, other = (codes_of(random_codes(50, 64, seed)) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert abs(unpack(codes_of(random_codes(5000, 64, 0))).mean() - 0.5) < 0.01


@pytest.mark.parametrize("kind", HASHES)
def test_a_hash_baseline_codes_every_row_and_learns_from_the_fitting_rows_alone(clusters, kind):
    features, _ = clusters
    found = hashed(kind, Level.MID, 16, features, np.arange(50, 200), 0)
    assert (found.method, found.level, found.nbits, found.note) == (kind, Level.MID, 16, "")
    assert codes_of(found).shape == (200, 2)
    changed = features.copy()
    changed[:50] = -changed[:50]
    again = hashed(kind, Level.MID, 16, changed, np.arange(50, 200), 0)
    assert np.array_equal(codes_of(found)[50:], codes_of(again)[50:])
    assert not np.array_equal(codes_of(found)[:50], codes_of(again)[:50])


def test_a_hash_baseline_that_cannot_be_fitted_says_why(clusters):
    features, _ = clusters
    found = hashed(HashKind.ITQ, Level.MID, 64, features, np.arange(50, 200), 0)
    assert found.values is None
    assert "64 bits need 64 principal axes" in found.note


def test_the_classifier_learns_what_a_plane_can_tell_apart(clusters):
    features, classes = clusters
    predicted = predict_classes(features, np.arange(50, 200), classes[50:])
    assert np.mean(predicted[:50] == classes[:50]) > 0.95


def test_class_ids_put_the_same_predicted_class_first_and_all_others_behind_the_radius(clusters):
    features, classes = clusters
    fitting = np.flatnonzero((np.arange(200) >= 50) & (classes != 3))  # a class it has not seen gets one that it has
    found = class_ids(Level.FUSED, features, 10 * classes, fitting)
    assert (found.method, found.nbits) == ("class-id", 2)
    distances = hamming(codes_of(found), codes_of(found))
    same = distances == 0
    assert len(np.unique(codes_of(found), axis=0)) == 4
    assert distances[~same].min() > RADIUS
    seen = np.flatnonzero(classes[:50] != 3)
    agree = same[np.ix_(seen, seen)] == (classes[seen, None] == classes[seen])
    assert agree.mean() > 0.95


def test_the_plan_has_a_classifier_the_features_and_every_function_at_every_length(clusters):
    features, classes = clusters
    levels = {Level.MID: features, Level.FUSED: np.concatenate([features, features], axis=1)}
    plan = learned_from(levels, classes, np.arange(50, 200), {Level.MID: [8, 16], Level.FUSED: [24]}, 0)
    made = [(ranking.method, ranking.level, ranking.nbits) for ranking in (make() for make in plan)]
    assert made[0] == ("class-id", Level.FUSED, 3)
    assert [row for row in made if row[0] == "features"] == [
        ("features", Level.MID, None),
        ("features", Level.FUSED, None),
    ]
    for kind in HASHES:
        assert [row[1:] for row in made if row[0] == kind] == [(Level.MID, 8), (Level.MID, 16), (Level.FUSED, 24)]


def test_images_come_in_the_order_of_their_codes_with_what_the_hash_layers_read(model_path, tmp_path):
    members = [("a.jpg", encoded(1)), ("bad.jpg", b"no picture"), ("b.jpg", encoded(2))]
    shards = expand([str(write_tar(tmp_path / "one.tar", members)), str(write_tar(tmp_path / "two.tar", members[:1]))])
    encoder = ImageEncoder(load_model(model_path))
    seen: list[int] = []
    images = read_images(encoder, shards, np.array([1, 2]), tmp_path, seen.append)
    assert images.digests == [hashlib.sha256(encoded(seed)).digest() for seed in (1, 2, 1)]
    assert seen[-1] == 3
    assert np.array_equal(images.pictures, [decode_square(encoded(seed), 64, Limits()) for seed in (2, 1)])
    network = encoder.model.network
    assert {level: values.shape for level, values in images.features.items()} == {
        level: (3, network.dims[level]) for level in Level
    }
    for level, values in images.features.items():
        logits = network.head(level)(torch.from_numpy(np.array(values))).detach().numpy()
        codes = encoder.codes(np.stack([decode_square(encoded(seed), 64, Limits()) for seed in (1, 2, 1)]), [level])
        assert np.mean(unpack(binarize(logits)) == unpack(codes[level])) > 0.99  # another batch rounds otherwise
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.tar", "two.tar"]


def test_no_readable_image_means_no_features(model_path, tmp_path):
    shards = expand([str(write_tar(tmp_path / "bad.tar", [("a.jpg", b"no picture")]))])
    images = read_images(ImageEncoder(load_model(model_path)), shards, np.arange(1), tmp_path, lambda _: None)
    assert (images.digests, images.features) == ([], {})
