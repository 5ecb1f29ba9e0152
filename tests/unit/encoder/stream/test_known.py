import numpy as np

from encoder.bits import Codes
from encoder.images.duplicates import digest_of
from encoder.levels import Level
from encoder.stream.known import KnownCodes


def codes_of(rows: int, seed: int) -> dict[Level, Codes]:
    rng = np.random.default_rng(seed)
    return {level: rng.integers(0, 256, (rows, 8), np.uint8) for level in (Level.FINE, Level.FUSED)}


def test_codes_are_found_by_the_digests_of_images_and_others_are_not(write_codes, tmp_path):
    first, second = codes_of(5, 1), codes_of(7, 2)
    paths = [write_codes("a", first), write_codes("b", second), tmp_path / "gone.h5"]
    known = KnownCodes(paths, {Level.FINE: 64})
    digests = [digest_of(name) for name in (b"b-6", b"nothing", b"a-0", b"a-0", b"b-0")]
    numbers = known.find(digests)
    assert (numbers >= 0).tolist() == [True, False, True, True, True]
    found = known.codes(Level.FINE, numbers[numbers >= 0])
    expected = [second[Level.FINE][6], first[Level.FINE][0], first[Level.FINE][0], second[Level.FINE][0]]
    assert found.tolist() == np.array(expected).tolist()


def test_an_image_with_half_a_digest_in_common_is_another(write_codes):
    known = KnownCodes([write_codes("a", codes_of(3, 1))], {Level.FINE: 64})
    half = digest_of(b"a-1")[:8] + bytes(8)
    assert known.find([half, digest_of(b"a-1")]).tolist() == [-1, 1]


def test_nothing_is_known_without_code_files(write_codes):
    for known in (KnownCodes(), KnownCodes([write_codes("a", codes_of(0, 1))], {Level.FINE: 64})):
        assert known.find([digest_of(b"x")]).tolist() == [-1]
        assert known.find([]).tolist() == []
