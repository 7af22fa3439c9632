"""A model whose sequences four processes share by two or all together, beside itself on one; a program.

Reads a case a line (JSON), prints its errors: of logits, of gradients; and what autograd keeps, as a share of one's.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from zhen.model.config import ModelConfig
from zhen.model.transformer import Transformer, initialise
from zhen.train.context import SharedSequences

SIZE = 4


def kept(run: Callable[[], Tensor]) -> tuple[Tensor, int]:
    """What `run` gives, and the bytes of the tensors that its backward waits for."""
    storages: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        found = run()
    return found, sum(storages.values())


def errors(case: dict[str, Any], context: SharedSequences) -> list[float]:
    """Of logits (absolute), of gradients (of a tensor's largest); bytes kept here as a share of one process's."""
    length = case["chunk"] * 2 * context.size
    config = ModelConfig(
        vocab_size=50,
        hidden_size=case["heads"] * case["head_dim"],
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=case["heads"],
        num_key_value_heads=case["key_heads"],
        head_dim=case["head_dim"],
        max_position_embeddings=length,
    )
    model = Transformer(config)
    initialise(model, seed=case["seed"])
    generator = torch.Generator().manual_seed(case["seed"])
    tokens = torch.randint(0, 50, (case["batch"], length), generator=generator)
    starts = torch.rand(tokens.shape, generator=generator) < 0.2 if case["documents"] else None
    weights = torch.randn(*tokens.shape, 50, generator=generator)
    one, by_one = kept(lambda: model(tokens, document_starts=starts))
    (one * weights).sum().backward()
    expected = [parameter.grad for parameter in model.parameters()]
    model.zero_grad()
    ours, by_ours = kept(lambda: model(context.own(tokens), context.part(length), document_starts=starts))
    (ours * context.own(weights)).sum().backward()
    off = 0.0
    for parameter, whole in zip(model.parameters(), expected, strict=True):
        dist.all_reduce(parameter.grad, group=context.group)
        off = max(off, float((parameter.grad - whole).abs().max() / whole.abs().max()))
    return [float((ours - context.own(one)).abs().max()), off, by_ours / by_one]


def main() -> None:
    """Process 0 reads and prints; the others follow it."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        rank = next((at for at in range(1, SIZE) if os.fork() == 0), 0)
        dist.init_process_group("gloo", store=dist.FileStore(f"{folder}/store", SIZE), rank=rank, world_size=SIZE)
        pairs = [dist.new_group([0, 1]), dist.new_group([2, 3])]
        contexts = {2: SharedSequences(pairs[rank // 2]), 4: SharedSequences(dist.group.WORLD)}
        while True:
            given = [sys.stdin.readline() if rank == 0 else None]
            dist.broadcast_object_list(given)
            if not given[0]:
                break
            case = json.loads(given[0])
            own = torch.tensor(errors(case, contexts[case["processes"]]))
            dist.all_reduce(own, dist.ReduceOp.MAX)
            if rank == 0:
                print(json.dumps(own.tolist()), flush=True)
        dist.barrier()
    if rank:
        os._exit(0)


if __name__ == "__main__":
    main()
