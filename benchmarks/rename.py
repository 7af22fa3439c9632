"""`zhen rename` beside what people do instead: `python benchmarks/rename.py [--gigabytes 4] [--folder FOLDER]`.

Every time is that of a process of its own, without its imports, until the last byte is on the disk (fsync of files and
folder counted), with the source in the system's page cache, as reading leaves it there. Needs about four times the size
as free space.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zhen.checkpoint.names import rename
from zhen.checkpoint.proof import cores, hash_tensors
from zhen.checkpoint.rename import Wanted, rename_checkpoint
from zhen.checkpoint.safetensors import read_header
from zhen.checkpoint.writer import write_sharded
from zhen.console import out as screen
from zhen.console import size, table
from zhen.model.config import ModelConfig, to_config_json
from zhen.model.size import shapes

SHARD_BYTES = 2_000_000_000
ROUNDS = 3
SMALL = 1.0
"""Gigabytes of the checkpoint that the growth with size is measured from."""


def make(folder: Path, gigabytes: float) -> None:
    """A checkpoint of Yi's first names in bfloat16, random bits."""
    width, inner, vocabulary = 2048, 5632, 32000
    layer = 4 * width * width + 3 * width * inner
    layers = -(-int(gigabytes * 1e9 / 2 - 2 * vocabulary * width) // layer)
    config = ModelConfig(
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=16,
        num_key_value_heads=16,
        head_dim=128,
        vocab_size=vocabulary,
        max_position_embeddings=4096,
    )
    random = np.random.default_rng(1)
    yi = rename(shapes(config), "llama", "yi")
    tensors = [
        (yi[name], "BF16", shape, lambda shape=shape: random.bytes(2 * int(np.prod(shape))))
        for name, shape in shapes(config).items()
    ]
    folder.mkdir(parents=True)
    write_sharded(folder, tensors, SHARD_BYTES)
    (folder / "config.json").write_text(json.dumps(to_config_json(config, "bfloat16")))


def durable(folder: Path) -> None:
    """Sync every file of a folder, and the folder."""
    for path in [*folder.iterdir(), folder]:
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)


def by_zhen(source: Path, out: Path | None, verify: bool) -> dict[str, Any]:
    """Our rename, from Yi's names to LLaMA's; in place without `out`."""
    done = rename_checkpoint(source, Wanted("llama", out=out, in_place=out is None, verify=verify))
    return {
        "seconds": done.seconds,
        "proof": done.seconds_of_proof,
        "written": done.bytes_written,
    }


def by_safetensors(source: Path, out: Path) -> dict[str, Any]:
    """safetensors' own load_file and save_file, file by file."""
    from safetensors.torch import load_file, save_file

    started = time.monotonic()
    out.mkdir()
    for file in sorted(source.glob("*.safetensors")):
        tensors = load_file(file)
        new = rename(tensors, "yi", "llama")
        save_file({new[name]: tensor for name, tensor in tensors.items()}, out / file.name, {"format": "pt"})
    durable(out)
    return {"seconds": time.monotonic() - started}


def by_transformers(source: Path, out: Path) -> dict[str, Any]:
    """transformers' from_pretrained and save_pretrained. The source has LLaMA's names, which it reads."""
    from transformers import LlamaForCausalLM

    started = time.monotonic()
    model = LlamaForCausalLM.from_pretrained(source, dtype="bfloat16")
    model.save_pretrained(out)
    durable(out)
    return {"seconds": time.monotonic() - started}


def by_cp(source: Path, out: Path) -> dict[str, Any]:
    """`cp -r`, and then the sync that it leaves to others."""
    started = time.monotonic()
    subprocess.run(["cp", "-r", source, out], check=True)
    durable(out)
    return {"seconds": time.monotonic() - started}


def by_hash(source: Path, out: Path) -> dict[str, Any]:
    """One half of the proof, between two measurements of what the cores hash from memory at the same time."""
    tensors = [tensor for file in source.glob("*.safetensors") for tensor in read_header(file).tensors.values()]
    before = sha256_rate()
    started, used = time.monotonic(), time.process_time()
    hash_tensors(tensors)
    seconds, used = time.monotonic() - started, time.process_time() - used
    after = sha256_rate()
    size = sum(tensor.end - tensor.begin for tensor in tensors)
    return {
        "seconds": seconds,
        "rate": size / seconds,
        "of_rate": size / seconds / statistics.mean((before[0], after[0])),
        "of_processor": size / used / statistics.mean((before[1], after[1])),
    }


def sha256_rate(seconds: float = 1.0) -> tuple[float, float]:
    """Bytes that all cores hash together from memory, a second and a second of processor time."""
    piece, counts = bytes(1 << 18), [0] * cores()
    end = time.monotonic() + seconds

    def work(number: int) -> None:
        digest = hashlib.sha256()
        while time.monotonic() < end:
            digest.update(piece)
            counts[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(counts))]
    started, used = time.monotonic(), time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done = sum(counts) * len(piece)
    return done / (time.monotonic() - started), done / (time.process_time() - used)


WAYS: dict[str, Callable[[Path, Path], dict[str, Any]]] = {
    "in-place": lambda source, out: by_zhen(source, None, verify=False),
    "in-place-proof": lambda source, out: by_zhen(source, None, verify=True),
    "copy": lambda source, out: by_zhen(source, out, verify=False),
    "safetensors": by_safetensors,
    "transformers": by_transformers,
    "cp": by_cp,
    "hash": by_hash,
}


