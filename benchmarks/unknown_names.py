"""How often an unknown naming is read rightly: `python benchmarks/unknown_names.py HELD_OUT CHECKPOINT…`.

Each checkpoint gets opaque random names (letters that mean nothing, in a random order, over random shards; config.json
gone or cut down to sizes), and must be read back with a text of HELD_OUT (a folder of documents as `data.write` keeps
them) at hand. Certain and wrong must never happen.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import string
import sys
import tempfile
from collections import Counter
from pathlib import Path
from time import perf_counter

import pyarrow.parquet as pq
import torch

from zhen.checkpoint.by_loss import TextLosses
from zhen.checkpoint.reader import INDEX, open_checkpoint
from zhen.checkpoint.unknown import Inference, infer
from zhen.checkpoint.writer import write_safetensors
from zhen.tokenizer.load import load_tokenizer

SIZES = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "max_position_embeddings",
    "rms_norm_eps",
    "rope_theta",
)
SURE_SHARE, LISTED = 0.9, 4


def disguised(source: Path, folder: Path, chance: random.Random) -> dict[str, str]:
    """Write `source` under opaque names; returns new name -> LLaMA's."""
    checkpoint = open_checkpoint(source)
    beginning, style = _word(chance), chance.randrange(3)
    parts: dict[str, str] = {}
    names = {}
    for name in checkpoint.tensors:
        pieces = name.split(".")
        number = next((piece for piece in pieces if piece.isdigit()), "")
        part = parts.setdefault(name.replace(f".{number}.", ".N.") if number else name, _word(chance))
        layered = (f"{beginning}.{number}.{part}", f"{beginning}{number}_{part}", f"{part}-{number}")[style]
        names[layered if number else part] = name
    shuffled = list(names)
    chance.shuffle(shuffled)
    shards = chance.randint(1, 3)
    weight_map: dict[str, str] = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        chosen = shuffled[shard::shards]
        tensors = [(new, *checkpoint.tensors[names[new]][1:3], checkpoint.read(names[new])) for new in chosen]
        write_safetensors(folder / file, tensors, {})
        weight_map |= dict.fromkeys(chosen, file)
    total = sum(tensor.end - tensor.begin for tensor in checkpoint.tensors.values())
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}))
    if chance.random() < 0.5:
        config = {key: value for key, value in (checkpoint.config or {}).items() if key in SIZES}
        (folder / "config.json").write_text(json.dumps(config))
    return names


def _word(chance: random.Random) -> str:
    return "".join(chance.choices(string.ascii_lowercase, k=chance.randint(3, 7)))


def texts_of(folder: Path, chance: random.Random) -> list[str]:
    """Documents in a random order."""
    found = [text for file in sorted(folder.glob("*.parquet")) for text in pq.read_table(file)["text"].to_pylist()]
    return chance.sample(found, len(found))


def outcome(found: Inference, names: dict[str, str]) -> str:
    """What became of one disguise."""
    right = next((place for place, each in enumerate(found.maps) if each == names), None)
    if found.certain:
        return "certain and right" if right == 0 else "certain and wrong"
    if right is None:
        return "open, the right map not listed"
    return "open, the right map the first listed" if right == 0 else "open, the right map listed"


def main() -> int:
    """Run all disguises and print the table; 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("held_out", type=Path)
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--disguises", type=int, default=500)
    parser.add_argument("--first", type=int, default=0, help="number of the first disguise, to share them out")
    options = parser.parse_args()
    torch.set_num_threads(1)
    counts: Counter[str] = Counter()
    by_model: dict[str, Counter[str]] = {str(path): Counter() for path in options.checkpoints}
    began = perf_counter()
    for number in range(options.first, options.first + options.disguises):
        source = options.checkpoints[number % len(options.checkpoints)]
        chance = random.Random(number)
        with tempfile.TemporaryDirectory() as folder:
            names = disguised(source, Path(folder), chance)
            checkpoint = open_checkpoint(folder)
            losses = TextLosses(checkpoint, load_tokenizer(source), texts_of(options.held_out, chance))
            found = infer(checkpoint, losses)
        result = outcome(found, names)
        counts[result] += 1
        by_model[str(source)][result] += 1
        if result != "certain and right":
            print(f"{number} {source}: {result}; {'; '.join(each.text for each in found.evidence)}; {found.open}")
    print(f"{options.disguises} disguises, {(perf_counter() - began) / options.disguises:.2f} s each")
    for result, count in counts.most_common():
        print(f"{count:6} {result}")
    for path, each in by_model.items():
        print(f"  {path}: {dict(each)}")
    good = counts["certain and right"] >= math.ceil(SURE_SHARE * options.disguises)
    return 0 if good and not counts["certain and wrong"] and not counts["open, the right map not listed"] else 1


if __name__ == "__main__":
    sys.exit(main())
