"""Tensor parallelism: heads, feed-forward width and vocabulary cut over processes, between them the sequence.

By PyTorch's own styles. Matrices are cut by columns, then by rows (Shoeybi et al. 2019, arXiv 1909.08053, section 3);
the residual stream and the norms on it hold a stretch of the sequence each (Korthikanti et al. 2022, arXiv 2205.05198,
section 4.2.2), as a DTensor, so that any length will do, one token too.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)

from zhen.model.transformer import Layer, TiedHead, Transformer

_WHOLE, _STRETCH = Replicate(), Shard(1)


def cut_by_tensor(model: Transformer, mesh: DeviceMesh) -> None:
    """Cut the weights over a mesh of one dimension, in place. What goes in and comes out is whole and plain.

    The model's `problems` with `mesh.size()` processes (`settings.Parallel`) must be none.
    """
    by_columns = ColwiseParallel()
    by_rows = RowwiseParallel(output_layouts=_STRETCH, use_local_output=False)
    plan: dict[str, ParallelStyle] = {
        "model.embed_tokens": RowwiseParallel(input_layouts=_WHOLE, output_layouts=_STRETCH, use_local_output=False),
        "model.layers.*.self_attn.[qkv]_proj": by_columns,
        "model.layers.*.self_attn.o_proj": by_rows,
        "model.layers.*.mlp.gate_proj": by_columns,
        "model.layers.*.mlp.up_proj": by_columns,
        "model.layers.*.mlp.down_proj": by_rows,
        "model.layers.*.*layernorm": SequenceParallel(),
        "model.norm": SequenceParallel(),
        "lm_head": ColwiseParallel(output_layouts=_WHOLE),
    }
    if model.config.tie_word_embeddings:
        del plan["lm_head"]
        model.lm_head = _TiedHead(model.model.embed_tokens)
    # the logits are a view of what was gathered; nothing changes them in place
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor")
    parallelize_module(model, mesh, plan)
    model.model.norm.register_forward_hook(lambda _module, _inputs, output: _gathered(output))
    for layer in model.model.layers:
        assert isinstance(layer, Layer)
        layer.self_attn.key_heads //= mesh.size()
        layer.self_attn.register_forward_pre_hook(_whole_input)
        layer.mlp.register_forward_pre_hook(_whole_input)


class _TiedHead(TiedHead):
    """The same where each process holds some tokens' vectors."""

    def __call__(self, x: Tensor) -> Tensor:
        """[..., hidden], the same on all, -> [..., vocab]."""
        logits = F.linear(x, self.weight)
        assert isinstance(logits, DTensor)
        return _gathered(logits).to_local()


def _gathered(tensor: DTensor) -> DTensor:
    return tensor.redistribute(placements=[_WHOLE])


def _whole_input(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Gather the sequence, once for all the matrices that read it."""
    return _gathered(inputs[0]), *inputs[1:]
