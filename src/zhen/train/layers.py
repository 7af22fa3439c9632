"""How a model's layers run in training: compiled or not, and which activations they make again in the backward pass."""

from __future__ import annotations

import functools
import os
import shutil
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts, noop_context_fn

from zhen.errors import ZhenError
from zhen.model.config import ModelConfig
from zhen.model.size import flops_per_token
from zhen.model.transformer import Layer, Transformer
from zhen.train.kernel import attention_kernel
from zhen.train.settings import Recompute, ShardTraining

COMPILED_FROM = 5e13
"""FLOPs of a whole training from which compiling is expected to pay by itself: it takes a quarter of a minute to two on
two cores, which do 10^11 to 10^12 a second. With AVX512-BF16 a third of the time is won (1.3 M parameters, one thread:
32,000 tokens a second against 20,000, won back after 10^13), with AVX2 alone a sixth."""

_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
    torch.ops.aten._scaled_dot_product_cudnn_attention.default,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
    torch.ops.aten._scaled_dot_product_fused_attention_overrideable.default,
}


def compiles(settings: ShardTraining, config: ModelConfig, device: torch.device) -> tuple[bool, str | None]:
    """Whether the layers are compiled; and what is missing to do so, where it would pay and was not forbidden.

    Raises ZhenError where it was asked for and can't be done.
    """
    wanted = settings.compile
    if wanted is None:
        flops = flops_per_token(config, settings.sequence_length) * settings.steps * settings.tokens_per_step
        wanted = (
            flops >= COMPILED_FROM
            and settings.parallel.tensor == settings.parallel.context == 1
            and not settings.invariant
        )
    if not wanted or device.type == "meta":
        return False, None
    lacks = _lacks(device)
    if lacks and settings.compile:
        raise ZhenError(
            lacks,
            expected="what torch.compile needs",
            place=f"{settings.SECTION}.compile",
            hint="install a C++ compiler and Python's headers (python3-dev), or leave compile out",
        )
    return lacks is None, lacks


def _lacks(device: torch.device) -> str | None:
    if device.type != "cpu":
        return None
    if not any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "clang++")):
        return "no C++ compiler"
    headers = Path(sysconfig.get_paths()["include"]) / "Python.h"
    return None if headers.is_file() else f"no {headers}"


def prepare_layers(model: Transformer, *, compiled: bool, recompute: Recompute) -> None:
    """Have each layer and the norm behind them compiled when first called with gradients, and make the layers'
    activations again as `recompute` says.

    All layers share what is compiled. Without gradients they stay as they were: measurements and samples come in many
    shapes, each of which would be compiled. Tensors keep their names.
    """
    if not compiled and recompute == "none":
        return
    for layer in model.model.layers:
        assert isinstance(layer, Layer)
        layer.forward = _for_training(layer.forward, compiled, recompute)  # type: ignore[method-assign]
    if compiled:
        norm = model.model.norm
        norm.forward = _for_training(norm.forward, compiled, "none")  # type: ignore[method-assign]


def _for_training(plain: Callable[..., Tensor], compiled: bool, recompute: Recompute) -> Callable[..., Tensor]:
    called: Callable[..., Any] = plain
    if recompute != "none":
        chosen = _selecting if recompute == "selective" else noop_context_fn
        # nothing random is in a layer
        called = functools.partial(
            checkpoint, functools.partial(_run, plain), use_reentrant=False, preserve_rng_state=False, context_fn=chosen
        )
    fast = torch.compile(called, dynamic=False) if compiled else called

    def forward(*arguments: Any) -> Tensor:
        made: Tensor = (fast if torch.is_grad_enabled() else plain)(*arguments)
        return made

    return forward


def _run(plain: Callable[..., Tensor], x: Tensor, *others: Any) -> Tensor:
    """x [B, T, hidden] -> like x. Autocast is as it was when this is run again, but the choice of a kernel isn't."""
    with attention_kernel(x.device, x.shape[1]):
        return plain(x, *others)


def _selecting() -> Any:
    """Keep attention's output and every second product's: q, v, gate, down (as `zhen plan` counts them). Attention that
    is compiled on a CPU is no operation by itself, and is made again."""
    products = {False: 0, True: 0}

    def policy(context: Any, operation: Any, *_: Any, **__: Any) -> CheckpointPolicy:
        if operation in _ATTENTION:
            return CheckpointPolicy.MUST_SAVE
        if operation is torch.ops.aten.mm.default:
            products[context.is_recompute] += 1
            if products[context.is_recompute] % 2:
                return CheckpointPolicy.MUST_SAVE
        return CheckpointPolicy.PREFER_RECOMPUTE

    return create_selective_checkpoint_contexts(policy)
