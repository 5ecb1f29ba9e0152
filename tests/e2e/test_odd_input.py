"""Bad and odd images and damaged shards through the whole job: every image seen is a row or a reject with its reason."""

import io
import json
import os
import tarfile

import pytest

from encoder.codes.file import open_codes
from encoder.errors import Reject
from encoder.plural import plural
from tests.support.odd_images import odd_images
from tests.support.pictures import encoded, labelled_members, write_tar

ODD = list(odd_images())


@pytest.mark.parametrize("form", ["tar", "tgz", "folder"])
def test_every_odd_image_is_a_row_or_a_reject_with_its_reason(command, model_path, tmp_path, form):
    members = [(f"{number:03d}-{odd.name}", odd.data) for number, odd in enumerate(ODD)]
    source = tmp_path / f"odd.{form}"
    if form == "folder":
        source.mkdir()
        for name, data in members:
            (source / name).write_bytes(data)
    else:
        write_tar(source, members, "w:gz" if form == "tgz" else "w")
    code, out, err = command(
        "encoder", "encode", source, "--model", model_path, "--out", tmp_path / "codes", "--max-bytes", "60000"
    )
    assert code == 0, err
    rejected = [odd for odd in ODD if isinstance(odd.expected, Reject)]
    assert out.startswith(f"{len(ODD)} images seen = {len(ODD) - len(rejected)} rows + {len(rejected)} rejects")
    [path] = (tmp_path / "codes").glob("*.h5")
    with open_codes(path) as file:
        found = {row.key.split(".")[0]: row.reject for row in file.rejects()}
        keys = [key.split(".")[0] for key in file.keys()]  # noqa: SIM118  a column, not a dict
    stems = [name.split(".")[0] for name, _ in members]
    assert found == {
        stem: odd.expected for stem, odd in zip(stems, ODD, strict=True) if isinstance(odd.expected, Reject)
    }
    assert keys == [stem for stem in sorted(stems) if stem not in found]


def test_odd_images_do_not_change_the_codes_of_their_neighbours(command, model_path, tmp_path):
    """Batches hold other pictures then, so bits whose logit is next to zero may differ: one in a thousand, not a row."""
    good = [(f"good-{number:02d}.jpg", encoded(number)) for number in range(30)]
    bad = [(f"bad-{number}.jpg", b"no picture") for number in range(30)]
    mixed = [member for pair in zip(good, bad, strict=True) for member in pair]
    codes = []
    for name, members in (("good", good), ("mixed", mixed)):
        shard = write_tar(tmp_path / f"{name}.tar", members)
        assert (
            command("encoder", "encode", shard, "--model", model_path, "--out", tmp_path / name, "--precision", "fp32")[
                0
            ]
            == 0
        )
        with open_codes(tmp_path / name / f"{name}.h5") as file:
            codes.append({level: file.codes(level) for level in file.header.bits})
    for level, values in codes[0].items():
        assert (values != codes[1][level]).mean() < 0.001


