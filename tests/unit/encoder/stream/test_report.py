from collections import Counter

from encoder.images.decoding.jpeg_header import Way
from encoder.runtime.telemetry import Stage
from encoder.stream.report import EncodeReport


def test_the_report_says_how_many_images_went_which_way():
    report = EncodeReport(ways=Counter(dict.fromkeys(Way, 1) | {Way.NVJPEG: 974, Way.PROGRESSIVE: 21}))
    assert report.decoded() == (
        "97.4% on the GPU; on the CPU 2.1% progressive, 0.1% not JPEG, 0.1% in other colours than sRGB's, "
        "0.1% rare or damaged, 0.1% that nvJPEG refused, 0.1% for want of a hardware decoder"
    )
    assert EncodeReport(ways=Counter({Way.NVJPEG: 3})).decoded() == "100.0% on the GPU"


def test_stages_that_have_a_thread_of_their_own_are_shares_of_it():
    report = EncodeReport(seconds=10.0, threads=4)
    report.telemetry.seconds.update({Stage.DECODE: 10, Stage.FORWARD: 20, Stage.READ: 5, Stage.WRITE: 1})
    assert report.shares() == {"decode": 0.25, "forward": 0.5, "waiting": 0.25, "read": 0.5, "write": 0.1}
    report.ways[Way.NVJPEG] = 1
    report.telemetry.seconds.update({Stage.NVJPEG: 8, Stage.HASH: 2, Stage.FORWARD: -11})
    assert report.shares() == {
        "decode": 0.25, "waiting": 0.75, "nvJPEG": 0.8, "forward": 0.9, "read": 0.5, "hash": 0.2, "write": 0.1
    }  # fmt: skip