def measured(way: str, source: Path, out: Path) -> dict[str, Any]:
    """One way in a process of its own, after the disk has come to rest and the source was read once."""
    shutil.rmtree(out, ignore_errors=True)
    os.sync()
    for file in source.glob("*.safetensors"):
        with file.open("rb", buffering=0) as opened:
            while opened.read(1 << 24):
                pass
    command = [sys.executable, __file__, "--way", way, str(source), str(out)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def one_way(way: str, source: Path, out: Path) -> None:
    """What `measured` starts: prints seconds, peak memory, bytes that the system was given to write."""
    made = WAYS[way](source, out)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    written = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    made["peak"] = int(status["VmHWM"].split()[0]) * 1024
    made["to_disk"] = int(written["write_bytes"])
    print(json.dumps(made))


def in_place(base: Path, work: Path, way: str = "in-place", drop: bool = True) -> dict[str, Any]:
    """Renamed in place, on a fresh copy each time: a header that has grown once has room for the next.

    The copy is dropped from the cache, and then read. Without `drop` its pages are those that `cp` wrote, one by one.
    """
    shutil.rmtree(work, ignore_errors=True)
    by_cp(base, work)
    for file in work.glob("*.safetensors") if drop else ():
        with file.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return measured(way, work, work.with_name("none"))


def main(gigabytes: float, folder: Path) -> None:
    """Measure, and print one table of times and one of ratios, each with its bar."""
    base, small, work, out = (folder / name for name in ("base", "small", "work", "out"))
    folder.mkdir(parents=True, exist_ok=True)
    make(base, gigabytes)
    make(small, SMALL)
    files = list(base.glob("*.safetensors"))
    data = sum(file.stat().st_size for file in files)
    screen.print(f"{size(data)} in {len(files)} files, {cores()} cores, load {os.getloadavg()[0]:.1f}")
    rounds: dict[str, list[dict[str, Any]]] = {way: [] for way in ("copy", "cp", "safetensors", "transformers", "hash")}
    own: dict[str, list[dict[str, Any]]] = {"just written": [], "small": [], "large": []}
    llama = folder / "llama"
    for _ in range(ROUNDS):
        own["just written"].append(in_place(base, work, drop=False))
        own["small"].append(in_place(small, work))
        own["large"].append(in_place(base, work))
        shutil.rmtree(llama, ignore_errors=True)
        os.replace(work, llama)
        for way, found in rounds.items():
            found.append(measured(way, llama if way == "transformers" else base, out))
    shutil.rmtree(out, ignore_errors=True)
    shutil.rmtree(llama)
    proven = in_place(base, work, "in-place-proof")
    names = {
        "large": "in place",
        "small": f"in place, {SMALL:g} GB",
        "just written": "in place, just written by cp",
        "copy": "copy",
        "cp": "cp -r, and sync",
        "safetensors": "safetensors, load and save",
        "transformers": "transformers, load and save",
        "hash": "every tensor's SHA-256, once",
    }
    everything = own | rounds
    times = [
        (label, f"{_best(everything[way]):.3f}", f"{_median(everything[way]):.3f}") for way, label in names.items()
    ]
    screen.print(table((f"seconds, {ROUNDS} rounds", "best", "median"), times))
    best = _best(own["large"])
    peak = max(found["peak"] for found in (*own["large"], *rounds["copy"], proven))
    written, hashed = own["large"][-1], max(rounds["hash"], key=lambda found: found["of_rate"])
    rows = [
        ("transformers / in place", f"{_best(rounds['transformers']) / best:.1f}", "≥ 40"),
        ("safetensors / in place", f"{_best(rounds['safetensors']) / best:.1f}", "≥ 20"),
        (f"in place, {gigabytes:g} GB less {SMALL:g} GB", f"{best - _best(own['small']):+.3f} s", "≤ 0.05 s"),
        ("copy / cp", f"{_best(rounds['copy']) / _best(rounds['cp']):.2f}", "≤ 1.1"),
        ("proof / SHA-256 from memory", f"{hashed['of_rate']:.0%} ({size(hashed['rate'])}/s)", "≥ 80 %"),
        ("the same by processor time", f"{hashed['of_processor']:.0%}", ""),
        ("proof in place, half of it from disk", f"{proven['proof']:.1f} s of {proven['seconds']:.1f} s", ""),
        ("written: headers, journal, small files", size(written["written"]), ""),
        ("the same as the system counts it", size(written["to_disk"]), ""),
        ("peak memory, all of VmHWM", size(peak), "< 100 MB"),
    ]
    screen.print(table(("", "found", "bar"), rows))
    shutil.rmtree(folder)


def _best(found: Sequence[dict[str, Any]]) -> float:
    return float(min(item["seconds"] for item in found))


def _median(found: Sequence[dict[str, Any]]) -> float:
    return float(statistics.median(item["seconds"] for item in found))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=4.0)
    parser.add_argument("--folder", type=Path, default=Path("rename-benchmark"))
    parser.add_argument("--way", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.way:
        one_way(given.way[0], Path(given.way[1]), Path(given.way[2]))
    else:
        main(given.gigabytes, given.folder)