def harmed_tars():
    """Kinds of damage, each with what the report must say."""
    members = labelled_members(0, 6)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    whole = buffer.getvalue()
    end = len(whole.rstrip(b"\0")) // 512 * 512 + 512
    second = 512 + -(-len(members[0][1]) // 512) * 512

    def flipped(place, mask=1):
        data = bytearray(whole)
        data[place] ^= mask
        return bytes(data)

    def resized(field):
        data = bytearray(whole)
        data[second + 124 : second + 136] = field
        header = data[second : second + 512]
        header[148:156] = b" " * 8
        data[second + 148 : second + 156] = b"%06o\0 " % sum(header)
        return bytes(data)

    return {
        "empty": b"",
        "garbage": b"garbage " * 1000,
        "cut-in-header": whole[: second + 100],
        "cut-at-header": whole[:second],
        "cut-in-data": whole[: 512 + 100],
        "cut-in-padding": whole[: 512 + len(members[0][1]) + 1],
        "no-marker": whole[:end],
        "half-a-marker": whole[: end + 512],
        "name-flipped": flipped(second),
        "size-flipped": flipped(second + 130),
        "checksum-flipped": flipped(second + 150),
        "size-too-large": resized(b"00077777777\0"),
        "size-negative": resized(b"\xff" * 12),
        "garbage-behind": whole + b"garbage",
    }


@pytest.mark.parametrize("kind", harmed_tars())
@pytest.mark.parametrize("compressed", [False, True], ids=["tar", "tgz"])
def test_a_damaged_tar_never_passes_as_a_whole_one(command, model_path, tmp_path, kind, compressed):
    import gzip

    data = harmed_tars()[kind]
    shard, codes = tmp_path / "a.tar", tmp_path / "codes"
    shard.write_bytes(gzip.compress(data) if compressed else data)
    code, out, err = command("encoder", "encode", shard, "--model", model_path, "--out", codes)
    assert code == 1
    assert f"error: shard {shard} is damaged: " in err
    assert "Traceback" not in err
    with open_codes(codes / "a.h5") as file:
        header = file.header
        assert header.shard.damage
        assert header.seen == header.rows + header.rejects <= 6
        assert out.startswith(
            f"{plural(header.seen, 'image')} seen = {plural(header.rows, 'row')} + {plural(header.rejects, 'reject')}"
        )


def test_a_shard_that_was_not_whole_is_read_again_though_nothing_shows_that_it_changed(command, model_path, tmp_path):
    shard, codes = write_tar(tmp_path / "a.tar", labelled_members(0, 6)), tmp_path / "codes"
    whole, times = shard.read_bytes(), (shard.stat().st_atime_ns, shard.stat().st_mtime_ns)
    harmed = whole[:5000] + bytes(800) + b"x" * (len(whole) - 5800)  # what a disk gave that could not read on
    for data, expected in ((harmed, 1), (harmed, 1), (whole, 0), (whole, 0)):
        shard.write_bytes(data)
        os.utime(shard, ns=times)
        code, out, err = command("encoder", "encode", shard, "--model", model_path, "--out", codes)
        assert (code, "is damaged: " in err) == (expected, expected == 1)
    assert out.startswith("6 images seen = 6 rows + 0 rejects")
    assert "already done" in out


@pytest.mark.parametrize("harm", ["cut", "crc", "middle"])
def test_a_broken_gzip_stream_is_damage(command, model_path, tmp_path, harm):
    shard = write_tar(tmp_path / "a.tgz", labelled_members(0, 6), "w:gz")
    data = bytearray(shard.read_bytes())
    if harm == "cut":
        data = data[: len(data) // 2]
    else:
        data[-6 if harm == "crc" else len(data) // 2] ^= 255
    shard.write_bytes(data)
    code, _, err = command("encoder", "encode", shard, "--model", model_path, "--out", tmp_path / "codes")
    assert (code, "is damaged: " in err) == (1, True)


def test_rejects_are_listed_by_name(command, model_path, tmp_path):
    shard = write_tar(tmp_path / "a.tar", [("x.jpg", b"nothing"), ("y.jpg", encoded(1)), ("z.png", b"")])
    assert command("encoder", "encode", shard, "--model", model_path, "--out", tmp_path / "codes")[0] == 0
    out = command("encoder", "inspect", tmp_path / "codes", "--rejects", "--json")[1]
    assert [(row["key"], row["reason"]) for row in map(json.loads, out.splitlines())] == [
        ("x", "unknown-format"),
        ("z", "empty"),
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ("fit", "--weights", "none", "--backbone", "alexnet", "--hash", "lsh", "--image-size", 64),
        ("train", "--image-size", 32, "--epochs", 1, "--bits", 16, "--batch", 8),
    ],
    ids=lambda arguments: arguments[0],
)
def test_whoever_fits_or_trains_on_a_damaged_tar_is_told(command, tmp_path, arguments):
    shard = write_tar(tmp_path / "a.tar", labelled_members(0, 30))
    shard.write_bytes(shard.read_bytes()[:-7000])
    name, *options = arguments
    code, _, err = command("encoder", name, shard, *options, "--out", tmp_path / "model.safetensors")
    assert code == 0, err
    assert f"error: shard {shard} is damaged: ends inside " in err
