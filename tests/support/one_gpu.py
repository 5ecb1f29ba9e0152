"""faiss with one GPU of so many bytes, as far as the flat search asks: it compares on the CPU and runs short as FAISS does."""

import weakref
from contextlib import contextmanager

import faiss

from indexer.engines import faiss_gpu

SHORT = (
    "Error in virtual void* faiss::gpu::StandardGpuResourcesImpl::allocMemory(const AllocRequest&) at /project/faiss/gpu/"
    "StandardGpuResources.cpp:661: Error: 'err == cudaSuccess' failed: StandardGpuResources: alloc fail type {} dev 0 space "
    "Device stream 0x7effcc5f47a0 size {} bytes (cudaMalloc error out of memory [2])\n"
)


@contextmanager
def installed(monkeypatch, gpu):
    """Let the GPU search find this GPU, and nothing of another."""
    with monkeypatch.context() as patched:
        patched.setattr(faiss_gpu, "faiss", gpu)
        faiss_gpu._resources.cache_clear()
        yield gpu
    faiss_gpu._resources.cache_clear()


class OneGpu:
    """Stands in the place of the module."""

    def __init__(self, memory=1 << 40):
        self.memory, self.taken, self.resources, self.searches = memory, 0, [], []
        self.fail_at = None

    def __getattr__(self, name):
        return getattr(faiss, name)

    def get_num_gpus(self):
        return 1

    def StandardGpuResources(self):
        made = _Resources(self)
        self.resources.append(made)
        return made

    def GpuIndexBinaryFlat(self, resources, nbits):
        assert resources.ready
        return _Flat(self, nbits)

    def take(self, nbytes, what):
        if self.taken + nbytes > self.memory:
            raise RuntimeError(SHORT.format(what, nbytes))
        self.taken += nbytes

    def give(self, nbytes):
        self.taken -= nbytes


class _Resources:
    def __init__(self, gpu):
        self._gpu, self.temporary, self.pinned, self.ready = gpu, 1536 << 20, 256 << 20, False

    def setTempMemory(self, nbytes):
        self.temporary = nbytes

    def setPinnedMemory(self, nbytes):
        self.pinned = nbytes

    def getResources(self):
        return self

    def initializeForDevice(self, device):
        assert device == 0
        self._gpu.take(self.temporary, "TemporaryMemoryBuffer")
        self.ready = True


class _Flat:
    def __init__(self, gpu, nbits):
        self._gpu, self._index = gpu, faiss.IndexBinaryFlat(nbits)

    def add(self, codes):
        self._gpu.take(codes.nbytes, "FlatData")
        weakref.finalize(self, self._gpu.give, codes.nbytes)
        self._index.add(codes)

    def search(self, queries, k):
        self._gpu.searches.append((len(queries), k))
        if len(self._gpu.searches) == self._gpu.fail_at:
            raise RuntimeError(SHORT.format("TemporaryMemoryOverflow", 12 * k * len(queries)))
        return self._index.search(queries, k)
