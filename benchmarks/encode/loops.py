"""What a user would write: torchvision transforms, a DataLoader, a loop. The network is the model's own, as it was trained."""

import contextlib
import io
import tarfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info
from torchvision.transforms import v2

from benchmarks.encode.photos import photos_of
from encoder.levels import Level
from encoder.model.device import fast_dtype
from encoder.model.model_file import load_model

BATCH = 32


def transform(size: int) -> Any:
    """Return the usual way to a square: the short side to `size`, the centre of it; the network normalises."""
    return v2.Compose([v2.Resize(size), v2.CenterCrop(size), v2.PILToTensor()])


class Files(Dataset[torch.Tensor]):
    """Image files of a folder."""

    def __init__(self, folder: Path, size: int) -> None:
        self.paths, self.transform = sorted(folder.iterdir()), transform(size)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, at: int) -> torch.Tensor:
        picture: torch.Tensor = self.transform(Image.open(self.paths[at]).convert("RGB"))
        return picture


class Tars(IterableDataset[torch.Tensor]):
    """Images of tars, shared out to workers by tar and read in a stream, as webdataset does for clip-retrieval and open_clip."""

    def __init__(self, tars: Sequence[Path], size: int) -> None:
        self.tars, self.transform = tars, transform(size)

    def __iter__(self) -> Iterator[torch.Tensor]:
        worker = get_worker_info()
        mine = self.tars if worker is None else self.tars[worker.id :: worker.num_workers]
        for path in mine:
            with tarfile.open(path, "r|") as tar:
                for member in tar:
                    if member.name.endswith((".jpg", ".jpeg", ".png")) and (file := tar.extractfile(member)):
                        yield self.transform(Image.open(io.BytesIO(file.read())).convert("RGB"))


def images_per_second(  # noqa: PLR0913
    device: str, model_path: Path, files: Path, way: str, workers: int, tars: Sequence[Path], *, batch: int = BATCH
) -> float:
    """Run a loop over all images: codes are thresholded, packed and saved.

    Args:
        device: cpu or cuda.
        model_path: whose network is run.
        files: where image files are put, if they are not there yet.
        way: files or tars; tuned, memory is channels last, and autocast is on where the processor has bf16.
        workers: of the DataLoader.
        tars: the images.
        batch: images at once.
    """
    source, _, tuned = way.partition(" ")
    model = load_model(model_path)
    network, size = model.network.eval().to(device), model.config.image_size
    if source == "files":
        _unpack(tars, files)
    loader: DataLoader[torch.Tensor] = DataLoader(
        Files(files, size) if source == "files" else Tars(tars, size), batch, num_workers=workers
    )
    if tuned:
        network = network.to(memory_format=torch.channels_last)
    half = tuned and fast_dtype(device) is torch.bfloat16
    autocast: Any = torch.autocast(device, torch.bfloat16) if half else contextlib.nullcontext()
    codes: dict[Level, list[Any]] = {}
    started, images = time.perf_counter(), 0
    with torch.inference_mode(), autocast:
        for pictures in loader:
            for level, logits in network(pictures.to(device).permute(0, 2, 3, 1)).items():
                codes.setdefault(level, []).append(np.packbits(logits.float().cpu().numpy() > 0, axis=1))
            images += len(pictures)
    for level, parts in codes.items():
        np.save(files.parent / f"codes-{level}.npy", np.concatenate(parts))
    return images / (time.perf_counter() - started)


def _unpack(tars: Sequence[Path], folder: Path) -> None:
    if folder.exists():
        return
    partial = folder.with_suffix(".partial")
    partial.mkdir(exist_ok=True)
    for at, sample in enumerate(photos_of(tars)):
        (partial / f"{at:06d}.jpg").write_bytes(sample.data)
    partial.rename(folder)
