"""The way of a GPU, run on a CPU: streams do nothing there, libjpeg stands in for nvJPEG, and Triton's interpreter runs the kernel."""

import io
import sys
import threading
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from torch._dynamo.testing import CompileCounter

from encoder.codes.file import open_codes
from encoder.errors import Reject
from encoder.images.decoding.gpu_decode import GpuDecoder, route
from encoder.images.decoding.jpeg_header import Way
from encoder.images.expand import expand
from encoder.images.samples import Sample
from encoder.levels import Level
from encoder.model.builtin import BUILTIN
from encoder.model.gpu_forward import GpuForward
from encoder.model.image_encoder import ImageEncoder
from encoder.model.model_file import load_model
from encoder.model.spec import Precision
from encoder.runtime.telemetry import Stage, Telemetry
from encoder.stream import gpu_pipeline
from encoder.stream.batch import Batch, BatchDone
from encoder.stream.coding import Coding
from encoder.stream.cpu_pipeline import CpuPipeline
from encoder.stream.gpu_pipeline import GpuPipeline
from encoder.stream.known import KnownCodes
from encoder.stream.settings import EncodeSettings
from encoder.stream.shard import Contents, ShardDone, code_shards
from tests.support.interpreted_resize import interpret_resize
from tests.support.jpeg_kinds import jpeg_kinds
from tests.support.odd_images import odd_images
from tests.support.pictures import encoded, write_tar

BATCH = 8
LEVELS = (Level.MID, Level.FINE)
THREADS = {"batch", "hash", "forward", "decode", "collect"}


class Failure(Exception):
    """Something that nobody expects."""


@pytest.fixture
def interpreted(monkeypatch):
    """The kernel, which the interpreter runs slowly."""
    interpret_resize(monkeypatch)


@pytest.fixture
def no_kernel(monkeypatch):
    """All images take the one decode."""
    monkeypatch.setattr(GpuDecoder, "_without_kernel", lambda _: "no compiler")


