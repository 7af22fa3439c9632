"""Packed checkpoints in the engine: memory, numbers, bits in any company, and machines that can't."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from zhen.checkpoint import kept
from zhen.checkpoint.load import load_model
from zhen.infer.engine import Engine, Request, load_engine
from zhen.infer.server import room
from zhen.model.packed import Packed
from zhen.model.packed_kernel import missing
from zhen.model.size import packed_weights
from zhen.model.transformer import Transformer
from zhen.quantize.settings import QuantizeSettings
from zhen.quantize.write import quantise_checkpoint

computes = pytest.mark.skipif(missing() is not None, reason=f"packed weights are not computed with: {missing()}")
IDS = torch.arange(3, 51)[None]
LAYOUTS = [
    {"bits": 4, "group": 32, "head_bits": 8, "embedding_bits": 8},
    {"bits": 8, "group": 32},
    {"bits": 4, "group": 32, "head_bits": 8},
]


@pytest.fixture(scope="module")
def packed(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A function that quantises the small model and returns its folder."""
    done: dict[str, Path] = {}

    def make(**more: Any) -> Path:
        if str(more) not in done:
            work = tmp_path_factory.mktemp("packed")
            settings = QuantizeSettings(**{"method": "rtn"} | more)
            quantise_checkpoint(checkpoint, work / "q", work / "parts", settings, None, lambda *progress: None)
            for file in checkpoint.glob("tokenizer*"):
                shutil.copy(file, work / "q")
            done[str(more)] = work / "q"
        return done[str(more)]

    return make


def held(model: Transformer) -> int:
    """Bytes of all the memory that its tensors lie in."""
    tensors = [*model.parameters(), *model.buffers()]
    for module in model.modules():
        product = getattr(module, "product", None)
        if product is not None and not isinstance(product, torch.nn.Module):
            tensors.append(product.dense())
    real = [tensor for tensor in tensors if not tensor.is_meta]
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in real}.values())


@computes
@pytest.mark.parametrize("layout", LAYOUTS, ids=["4-bits-all", "8-bits", "4-bits-head-8"])
def test_the_engine_holds_what_is_stored_and_the_server_counts_it(packed: Any, layout: dict[str, Any]) -> None:
    folder = packed(**layout)
    engine = load_engine(folder)
    due = packed_weights(engine.model.config, **layout)
    assert held(engine.model) == due
    assert room.plan(folder, batch=2, max_context=None, dtype=None, device=None).weights == due


@computes
@pytest.mark.parametrize("layout", LAYOUTS, ids=["4-bits-all", "8-bits", "4-bits-head-8"])
def test_logits_are_those_of_the_unpacked_model(packed: Any, layout: dict[str, Any]) -> None:
    folder = packed(**layout)
    with torch.inference_mode():
        exact = load_model(folder).double()(IDS)
        plain = load_model(folder)(IDS).double()
        found = load_model(folder, packed=True)(IDS).double()
    # both round between products as bfloat16 does: neither is nearer to the exact numbers
    assert (found - exact).norm() <= 1.2 * (plain - exact).norm()
    assert (found - exact).abs().max() <= 2 * (plain - exact).abs().max()


@computes
def test_an_answer_has_the_same_bits_alone_and_among_others(packed: Any) -> None:
    def ask(engine: Engine, number: int) -> Request:
        prompt = [3 + (number * 7 + at * (number + 3)) % 390 for at in range(1 + number % 5 * 7)]
        return Request(prompt=prompt, max_tokens=12, stop_ids=frozenset(), logprobs=3, drafts=number % 3)

    folder = packed(**LAYOUTS[0])
    together = load_engine(folder)
    among = together.generate([ask(together, number) for number in range(13)])
    for number in (0, 1, 5, 12):
        alone = load_engine(folder, batch=1)
        (answer,) = alone.generate([ask(alone, number)])
        assert answer.tokens == among[number].tokens
        assert answer.logprobs == among[number].logprobs
        assert answer.top == among[number].top


@pytest.mark.parametrize(
    ("options", "lack", "said"),
    [
        ({}, "this CPU has no AVX512-BF16", "this CPU has no AVX512-BF16"),
        ({"dtype": "float32"}, None, "float32 was asked for"),
    ],
)
def test_where_it_can_not_be_done_weights_are_unpacked_and_it_is_said(
    packed: Any, options: dict[str, Any], lack: str | None, said: str, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.setattr(kept, "missing", lambda: lack)
    folder = packed(**LAYOUTS[0])
    model = load_engine(folder, **options).model
    assert not any(isinstance(module, Packed) for module in model.modules())
    assert capsys.readouterr().err == f"weights stored in few bits are computed with unpacked: {said}\n"
    planned = room.plan(folder, batch=2, max_context=None, dtype=options.get("dtype"), device=None)
    assert planned.weights == held(model)


@computes
def test_matrices_in_odd_groups_are_unpacked_alone(packed: Any, capsys: Any) -> None:
    model = load_model(packed(bits=4, group=48), packed=True)
    assert type(model.model.layers[0].mlp.up_proj) is Packed
    assert type(model.model.layers[0].mlp.down_proj) is not Packed
    assert capsys.readouterr().err.endswith(": 2 matrices are in groups of 48\n")


def test_a_model_to_train_on_is_unpacked(packed: Any) -> None:
    assert all(parameter.is_floating_point() for parameter in load_model(packed(**LAYOUTS[0])).parameters())
