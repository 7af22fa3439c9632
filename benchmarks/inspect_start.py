"""How long `zhen inspect` takes as a whole process, on a 34B model in 60 files: python benchmarks/inspect_start.py."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from zhen.model.config import PRESETS, to_config_json
from zhen.model.size import shapes

SHARDS, RUNS = 60, 15
INDEX = "model.safetensors.index.json"


def make(folder: Path) -> None:
    """Yi-34B's config, index and shards: true headers before a hole of the weights' size."""
    config = PRESETS["yi-34b"]
    names = list(shapes(config).items())
    weight_map = {
        name: f"model-{1 + at * SHARDS // len(names):05d}-of-00060.safetensors" for at, (name, _) in enumerate(names)
    }
    total = 0
    for file in sorted(set(weight_map.values())):
        header, at = {}, 0
        for name, shape in names:
            if weight_map[name] == file:
                size = 2
                for dimension in shape:
                    size *= dimension
                header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + size]}
                at += size
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with (folder / file).open("wb") as opened:
            opened.write(len(text).to_bytes(8, "little") + text)
            opened.truncate(8 + len(text) + at)
        total += at
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}))
    (folder / "config.json").write_text(json.dumps(to_config_json(config, "bfloat16")))


def measured(path: Path) -> tuple[list[float], list[float]]:
    """Seconds of each run, from the start of the process to its end; and those that the processor worked on it."""
    seconds, worked = [], []
    for _ in range(RUNS):
        before, start = os.times(), time.perf_counter()
        subprocess.run([sys.executable, "-m", "zhen", "inspect", str(path)], stdout=subprocess.DEVNULL, check=True)
        after = os.times()
        seconds.append(time.perf_counter() - start)
        used = (after.children_user, after.children_system), (before.children_user, before.children_system)
        worked.append(sum(used[0]) - sum(used[1]))
    return seconds, worked


def main() -> None:
    """Print a row a case: the least, the median and the most seconds of RUNS, and how loaded the machine was."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder)
        whole = measured(folder)
        for shard in folder.glob("*.safetensors"):
            shard.unlink()
        alone = measured(folder)
    print(f"| Yi-34B, {SHARDS} files | least | median | most | of the processor |\n| --- | ---: | ---: | ---: | ---: |")
    for case, (seconds, worked) in (("headers of all files", whole), ("index and config alone", alone)):
        times = (min(seconds), statistics.median(seconds), max(seconds), statistics.median(worked))
        print(f"| {case} | " + " | ".join(f"{one:.2f} s" for one in times) + " |")
    print(f"\nload of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
