"""Chunks and boxes beside the pixels, in whole files and in hostile ones."""

import time

import pytest

from encoder.images.decoding.containers import code_points, is_cut, png_chunk
from tests.support import phone_images
from tests.support.odd_images import chunk, plain, png, saved


def test_a_chunk_counts_only_before_the_pixels():
    data = png(1, 1, 8, 0, b"\0\1", chunk(b"gAMA", b"1234"), chunk(b"cICP", b"\x0c\x0d\0\1"))
    assert png_chunk(data, b"cICP") == b"\x0c\x0d\0\1"
    assert png_chunk(data, b"sBIT") is None
    behind = png(1, 1, 8, 0, b"\0\1")[:-12] + chunk(b"sBIT", b"\x0a")
    assert png_chunk(behind, b"sBIT") is None
    assert png_chunk(data[:20], b"cICP") is png_chunk(b"", b"cICP") is None


def test_code_points_are_those_of_the_file():
    assert code_points(phone_images.HEIF_RED) == (1, 13)
    assert code_points(phone_images.HEIF_RED_P3_NUMBERED) == (12, 13)
    assert code_points(phone_images.HEIF_RED_P3) is None
    assert code_points(saved(plain(), "AVIF")) == (1, 13)


def test_no_code_points_are_found_in_pixels():
    assert code_points(b"\0\0\0\x10ftypavif\0\0\0\0\0\0\0\x18mdatcolrnclx\0\x0c\0\x0d") is None


@pytest.mark.parametrize("whole", [phone_images.HEIF_RED, saved(plain(), "AVIF")])
def test_a_file_is_cut_where_a_box_is_longer_than_it(whole):
    assert not is_cut(whole)
    assert all(is_cut(whole[:end]) for end in range(12, len(whole)))


def test_a_last_box_may_reach_to_the_end_and_have_a_long_size():
    start = b"\0\0\0\x10ftypheic\0\0\0\0"
    assert not is_cut(start + b"\0\0\0\0mdat" + bytes(50))
    assert not is_cut(start + b"\0\0\0\1mdat" + (66).to_bytes(8) + bytes(50))
    assert is_cut(start + b"\0\0\0\1mdat" + (67).to_bytes(8) + bytes(50))


@pytest.mark.parametrize("filler", [bytes(8), b"\0\0\0\x08free", b"\0\0\0\1free"])
def test_millions_of_boxes_take_no_time(filler):
    data = b"\0\0\0\x10ftypheic\0\0\0\0" + filler * 2_000_000
    start = time.process_time()
    is_cut(data)
    code_points(data)
    assert time.process_time() - start < 0.2
