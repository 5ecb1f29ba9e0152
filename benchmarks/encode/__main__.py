"""Compare encoding with what the machine can do, and with what a user would write, on the same photos in the same run.

usage: python -m benchmarks.encode SHARDS... [--weights FILE] [--only roofline,memory,peers,start] [--networks resnet50@224,resnet18@160]
                                   [--images 20000] [--large 600] [--rounds 3] [--device cpu] [--folder bench-encode]

roofline  `encode` over the shards, repeated up to --images photos, and over --large JPEGs of 12 megapixels made of them. On a CPU
          against cores / (CPU seconds per image of the bare forward + of the bare decode), on a GPU against the slower of the two
memory    resident memory against images done, 1 % of them bad, over --memory-images photos: the slope after the first fifth, the peak
peers     a torchvision and DataLoader loop over files, and one over tars as clip-retrieval and open_clip read them: images/s of --peer-images
start     seconds from the command to the first code file of 256 and of 64 photos; seconds of `--help`

Measurements take turns over --rounds; medians count. What is done is kept in FOLDER/encode-DEVICE.json, so that a run that was cut
goes on (other shards or numbers of images want another FOLDER); the tables are FOLDER/encode-DEVICE.md.
"""

import argparse
from pathlib import Path

from benchmarks.encode.bench import Bench
from benchmarks.encode.report import write_report

PARTS = ("roofline", "memory", "peers", "start")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", nargs="+")
    parser.add_argument("--weights", default="none")
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--networks", default="resnet50@224,resnet18@160")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--large", type=int, default=600)
    parser.add_argument("--memory-images", type=int, default=100_000)
    parser.add_argument("--peer-images", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder", type=Path, default=Path("bench-encode"))
    arguments = parser.parse_args()
    bench = Bench(arguments.folder, arguments.shards, arguments.weights, arguments.device, arguments.rounds)
    networks = arguments.networks.split(",")
    for part in arguments.only.split(","):
        match part:
            case "roofline":
                bench.roofline(networks, arguments.images, arguments.large)
            case "memory":
                bench.memory(networks[-1], arguments.memory_images)
            case "peers":
                bench.peers(networks, arguments.peer_images)
            case "start":
                bench.start(networks)
            case _:
                parser.error(f"--only {part!r}: the parts are {', '.join(PARTS)}")
    print(write_report(bench.done, bench.kept.with_suffix(".md")))


if __name__ == "__main__":
    main()
