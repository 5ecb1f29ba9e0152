"""Files that a stranger made: cut, flipped, or written to harm, with every digest computed again if that is wanted."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from encoder.codes import file as code_file
from encoder.runtime.publish import sha256_of
from indexer.storage.current import MANIFEST, POINTER


def cut(path: Path, size: int) -> None:
    """Leave the first `size` bytes of a file."""
    data = path.read_bytes()
    path.unlink()  # what is open or linked elsewhere stays as it was
    path.write_bytes(data[:size])


def flip(path: Path, bit: int) -> None:
    """Turn a bit of a file."""
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.unlink()
    path.write_bytes(data)


def reseal_codes(path: Path) -> None:
    """Let a code file prove what is in it, where its user block is still there."""
    if path.stat().st_size > code_file.USER_BLOCK:
        code_file._seal(path)


def generation_of(index: Path) -> Path:
    """Return the folder of the current generation."""
    return index / str(json.loads((index / POINTER).read_bytes())["generation"])


def reseal_index(index: Path, edit: Callable[[dict[str, Any]], None] = lambda _: None) -> None:
    """Let a manifest prove the files that are there, and the pointer the manifest: an author who computes all digests again.

    Args:
        index: folder of the index.
        edit: what else the author does to the manifest.
    """
    folder = generation_of(index)
    content = json.loads((folder / MANIFEST).read_bytes())
    for name in content["files"]:
        if (folder / name).is_file():
            content["files"][name] = [(folder / name).stat().st_size, sha256_of(folder / name)]
    if content["model"] in content["files"]:
        content["fingerprint"] = content["files"][content["model"]][1]
    edit(content)
    (folder / MANIFEST).unlink()
    (folder / MANIFEST).write_text(json.dumps(content))
    point(index)


def point(index: Path) -> None:
    """Let the pointer prove the manifest that is there."""
    pointer = json.loads((index / POINTER).read_bytes())
    pointer["manifest_sha256"] = sha256_of(generation_of(index) / MANIFEST)
    (index / POINTER).unlink()
    (index / POINTER).write_text(json.dumps(pointer))


def npy(header: bytes, data: bytes = b"", version: bytes = b"\1\0", length: int | None = None) -> bytes:
    """Return an .npy file with any header."""
    wide = 2 if version[:1] == b"\1" else 4
    return b"\x93NUMPY" + version + (len(header) if length is None else length).to_bytes(wide, "little") + header + data


PLAIN = b"{'descr': '<u8', 'fortran_order': False, 'shape': (2,), }\n"
HOSTILE_NPY = {
    "empty": b"",
    "no magic": b"PK\3\4" + bytes(200),
    "half a magic": b"\x93NUM",
    "no version": b"\x93NUMPY",
    "unknown version": npy(PLAIN, bytes(16), b"\x09\0"),
    "no header": npy(b""),
    "header longer than the file": npy(PLAIN, bytes(16), length=60_000),
    "header of 4 GB": npy(PLAIN, bytes(16), b"\2\0", 2**32 - 1),
    "open bracket": npy(b"{'descr': '<u8', 'fortran_order': False, 'shape': (2, }", bytes(16)),
    "no text": npy(b"\xff\xfe\0" * 20, bytes(16), b"\3\0"),
    "dedent": npy(b"{\n  1:\n 2}\n   (", bytes(16)),
    "quotes": npy(b"{'descr': '<u8\n", bytes(16)),
    "a list": npy(b"[]", bytes(16)),
    "deep": npy(b"(" * 9000, bytes(16)),
    "signs": npy(b"-" * 60_000 + b"1", bytes(16)),
    "pickles": npy(PLAIN.replace(b"<u8", b"|O"), bytes(16)),
    "record": npy(PLAIN.replace(b"'<u8'", b"[('a', '<u8')]"), bytes(16)),
    "big end": npy(PLAIN.replace(b"<u8", b">u8"), bytes(16)),
    "columns": npy(PLAIN.replace(b"False", b"True"), bytes(16)),
    "negative": npy(PLAIN.replace(b"2,", b"-2,"), bytes(16)),
    "true": npy(PLAIN.replace(b"2,", b"True,"), bytes(16)),
    "2^62 rows": npy(PLAIN.replace(b"2,", b"4611686018427387904,"), bytes(16)),
    "overflow to 16 bytes": npy(PLAIN.replace(b"2,", b"2, 9223372036854775808, 2,"), bytes(16)),
    "no dimensions": npy(PLAIN.replace(b"2,", b""), bytes(8)),
    "64 dimensions": npy(PLAIN.replace(b"2,", b"1, " * 63 + b"2"), bytes(16)),
    "cut": npy(PLAIN, bytes(15)),
    "longer": npy(PLAIN, bytes(17)),
}
"""What claims to be a column of two numbers of 64 bits, by what is wrong with it."""


Harm = Callable[[h5py.File], object]
"""Changes an open file."""


def put(file: h5py.File, name: str, **dataset: Any) -> None:
    """Replace a dataset."""
    del file[name]
    file.create_dataset(name, **dataset)


def link(file: h5py.File, name: str, to: Any) -> None:
    """Replace something by a link."""
    del file[name]
    file[name] = to


def say(**fields: Any) -> Harm:
    """Change what the header says; `bits__fine=8` is a field of a field."""

    def harm(file: h5py.File) -> None:
        header = json.loads(file.attrs["header"])
        for name, value in fields.items():
            *way, last = name.split("__")
            home = header
            for part in way:
                home = home[part]
            home[last] = value
        file.attrs["header"] = json.dumps(header)

    return harm


def rows(count: int) -> Harm:
    """Claim many rows whose datasets were never written, so that the file stays small."""

    def harm(file: h5py.File) -> None:
        say(rows=count, seen=count)(file)
        put(file, "codes/fine", shape=(count, 8), dtype=np.uint8)
        put(file, "places", shape=(count, 2), dtype=np.uint64)
        put(file, "keys/offsets", shape=(count + 1,), dtype=np.uint64)

    return harm


def virtual(file: h5py.File) -> None:
    """Make the codes those of another file."""
    del file["codes/fine"]
    file.create_virtual_dataset("codes/fine", h5py.VirtualLayout(shape=(10, 8), dtype=np.uint8))


def compact(file: h5py.File) -> None:
    """Put the codes into their header."""
    del file["codes/fine"]
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_layout(h5py.h5d.COMPACT)
    h5py.h5d.create(file["codes"].id, b"fine", h5py.h5t.STD_U8LE, h5py.h5s.create_simple((10, 8)), plan)


def deep(file: h5py.File) -> None:
    """Write a header that nests deeper than a parser may go."""
    file.attrs["header"] = '{"a":' * 30_000 + "1" + "}" * 30_000


HOSTILE_CODES: dict[str, Harm] = {
    "external storage": lambda file: put(
        file, "codes/fine", shape=(10, 8), dtype=np.uint8, external=[("elsewhere.bin", 0, 80)]
    ),
    "external link": lambda file: link(file, "places", h5py.ExternalLink("elsewhere.h5", "/places")),
    "external link on the way": lambda file: link(file, "codes", h5py.ExternalLink("elsewhere.h5", "/codes")),
    "external link to labels": lambda file: link(file, "labels", h5py.ExternalLink("elsewhere.h5", "/labels")),
    "external link to a label": lambda file: link(file, "labels/000", h5py.ExternalLink("elsewhere.h5", "/labels/000")),
    "external link to rejects": lambda file: link(file, "rejects", h5py.ExternalLink("elsewhere.h5", "/rejects")),
    "soft link": lambda file: link(file, "codes", h5py.SoftLink("/labels")),
    "link to itself": lambda file: link(file, "codes", h5py.SoftLink("/codes")),
    "virtual": virtual,
    "compact": compact,
    "chunked": lambda file: put(file, "codes/fine", shape=(10, 8), dtype=np.uint8, chunks=(5, 8)),
    "packed": lambda file: put(
        file, "codes/fine", shape=(10, 8), dtype=np.uint8, chunks=(10, 8), compression="gzip", fillvalue=0
    ),
    "fewer rows": lambda file: put(file, "codes/fine", data=np.zeros((9, 8), np.uint8)),
    "signed": lambda file: put(file, "codes/fine", data=np.zeros((10, 8), np.int8)),
    "text for codes": lambda file: put(file, "codes/fine", data=np.zeros((10, 8), "S1")),
    "record for codes": lambda file: put(file, "codes/fine", data=np.zeros((10, 8), [("a", "u1")])),
    "group for codes": lambda file: link(file, "codes/fine", file["labels"]),
    "no places": lambda file: file.__delitem__("places"),
    "no keys": lambda file: file.__delitem__("keys"),
    "no rejects": lambda file: file.__delitem__("rejects"),
    "1e8 rows": rows(10**8),
    "1e9 rows": rows(10**9),
    "1e15 rows": rows(10**15),
    "no header": lambda file: file.attrs.__delitem__("header"),
    "header of a list": lambda file: file.attrs.__setitem__("header", "[]"),
    "header of numbers": lambda file: file.attrs.__setitem__("header", np.zeros(1000)),
    "header of 2 MiB": say(precision="x" * (1 << 21)),
    "header that is deep": deep,
    "miscounted": say(seen=12),
    "rows of text": say(rows="10"),
    "rows of a half": say(rows=10.0),
    "negative rows": say(rows=-10, seen=-10),
    "rows without end": say(rows=float("inf")),
    "2^70 rows": say(rows=2**70, seen=2**70),
    "no bits": say(bits={}),
    "0 bits": say(bits__fine=0),
    "12 bits": say(bits__fine=12),
    "2^62 bits": say(bits__fine=2**62),
    "fingerprint of a number": say(fingerprint=7),
    "unknown kind": say(shard__kind="exe"),
    "path of a list": say(shard__path=["/"]),
    "path with NUL": say(shard__path="/etc/\0"),
    "limits of text": say(rules__limits__max_bytes="many"),
    "unknown field": say(surprise=1),
    "no shard": say(shard=None),
    "keys fall": lambda file: file["keys/offsets"].write_direct(np.array([0, 5, 3, *range(6, 14)], np.uint64)),
    "keys end late": lambda file: file["keys/offsets"].__setitem__(10, 2**63),
    "keys of no text": lambda file: file["keys/text"].__setitem__(0, 0xFF),
    "keys of part of a character": lambda file: file["keys/text"].__setitem__(slice(2, 4), [0xC3, 0xA4]),
    "label of no kind": lambda file: file["labels/000"].attrs.__setitem__("kind", "picture"),
    "label of no name": lambda file: file["labels/000"].attrs.__delitem__("name"),
    "label named by a number": lambda file: file["labels/000"].attrs.__setitem__("name", 7),
    "label without presence": lambda file: file.__delitem__("labels/000/present"),
    "label of text without text": lambda file: file["labels/000"].attrs.__setitem__("kind", "texts"),
    "2,000 labels": lambda file: [file["labels"].create_group(f"x{number}") for number in range(2000)],
    "reject for no reason": lambda file: file["rejects/reason/text"].__setitem__(0, ord("x")),
}
"""What is done to a code file of ten rows of 64 bits at `fine` with one label and one reject, and then sealed, by its name."""


ModelHarm = Callable[[dict[str, Any], dict[str, Any], bytes], bytes]
"""Changes our header and that of safetensors, and returns the bytes of the tensors."""


def harm_model(path: Path, harm: ModelHarm) -> None:
    """Write a model file again, harmed; both headers are whole."""
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    content = json.loads(data[8:end])
    header = json.loads(content["__metadata__"]["hashgrain"])
    tensors = harm(header, content, data[end:])
    if "__metadata__" in content:
        content["__metadata__"]["hashgrain"] = json.dumps(header)
    packed = json.dumps(content).encode()
    path.unlink()
    path.write_bytes(len(packed).to_bytes(8, "little") + packed + tensors)


def claim(way: str, value: Any) -> ModelHarm:
    """Change a field of our header; `heads.fine.bits` is a field of a field, `tensors.NAME.dtype` one of safetensors' header."""

    def harm(header: dict[str, Any], content: dict[str, Any], data: bytes) -> bytes:
        home: Any = header
        *steps, last = way.split("/")
        if steps[:1] == ["tensors"]:
            home, steps = content, steps[1:]
        for step in steps:
            home = home[step]
        home[last] = value
        return data

    return harm