@pytest.fixture(autouse=True)
def all_is_put_back():
    """Whatever happens, no thread is left, and the interpreter is as it was."""
    interval = sys.getswitchinterval()
    yield
    assert not {thread.name.partition("_")[0] for thread in threading.enumerate()} & THREADS
    assert sys.getswitchinterval() == interval


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Tars with JPEGs that go every way and odd images, labels before, beside and behind their images, and nothing at all."""
    folder = tmp_path_factory.mktemp("tars")
    kinds = [(f"{kind.name}.jpg", kind.data) for kind in {kind.way: kind for kind in jpeg_kinds()}.values()]
    turned = [kind for kind in jpeg_kinds() if kind.orientation > 1]
    kinds += [(f"turned-{kind.name}.jpg", kind.data) for kind in turned[:3]]
    odd = [(f"odd-{odd.name}", odd.data) for odd in odd_images()]
    plain = [(f"{number}.jpg", encoded(number, size=45)) for number in range(11)]
    labels = [("0.json", b'{"price": 1}'), ("7.json", b'{"price": "x"}')]
    write_tar(folder / "kinds.tar", kinds)
    write_tar(folder / "odd.tar.gz", odd, "w:gz")
    write_tar(folder / "plain.tar", [("1.json", b'{"price": 2}'), *plain, *labels, ("0.jpg", plain[0][1])])
    write_tar(folder / "empty.tar", [("notes.txt", b"nothing")])
    return expand([str(folder)])


@pytest.fixture
def coding():
    encoder = ImageEncoder(load_model(BUILTIN), "cpu", Precision.FP32)
    return Coding(encoder, LEVELS, EncodeSettings(batch=BATCH, workers=2), Telemetry())


def on_gpu(coding, **options):
    encoder = coding.encoder
    forward = GpuForward(encoder.model, encoder.device, LEVELS, batch=coding.settings.batch, **options)
    return GpuPipeline(coding, forward, GpuDecoder(encoder.device, encoder.model.config.image_size))


def coded(coding, pipeline, shards, out):
    """Return the content of each code file, and what was counted."""
    out.mkdir()
    done = list(code_shards(coding, pipeline, shards, out, Contents()))
    files = {}
    for each in done:
        if isinstance(each, ShardDone):
            name = each.header.shard.name
            with open_codes(out / f"{name}.h5") as file:
                fields = {label: file.label(label).to_list() for label in file.label_fields()}
                files[name] = {
                    "header": file.header,
                    "keys": list(file.keys()),
                    "places": file.places().tolist(),
                    "digests": np.asarray(file.digests()).tolist(),
                    "rejects": file.rejects(),
                    "labels": fields,
                    "codes": {level: file.codes(level) for level in LEVELS},
                }
    return files, [each for each in done if isinstance(each, BatchDone)]


def without_codes(files):
    return {name: {part: what for part, what in content.items() if part != "codes"} for name, content in files.items()}


def turned_bits(files, others):
    """Return the share of bits that differ."""
    pairs = [(files[name]["codes"][level], others[name]["codes"][level]) for name in files for level in LEVELS]
    return sum(np.bitwise_count(a ^ b).sum() for a, b in pairs) / sum(8 * a.size for a, _ in pairs)


def test_code_files_are_those_of_a_cpu_but_for_a_few_bits(coding, shards, tmp_path, interpreted):
    by_cpu, counted = coded(coding, CpuPipeline(coding), shards, tmp_path / "cpu")
    by_gpu, counted_too = coded(coding, on_gpu(coding), shards, tmp_path / "gpu")
    assert without_codes(by_gpu) == without_codes(by_cpu)
    assert turned_bits(by_gpu, by_cpu) <= 0.005
    assert [(done.images, done.bad, done.bytes, done.passed) for done in counted_too] == [
        (done.images, done.bad, done.bytes, done.passed) for done in counted
    ]
    ways = sum((done.ways for done in counted_too), Counter[Way]())
    assert {kind.way for kind in jpeg_kinds()} <= set(ways)
    assert ways[Way.NVJPEG] >= 3 + 11
    rejects = [row.reject for content in by_gpu.values() for row in content["rejects"]]
    assert ways.total() == sum(done.images for done in counted) - rejects.count(Reject.DUPLICATE_KEY)
    for stage in (Stage.HASH, Stage.DECODE, Stage.NVJPEG, Stage.FORWARD):
        assert coding.telemetry.seconds[stage] > 0


def test_without_a_decoder_a_cpu_decodes_and_codes_are_the_same(coding, shards, tmp_path, no_kernel):
    by_cpu, _ = coded(coding, CpuPipeline(coding), shards, tmp_path / "cpu")
    by_gpu, counted = coded(coding, on_gpu(coding), shards, tmp_path / "gpu")
    assert without_codes(by_gpu) == without_codes(by_cpu)
    assert turned_bits(by_gpu, by_cpu) == 0
    assert set(sum((done.ways for done in counted), Counter[Way]())) == {Way.NO_DECODER, Way.NOT_JPEG}


def test_photos_that_are_views_of_what_was_read_are_coded_as_others(coding, tmp_path, interpreted, monkeypatch):
    seen = list[type]()

    def noted(files, *args, **options):
        seen.extend(map(type, files))
        return route(files, *args, **options)

    monkeypatch.setattr(gpu_pipeline, "route", noted)
    photos = [(f"{number}-{kind}.{kind}", noisy(number, kind)) for number in range(3) for kind in ("jpg", "png")]
    tar = write_tar(tmp_path / "a.tar", [*photos, ("small.jpg", encoded(1)), ("bad.jpg", noisy(9, "jpg")[:-40_000])])
    by_cpu, _ = coded(coding, CpuPipeline(coding), expand([str(tar)]), tmp_path / "cpu")
    by_gpu, _ = coded(coding, on_gpu(coding), expand([str(tar)]), tmp_path / "gpu")
    assert without_codes(by_gpu) == without_codes(by_cpu)
    assert turned_bits(by_gpu, by_cpu) <= 0.005
    assert Counter(seen) == {memoryview: 7, bytes: 1}


def noisy(seed, format_):
    """A photo of at least 64 KiB, too low to be decoded at less than its size."""
    noise = np.random.default_rng(seed).integers(0, 256, (50, 900, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, {"jpg": "JPEG", "png": "PNG"}[format_], quality=98)
    return stream.getvalue()


def test_a_view_counts_as_the_block_that_it_holds():
    block = bytes(1000)
    view = memoryview(block)
    contents: list[bytes | memoryview] = [view[:10], view[10:500], b"12345", b"12345678"]
    samples = [Sample(at, str(at), content=content) for at, content in enumerate(contents)]
    assert gpu_pipeline._held(samples) == 1000 + 5 + 8


def test_known_codes_are_taken_over_into_their_places(coding, shards, tmp_path, no_kernel):
    plain = [shard for shard in shards if shard.name == "plain"]
    first, _ = coded(coding, on_gpu(coding), plain, tmp_path / "first")
    # every other image is known; its code is turned, to be told from one that is made anew
    half = write_tar(tmp_path / "half.tar", [(f"{number}.jpg", encoded(number, size=45)) for number in range(0, 11, 2)])
    coded(coding, on_gpu(coding), expand([str(half)]), tmp_path / "half")
    known = KnownCodes([tmp_path / "half" / "half.h5"], dict.fromkeys(LEVELS, 64))
    known._codes = {level: ~codes for level, codes in known._codes.items()}
    again = Coding(coding.encoder, LEVELS, coding.settings, Telemetry(), known)
    files, counted = coded(again, on_gpu(again), plain, tmp_path / "again")
    assert sum(done.taken for done in counted) == 6
    for level in LEVELS:
        turned = files["plain"]["codes"][level] ^ first["plain"]["codes"][level]
        assert turned[::2].tolist() == [[255] * 8] * 6
        assert not turned[1::2].any()
    assert without_codes(files) == without_codes(first)


@pytest.mark.parametrize("compiles", [False, True])
def test_a_run_compiles_once_whatever_its_batches_are(coding, shards, tmp_path, monkeypatch, no_kernel, compiles):
    real, counter = torch.compile, CompileCounter()
    monkeypatch.setattr(torch, "compile", lambda net, **options: real(net, backend=counter, **options))
    coded(coding, on_gpu(coding, compile=compiles), shards, tmp_path / "gpu")
    assert counter.frame_count == compiles


STAGES = [
    (gpu_pipeline, "route"),
    (gpu_pipeline, "square_or_reject"),
    (GpuDecoder, "decode_into"),
    (GpuForward, "prepare"),
    (GpuForward, "run"),
    (GpuForward, "codes"),
    (KnownCodes, "find"),
]


@pytest.mark.parametrize(("where", "name"), STAGES, ids=[name for _, name in STAGES])
def test_a_failure_in_any_thread_ends_the_run_with_it(coding, shards, tmp_path, monkeypatch, where, name):
    def fail(*_args, **_options):
        raise Failure(name)

    if name == "decode_into":  # which nobody asks without a kernel
        interpret_resize(monkeypatch)
    else:
        monkeypatch.setattr(GpuDecoder, "_without_kernel", lambda _: "no compiler")
    pipeline, failing = on_gpu(coding), [shard for shard in shards if shard.name == "kinds"]
    monkeypatch.setattr(where, name, fail)
    with pytest.raises(Failure, match=name):
        coded(coding, pipeline, failing, tmp_path / "gpu")
    assert not list((tmp_path / "gpu").glob("*.h5"))


def test_a_reader_that_fails_ends_the_run_with_its_error(coding, shards, tmp_path, no_kernel):
    def drawn():
        yield shards[0]
        raise Failure("no more")

    with pytest.raises(Failure, match="no more"):
        coded(coding, on_gpu(coding), drawn(), tmp_path / "gpu")


def test_a_run_that_is_left_in_the_middle_ends_its_threads(coding, tmp_path, no_kernel):
    members = [(f"{number}.jpg", encoded(number, size=45)) for number in range(60)]
    tar = write_tar(tmp_path / "a.tar", members)
    (tmp_path / "gpu").mkdir()
    run = code_shards(coding, on_gpu(coding), expand([str(tar)]), tmp_path / "gpu", Contents())
    assert isinstance(next(run), BatchDone)
    run.close()
    assert not list((tmp_path / "gpu").glob("*.h5"))


def test_no_more_than_some_batches_are_ahead_of_the_writer(coding, tmp_path, monkeypatch, no_kernel):
    monkeypatch.setattr(gpu_pipeline, "AHEAD_BYTES", 1)
    members = [(f"{number}.jpg", encoded(number, size=45)) for number in range(40)]
    tar = write_tar(tmp_path / "a.tar", members)
    drawn, taken = list[Batch](), list[Batch]()
    pipeline = on_gpu(coding)
    real = pipeline.coded

    def watched(batches):
        def counted():
            for batch in batches:
                drawn.append(batch)
                assert len(drawn) - len(taken) <= 2
                yield batch

        for batch in real(counted()):
            taken.append(batch)
            yield batch

    monkeypatch.setattr(pipeline, "coded", watched)
    coded(coding, pipeline, expand([str(tar)]), tmp_path / "gpu")
    assert len(taken) == 6
