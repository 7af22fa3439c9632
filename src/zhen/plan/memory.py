"""Memory of training on each device, by part, at the moment when most is alive."""

from __future__ import annotations

import msgspec

from zhen.model import size
from zhen.model.config import ModelConfig
from zhen.plan.devices import Device
from zhen.plan.layouts import Layout

CONTEXT_BYTES = 1.5e9
"""What a process has on a GPU before it trains: CUDA's context, the workspaces of cuBLAS, the buffers of NCCL."""

FRAGMENTS = 0.1
"""Share of a GPU that PyTorch's allocator holds but can't hand out (blocks that don't fit): torchtitan's readings are 5
to 17 % above what is alive (`docs/results/plan.md`)."""


LOGIT = 12
"""Bytes of a logit at the loss's backward: its log-softmax, the gradient of the choice and its own, in float32 each.
Compiled on a CPU, it and its gradient alone, in what products run in; on a GPU that was never seen."""


class Memory(msgspec.Struct, frozen=True):
    """Bytes on each device."""

    parts: dict[str, float]
    at: str
    """The moment: the loss, the first layer's backward, the end of the backward, the update."""

    @property
    def total(self) -> float:
        """All parts."""
        return sum(self.parts.values())

    @property
    def largest(self) -> str:
        """The part that takes most."""
        return max(self.parts, key=lambda name: self.parts[name])


def usable(device: Device) -> float:
    """Bytes of a device that training can have."""
    return device.memory * (1 - FRAGMENTS) - CONTEXT_BYTES


def memory(
    config: ModelConfig, layout: Layout, sequence_length: int, accumulates: bool, kept_on_cpu: int | None = None
) -> Memory:
    """Bytes by part on each device of `layout`; `accumulates`: a step has more than one micro-batch.

    Weights are float32, with AdamW's two moments. One device (or plain copies): the products' weights once more in
    bfloat16, by autocast, unless they run in float32. Shards: FSDP2 with bfloat16 weights and float32 gradients, two
    layers gathered and a third one's buffer, embedding and head all the time; gradients in bfloat16 and, to be summed,
    in float32. The moments that are compared: the loss (all activations, logits, their gradient), the first backward of
    a layer (the head's gradient is there), the end (nearly all gradients; the last ones of shards in both formats), the
    update. `kept_on_cpu`: bytes a token and layer from `size.kept_bytes_on_cpu`, for a run on a CPU.
    """
    apart, cut = layout.sharded > 1, layout.tensor
    own = size.parameters(config) / (layout.sharded * cut)
    layer = size.layer_parameters(config) / cut
    head = config.vocab_size * config.hidden_size / cut
    outside = head if config.tie_word_embeddings else 2 * head
    tokens = layout.micro_batch * sequence_length / layout.context / cut
    kept, again, beside = _activations(config, layout, 2 if apart else 4, kept_on_cpu)
    stream = config.num_hidden_layers * tokens * kept
    wide = layout.precision == "float32"
    last = tokens * (config.hidden_size * ((6 if kept_on_cpu is None else 10) + 2 * wide) + 4)
    logit = 4 * (1 + wide) if layout.compiled and kept_on_cpu is not None else LOGIT
    loss = (layout.loss_chunk or tokens * cut) * config.vocab_size * logit / cut
    before = 4 * own * accumulates
    if apart:
        gathered = {"gathered weights": 2 * outside + 3 * 2 * layer}
        few, mine, all_of_it = gathered, 2 * head + 2 * layer, 6 * layer + 6 * outside
    else:
        layers = config.num_hidden_layers if layout.recompute == "none" else 0  # else they are cast again
        gathered = {"bfloat16 copies": 0 if wide else 2 * (layers * layer + head)}
        few, mine = {"bfloat16 copies": 0 if wide else 2 * layer}, 4 * head * (1 - accumulates)
        all_of_it = -4 * layer * (1 - accumulates)  # the first layer's own come when its activations go
    moments = {
        "the loss": gathered | {"activations": stream + last, "logits": loss, "gradients": before},
        "the first layer's backward": gathered
        | {"activations": stream + tokens * (again + beside), "gradients": before + mine},
        "the end": few | {"activations": tokens * (kept + again + beside), "gradients": 4 * own + all_of_it},
        "the update": {"gradients": 4 * own},
    }
    at = max(moments, key=lambda name: sum(moments[name].values()))
    return Memory({"weights": 4 * own, "optimizer": 8 * own, **moments[at]}, at)


def _activations(config: ModelConfig, layout: Layout, stream: int, kept_on_cpu: int | None) -> tuple[int, int, int]:
    """Bytes a token: what each layer keeps; what one layer makes again; what its backward has beside that.

    The most beside it is alive behind silu(gate) · up: the gradients of both and of their product, less what was given
    back by then, 4 bytes of each of the feed-forward width (8 in float32); and the stream's gradient in both formats.
    """
    whole = size.kept_bytes(config, compiled=layout.compiled, stream=stream) if kept_on_cpu is None else kept_on_cpu
    wide = layout.precision == "float32"
    beside = 4 * (1 + wide) * config.intermediate_size + (stream + 2 - 2 * wide) * config.hidden_size
    if layout.recompute == "none":
        return whole, 0, beside
    kept = size.kept_bytes(config, layout.recompute, compiled=layout.compiled, stream=stream)
    return kept, max(0, whole - kept), beside
