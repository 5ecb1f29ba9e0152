import numpy as np
import pytest

import indexer
from encoder.bits import hamming
from encoder.errors import HashgrainError, Reason
from encoder.images.limits import Limits
from encoder.images.region import Region, RegionMode
from encoder.levels import Level
from indexer.service.encoding import Picture, PictureCodes, QueryEncoder
from indexer.service.metrics import Metrics
from tests.support.pictures import encoded


@pytest.fixture(scope="module")
def index(index_folder):
    return indexer.open(index_folder)


@pytest.fixture
def encoder():
    return QueryEncoder(Limits(max_pixels=10_000), Metrics())


def apart(outcome, row, index):
    """Return in how many bits a picture's codes differ from those of a row, at most."""
    return max(
        int(hamming(outcome.codes[level][None], index.codes(level, np.array([row])))[0, 0]) for level in outcome.codes
    )


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_a_picture_has_its_own_code_in_a_batch_of_any_size(encoder, index, count):
    outcomes = encoder.encode([Picture(index, encoded(row)) for row in range(count)])
    assert [outcome.codes.keys() for outcome in outcomes] == [set(Level)] * count
    assert max(apart(outcome, row, index) for row, outcome in enumerate(outcomes)) <= 1


def test_one_that_cannot_be_read_shifts_no_other(encoder, index):
    contents = [encoded(1), b"no picture", encoded(2), encoded(3, "PNG", size=200), encoded(4)]
    outcomes = encoder.encode([Picture(index, content) for content in contents])
    assert [isinstance(outcome, PictureCodes) for outcome in outcomes] == [True, False, True, False, True]
    assert [apart(outcomes[at], row, index) for at, row in ((0, 1), (2, 2), (4, 4))] == [0, 0, 0]
    for at in (1, 3):
        assert isinstance(outcomes[at], HashgrainError)
        assert outcomes[at].reason is Reason.IMAGE_REJECTED


def test_nothing_but_bad_ones_needs_no_network(encoder, index):
    outcomes = encoder.encode([Picture(index, b""), Picture(index, b"GIF89a")])
    assert all(isinstance(outcome, HashgrainError) for outcome in outcomes)


def test_a_region_passes_the_network_apart_from_whole_pictures(index):
    part = Region(0.1, 0.1, 0.5, 0.5)
    whole, region = Picture(index, b""), Picture(index, b"", part, RegionMode.ATTENTION)
    assert whole.group != region.group
    assert region.group == Picture(index, b"", Region(0.3, 0.1, 0.2, 0.2)).group
