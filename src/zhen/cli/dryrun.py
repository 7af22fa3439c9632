"""What `zhen run --dry-run` prints: the resolved recipe, the numbers that follow from it, each stage's state."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from zhen.console import amount, err, out, size, table
from zhen.errors import DONE
from zhen.model import size as sizes
from zhen.model.config import ModelConfig
from zhen.recipe import Recipe, model_config, to_toml
from zhen.run import Planned

RELEASE_FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.model",
    "tokenizer.json",
    "README.md",
    "LICENSE",
    "NOTICE",
    "SHA256SUMS",
)


def show_plan(recipe: Recipe, planned: Sequence[Planned]) -> int:
    """Print the resolved recipe, the numbers that follow from it, and each stage's state."""
    out.print(to_toml(recipe), markup=False, soft_wrap=True, end="")
    out.print()
    out.print(table(("number", "value"), derived_numbers(recipe), title="What follows from it"))
    out.print()
    rows = [(item.stage.name, item.key[:8], item.state, "stages/" + item.folder.name) for item in planned]
    out.print(table(("stage", "key", "state", "folder"), rows, title="What would be done"))
    missing = [item.missing for item in planned if item.missing is not None]
    for error in missing:
        for line in error.lines():
            err.print(line, markup=False, soft_wrap=True)
    return DONE


def derived_numbers(recipe: Recipe) -> list[tuple[str, str]]:
    """Parameters, tokens, FLOPs, memory by part, bytes and files of the model that the recipe makes."""
    config, pretrain = model_config(recipe), recipe.pretrain
    if pretrain is None:
        return _of_tuning(config, recipe)
    if not config.vocab_size and recipe.tokenizer is not None:
        config = msgspec.structs.replace(config, vocab_size=recipe.tokenizer.vocab_size)
    sequence = pretrain.sequence_length
    flops = sizes.flops_per_token(config, sequence, causal=True)
    rows = [
        ("parameters", amount(sizes.parameters(config))),
        ("tensors", amount(sizes.tensors(config))),
        ("training tokens", amount(pretrain.tokens)),
        ("tokens a parameter", f"{pretrain.tokens / sizes.parameters(config):.1f}"),
        ("steps", f"{amount(pretrain.steps)} of {amount(pretrain.tokens_per_step)} tokens"),
        ("FLOPs a token", f"{flops:.3g}"),
        ("FLOPs in all", f"{flops * pretrain.tokens:.3g}"),
        ("key-value cache a token", size(sizes.kv_bytes_per_token(config))),
        ("checkpoint", size(sizes.checkpoint_bytes(config, pretrain.checkpoint_dtype))),
    ]
    micro_batch = pretrain.micro_batch or pretrain.tokens_per_step // sequence
    rows += [
        (f"training memory: {part}", size(count))
        for part, count in sizes.training_memory(config, micro_batch, sequence).items()
    ]
    rows += _of_extending(recipe)
    rows.append(("files of the release", ", ".join(RELEASE_FILES)))
    return rows


def _of_extending(recipe: Recipe) -> list[tuple[str, str]]:
    """What follows from [extend], where it is there."""
    extend = recipe.extend
    if extend is None:
        return []
    sequences = f"{amount(extend.sequences_per_step)} sequences of {amount(extend.sequence_length)} tokens"
    return [("extension: steps", f"{amount(extend.steps)} of {sequences}")]


def _of_tuning(config: ModelConfig, recipe: Recipe) -> list[tuple[str, str]]:
    """The same where a checkpoint of others is extended or tuned."""
    rows = [("parameters", amount(sizes.parameters(config))), ("tensors", amount(sizes.tensors(config)))]
    rows += _of_extending(recipe)
    if (tune := recipe.tune) is not None:
        rows += [
            ("steps", f"{amount(tune.steps)} of {amount(tune.tokens_per_step)} tokens"),
            ("checkpoint", size(sizes.checkpoint_bytes(config, tune.checkpoint_dtype))),
        ]
    rows.append(("files of the release", ", ".join(RELEASE_FILES)))
    return rows
