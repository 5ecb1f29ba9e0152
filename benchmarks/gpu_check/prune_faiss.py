"""Make a copy of the installed faiss-gpu that is small enough to be sent along to a machine that has none and no network.

usage: python -m benchmarks.gpu_check.prune_faiss OUT [--arch 90]

Of its device code, which is there for every GPU, that of one architecture stays (90: H100 and H200; 80: A100); the rest becomes zeros,
so that it packs to nothing. cuBLAS, 700 MB, is replaced by a stub, since Hamming search multiplies no matrices: whatever else of
faiss's GPU code is called fails. It needs a C compiler here and nothing there: put OUT into PYTHONPATH. As .tar.xz it has 21 MB.
"""

import argparse
import importlib.util
import mmap
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
LIBRARIES: Final = "faiss_gpu.libs"
"""Beside the package; its libraries look there first (RPATH)."""
FAT: Final = struct.pack("<IH", 0xBA55ED50, 1)
"""Begins a container of device code. Source: fatbinary_section.h of CUDA's toolkit for the section; the layout of what is in it
is not documented, and is taken from files: magic number, version, bytes of this header, bytes of all entries behind it."""
HEAD: Final = struct.Struct("<IHHQ")
ENTRY: Final = struct.Struct("<HHIQ")
"""Kind, version, bytes of this header, bytes behind it; the number of the architecture stands in the header."""
ARCH_AT: Final = 28
MACHINE_CODE: Final = 2
"""Kind of an entry; 1 is PTX."""
NOT_NEEDED: Final = ("contrib", "__pycache__")


@dataclass
class Pruned:
    """Bytes of device code."""

    kept: int = 0
    blanked: int = 0


def prune(out: Path, arch: int) -> Pruned:
    """Write the copy.

    Args:
        out: a folder that is not there yet, for PYTHONPATH.
        arch: compute capability, 90 for 9.0.

    Raises:
        SystemExit: where faiss-gpu is not installed, or has no code for the architecture.
    """
    spec = importlib.util.find_spec("faiss")
    package = Path(str(spec.origin)).parent if spec else Path()
    if not (package / "_gpu_build.py").exists():
        raise SystemExit("faiss-gpu is not installed here; what is pruned is a copy of it")
    shutil.copytree(package, out / "faiss", ignore=shutil.ignore_patterns(*NOT_NEEDED))
    shutil.copytree(package.parent / LIBRARIES, out / LIBRARIES)
    (
        out / "faiss/_gpu_build.py"
    ).unlink()  # by it the package looks for CUDA's own wheels, and ends where they are missing
    pruned = Pruned()
    with (out / "faiss/libfaiss.so").open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        for start, end in _containers(memory):
            mine = b"".join(memory[at:to] for at, to in _entries(memory, start, end, arch))
            memory[start:end] = mine.ljust(end - start, b"\0")
            struct.pack_into("<Q", memory, start - HEAD.size + 8, len(mine))
            pruned.kept, pruned.blanked = pruned.kept + len(mine), pruned.blanked + end - start - len(mine)
    if not pruned.kept:
        raise SystemExit(f"faiss-gpu has no device code for architecture {arch}")
    _add_cuda(package, out / LIBRARIES)
    return pruned


def _containers(memory: mmap.mmap) -> Iterator[tuple[int, int]]:
    """Yield where the entries of each container begin and end."""
    at = 0
    while (at := memory.find(FAT, at)) >= 0:
        _, _, head, size = HEAD.unpack_from(memory, at)
        if head != HEAD.size or at + head + size > len(memory):
            raise SystemExit(f"the container of device code at byte {at:,} is not as it is known")
        yield at + head, at + head + size
        at += head + size


def _entries(memory: mmap.mmap, start: int, end: int, arch: int) -> Iterator[tuple[int, int]]:
    """Yield where the machine code of an architecture begins and ends in a container."""
    while start < end:
        kind, _, head, size = ENTRY.unpack_from(memory, start)
        if (kind, struct.unpack_from("<I", memory, start + ARCH_AT)[0]) == (MACHINE_CODE, arch):
            yield start, start + head + size
        start += head + size


def _add_cuda(package: Path, libraries: Path) -> None:
    """Put CUDA's runtime, and stubs in the place of its other libraries, where faiss looks for libraries."""
    [runtime] = (package.parent / "nvidia/cuda_runtime/lib").glob("libcudart.so.12")
    shutil.copy(runtime, libraries / runtime.name)
    for name in ("libcublas.so.12", "libcublasLt.so.12"):
        version = HERE / "cublas_stub.map"
        command = ["cc", "-shared", "-fPIC", "-O1", f"-Wl,-soname,{name}", f"-Wl,--version-script={version}"]
        subprocess.run([*command, "-o", str(libraries / name), str(HERE / "cublas_stub.c")], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--arch", type=int, default=90)
    arguments = parser.parse_args()
    pruned = prune(arguments.out, arguments.arch)
    print(f"{pruned.kept / 1e6:.1f} MB of device code kept, {pruned.blanked / 1e6:.1f} MB blanked: {arguments.out}")
    sys.exit(0)


if __name__ == "__main__":
    main()
