"""Files that may hold images and are not read: what they are, and what makes shards of them. Only first bytes are looked at."""

from collections.abc import Mapping
from typing import Final

from encoder.images.signature import HEAD_BYTES
from encoder.runtime.files import parts_of, reading

TABLES: Final = (".csv", ".tsv", ".json", ".jsonl", ".parquet")
_PICKLE: Final = (
    "a pickle, which can run code of whoever wrote it, so that it is never opened here; if you trust it, save each picture from "
    "Python: "
    "Image.fromarray(pixels).save(f'{number}.png')"
)
_ARRAY: Final = (
    "an array of pixels; save each picture from Python: "
    "for number, pixels in enumerate(numpy.load('{name}')): Image.fromarray(pixels).save(f'{number}.png')"
)
_TFRECORD: Final = (
    "TFRecord; save each picture from Python: for number, record in enumerate(tf.data.TFRecordDataset('{name}')): "
    "take tf.train.Example.FromString(record.numpy()).features.feature['image/encoded'] and write its bytes to a file"
)
_LMDB: Final = (
    "LMDB; save each picture from Python: "
    "for key, data in lmdb.open(folder).begin().cursor(): Path(key.decode()).write_bytes(data)"
)
_HDF5: Final = (
    "HDF5; save each picture from Python: "
    "for number, pixels in enumerate(h5py.File('{name}')[dataset]): Image.fromarray(pixels).save(f'{number}.png')"
)
_IDX: Final = (
    "an array of pixels as MNIST has it; save each picture from Python: "
    "for number, pixels in enumerate(numpy.fromfile('{name}', 'u1', offset=16).reshape(-1, 28, 28)): "
    "Image.fromarray(pixels).save(f'{number}.png')"
)
_RECORD: Final = (
    "MXNet's RecordIO; save each picture from Python: mxnet.recordio.unpack(record) returns its header and bytes"
)
_UNPACK: Final = "an archive that is not unpacked here; unpack it (7z x '{name}') and name the folder"
_URLS: Final = "a table or a text without images in it; if it lists URLs, img2dataset makes shards of it: {img2dataset}"
_VIDEO: Final = "a video; save its frames: ffmpeg -i '{name}' -vf fps=1 frames/%06d.jpg"
_MODEL: Final = "a model or a checkpoint, not images"

NOT_READ: Final[Mapping[str, str]] = {
    **dict.fromkeys((".pickle", ".pkl", ".pck", ".p"), _PICKLE),
    **dict.fromkeys((".npy", ".npz", ".mat"), _ARRAY),
    **dict.fromkeys((".tfrecord", ".tfrecords"), _TFRECORD),
    **dict.fromkeys((".lmdb", ".mdb"), _LMDB),
    **dict.fromkeys((".h5", ".hdf5", ".hdf"), _HDF5),
    **dict.fromkeys((".rar", ".7z", ".tar.lz4", ".tar.lz", ".tar.z", ".cab"), _UNPACK),
    **dict.fromkeys((*TABLES, ".txt"), _URLS),
    **dict.fromkeys((".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".3gp"), _VIDEO),
    **dict.fromkeys((".idx", "-ubyte", "-ubyte.gz"), _IDX),
    ".rec": _RECORD,
    **dict.fromkeys((".pt", ".pth", ".ckpt", ".safetensors", ".onnx"), _MODEL),
}
"""By the ending of a name, what such a file is and what makes shards of it; `{name}` stands for its name."""
_SIGNATURES: Final[Mapping[bytes, str]] = {
    b"\x80\2": _PICKLE,
    b"\x80\3": _PICKLE,
    b"\x80\4": _PICKLE,
    b"\x80\5": _PICKLE,
    b"\x93NUMPY": _ARRAY,
    b"\x89HDF\r\n\x1a\n": _HDF5,
    b"Rar!\x1a\7": _UNPACK,
    b"7z\xbc\xaf\x27\x1c": _UNPACK,
    b"PAR1": _URLS,
    b"\0\0\x08\3": _IDX,
    b"\x0a\x23\xd7\xce": _RECORD,
}
"""By first bytes. Sources: the formats' own documents; a pickle of protocol 2 or later says so in its first two bytes."""
_MDB_MAGIC: Final = b"\xde\xc0\xef\xbe"
"""Of LMDB, at byte 16 of its first page."""


def why_not_read(path: str) -> str | None:
    """Return what a file is that holds images and is not read, and what makes shards of it; None of a file that is not known.

    Args:
        path: of a file that is not a shard and not an image, or its URL.

    Raises:
        HashgrainError: `shard-missing` if it cannot be opened or read.
    """
    name = parts_of(path)[-1]
    with reading(path) as file:
        head = file.read(HEAD_BYTES) or b""
    why = next((why for start, why in _SIGNATURES.items() if head.startswith(start)), None)
    if head[16:20] == _MDB_MAGIC:
        why = _LMDB
    elif head[4:8] == b"ftyp":
        why = _VIDEO
    why = why or next((why for suffix, why in NOT_READ.items() if name.lower().endswith(suffix)), None)
    command = img2dataset(name, name.rpartition(".")[2].lower())
    return why and why.replace("{name}", name).replace("{img2dataset}", command)


def img2dataset(name: str, ending: str) -> str:
    """Return the line of Python that makes shards of a table or list of URLs."""
    return f"img2dataset.download({name!r}, input_format={ending!r}, output_format='webdataset')"
