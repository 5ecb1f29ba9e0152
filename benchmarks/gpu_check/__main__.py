"""Check everything that can use a GPU on the one at hand: is it right, how fast is it, what is missing.

usage: python -m benchmarks.gpu_check [--out gpu-check] [--only decode-right,encode] [--device cuda:0] [--scale 1.0]

Each stage is a process that is killed at its own limit, all limits together are nine minutes. What a stage finds is printed and
written to OUT/gpu-check.json line by line; the table at the end is OUT/gpu-check.md; stages that
ran in OUT earlier stay in both. The exit code is the number of stages that
failed. Nothing is downloaded. With `--device cpu --scale 0.02` the stages are tried on a CPU as far as they have a meaning there.
docs/GPU.md says what each stage shows, and what a machine needs.
"""

import argparse
import sys
from pathlib import Path

from benchmarks.gpu_check.driver import DONE, run_stages
from benchmarks.gpu_check.stages import STAGES
from benchmarks.gpu_check.table import table_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu-check"))
    parser.add_argument("--only", default=",".join(stage.name for stage in STAGES))
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--scale", type=float, default=1.0)
    arguments = parser.parse_args()
    names = arguments.only.split(",")
    if unknown := set(names) - {stage.name for stage in STAGES}:
        parser.error(f"--only {', '.join(unknown)}: the stages are {', '.join(stage.name for stage in STAGES)}")
    device = arguments.device + ":0" * (arguments.device == "cuda")
    chosen = [stage for stage in STAGES if stage.name in names]
    outcomes = run_stages(chosen, arguments.out, device, arguments.scale)
    table = table_of(outcomes)
    (arguments.out / "gpu-check.md").write_text(table + "\n")
    print(f"\n{table}", flush=True)
    sys.exit(sum(each.ended != DONE for each in outcomes if each.stage in names))


if __name__ == "__main__":
    main()