def longer(header: dict[str, Any], content: dict[str, Any], data: bytes) -> bytes:
    """Add a tensor that nothing asks for."""
    content["surplus"] = {"dtype": "F32", "shape": [1], "data_offsets": [len(data), len(data) + 4]}
    return data + bytes(4)


def bare(header: dict[str, Any], content: dict[str, Any], data: bytes) -> bytes:
    """Take our header away."""
    del content["__metadata__"]
    return data


HOSTILE_MODELS: dict[str, ModelHarm] = {
    "2^62 bits": claim("heads/fine/bits", 2**62),
    "bits without end": claim("heads/fine/bits", float("inf")),
    "bits of a half": claim("heads/fine/bits", 64.0),
    "4,104 bits": claim("heads/fine/bits", 4104),
    "other bits": claim("heads/fine/bits", 72),
    "unknown activation": claim("heads/fine/activation", "gigabytes"),
    "unknown level": claim("heads/shape", {"bits": 64, "activation": "linear"}),
    "no levels": claim("heads", {}),
    "one more level": claim("heads", {"fine": {"bits": 64, "activation": "linear"}}),
    "heads of a list": claim("heads", []),
    "kernel of 2^40 anchors": claim("heads/fine/kernel", {"anchors": 2**40, "width": 1.0, "neighbours": None}),
    "kernel of no width": claim("heads/fine/kernel", {"anchors": 8, "width": 0.0, "neighbours": None}),
    "kernel of 1e200 width": claim("heads/fine/kernel", {"anchors": 8, "width": 1e200, "neighbours": None}),
    "kernel of NaN": claim("heads/fine/kernel", {"anchors": 8, "width": float("nan"), "neighbours": None}),
    "an exit of fused": claim("exits", {"fused": [8]}),
    "an exit of a level that is not there": claim("exits", {"shape": [8]}),
    "an exit of 2^40 channels": claim("exits", {"fine": [2**40]}),
    "an exit of 4,096 channels": claim("exits", {"fine": [4096] * 8}),
    "an exit of no channels": claim("exits", {"fine": []}),
    "0 pixels": claim("image_size", 0),
    "pixels without end": claim("image_size", float("inf")),
    "16 pixels": claim("image_size", 16),
    "2^31 pixels": claim("image_size", 2**31),
    "unknown backbone": claim("backbone/name", "resnet9000"),
    "a list of backbones": claim("backbone/name", ["alexnet"]),
    "another backbone": claim("backbone/name", "resnet18"),
    "widths of another": claim("backbone/widths", [64, 64, 64]),
    "two widths": claim(
        "backbone", {"name": "threeblock", "small_stem": False, "stride_in_1x1": False, "widths": [8, 8]}
    ),
    "a stem that is no choice": claim("backbone/small_stem", "yes"),
    "a stem that it has not": claim("backbone/small_stem", True),
    "surprise": claim("backbone/surprise", 1),
    "unknown pooling": claim("pooling", "max"),
    "unknown normalisation": claim("normalisation", "batch"),
    "another normalisation": claim("normalisation", "none"),
    "a record that is none": claim("record", 7),
    "another format": claim("format", "onnx"),
    "version without end": claim("version", float("inf")),
    "unknown type": claim("tensors/hash.fine.bias/dtype", "U7"),
    "complex type": claim("tensors/hash.fine.bias/dtype", "C64"),
    "type of half the bytes": claim("tensors/hash.fine.bias/dtype", "F16"),
    "negative shape": claim("tensors/hash.fine.bias/shape", [-64]),
    "huge shape": claim("tensors/hash.fine.bias/shape", [2**60]),
    "turned shape": claim("tensors/hash.fine.bias/shape", [64, 1]),
    "offsets that lie": claim("tensors/hash.fine.bias/data_offsets", [0, 2**62]),
    "surplus tensor": longer,
    "bare tensors": bare,
    "tensors cut": lambda _header, _content, data: data[:-4],
    "tensors of NaN": lambda _header, _content, data: b"\xff" * len(data),
}
"""What is done to the model file of `model_path`, by its name."""
