"""How layers run in training changes memory and time, not what is learnt: compiled, made again, losses in chunks."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import msgspec
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from zhen.errors import Interrupted, ZhenError
from zhen.model.causal import MOST_BLOCKS, SMALLEST_BLOCK, causal_attention
from zhen.model.config import PRESETS, ModelConfig
from zhen.model.transformer import Transformer, initialise
from zhen.train import layers
from zhen.train.batch import Batch
from zhen.train.kernel import same_bits
from zhen.train.layers import compiles, prepare_layers
from zhen.train.loop import CrossEntropy, accumulate
from zhen.train.settings import PretrainSettings

# PyTorch warns of its own doings where its compiler is imported
pytestmark = pytest.mark.filterwarnings("ignore")

LENGTH = SMALLEST_BLOCK + 24
SETTINGS = PretrainSettings(
    tokens=10 * LENGTH, tokens_per_step=LENGTH, sequence_length=LENGTH, learning_rate=1e-2, warmup_steps=0
)


def small(tied: bool = False) -> ModelConfig:
    return msgspec.structs.replace(
        PRESETS["micro"], vocab_size=90, num_hidden_layers=2, max_position_embeddings=LENGTH, tie_word_embeddings=tied
    )


def fresh(config: ModelConfig) -> Transformer:
    model = Transformer(config)
    initialise(model, 1)
    return model


def batch_of(rows: int, length: int = LENGTH) -> Batch:
    generator = torch.Generator().manual_seed(rows)
    tokens = torch.randint(0, 90, (rows, length + 1), generator=generator)
    mask = torch.rand((rows, length), generator=generator) < 0.8
    return Batch(tokens[:, :-1], tokens[:, 1:], mask, torch.zeros_like(mask))


def learnt(model: Transformer, loss: CrossEntropy, dtype: torch.dtype, length: int = LENGTH) -> list[Tensor]:
    """The loss of a batch in two micro-batches, and the gradients."""
    with same_bits():
        value, _ = accumulate(model, batch_of(4, length), micro_batch=2, dtype=dtype, loss=loss)
    return [value, *(parameter.grad for parameter in model.parameters())]


def attention_inputs(length: int, groups: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """q, k and v of 4 heads of 16, so many to a key head, and a gradient for what comes out."""
    generator = torch.Generator().manual_seed(length)
    heads = (4, 4 // groups, 4 // groups, 4)
    q, k, v, into = (torch.randn((2, each, length, 16), generator=generator).to(dtype) for each in heads)
    return [*(given.requires_grad_() for given in (q, k, v)), into]


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("length", [1, 7, SMALLEST_BLOCK, 2 * SMALLEST_BLOCK + 5, SMALLEST_BLOCK * MOST_BLOCKS + 3])
def test_the_own_attention_is_pytorchs_forward_and_backward(groups: int, length: int) -> None:
    *given, into = attention_inputs(length, groups)
    plain = F.scaled_dot_product_attention(*given, is_causal=True, enable_gqa=True)
    ours = causal_attention(*given)
    torch.testing.assert_close(ours, plain)
    for one, other in zip(torch.autograd.grad(ours, given, into), torch.autograd.grad(plain, given, into), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_in_bfloat16_the_own_attention_is_about_as_near_to_the_exact_one_as_pytorchs() -> None:
    *given, into = attention_inputs(2 * SMALLEST_BLOCK + 5, 2, torch.bfloat16)
    exact = [tensor.detach().float().requires_grad_() for tensor in given]
    true = F.scaled_dot_product_attention(*exact, is_causal=True, enable_gqa=True)
    plain = F.scaled_dot_product_attention(*given, is_causal=True, enable_gqa=True)
    ours = causal_attention(*given)
    assert ours.dtype == torch.bfloat16
    expected = [true, *torch.autograd.grad(true, exact, into.float())]
    theirs, found = ([made, *torch.autograd.grad(made, given, into)] for made in (plain, ours))
    for due, other, one in zip(expected, theirs, found, strict=True):
        assert (one - due).norm() <= 2 * (other - due).norm()


def test_scores_of_any_size_overflow_nowhere_and_nothing_looks_ahead() -> None:
    q, k, v, _ = attention_inputs(2 * SMALLEST_BLOCK, 2)
    with torch.no_grad():
        assert torch.isfinite(causal_attention(1e4 * q, 1e4 * k, v)).all()
        before, cut = causal_attention(q, k, v), SMALLEST_BLOCK + 9
        for changed in (k, v):
            changed[:, :, cut:] = 1e6
        assert torch.equal(causal_attention(q, k, v)[:, :, :cut], before[:, :, :cut])


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("chunk", [1, 100, 10_000])
def test_the_loss_in_chunks_is_the_plain_one(chunk: int, tied: bool) -> None:
    plain = learnt(fresh(small(tied)), CrossEntropy(), torch.float32)
    for one, other in zip(learnt(fresh(small(tied)), CrossEntropy(chunk=chunk), torch.float32), plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("length", [32, LENGTH])  # two kernels of attention
@pytest.mark.parametrize("recompute", ["selective", "full"])
def test_activations_made_again_give_the_same_bits(recompute: layers.Recompute, length: int) -> None:
    plain = learnt(fresh(small()), CrossEntropy(), torch.bfloat16, length)
    model = fresh(small())
    prepare_layers(model, compiled=False, recompute=recompute)
    for one, other in zip(learnt(model, CrossEntropy(), torch.bfloat16, length), plain, strict=True):
        assert torch.equal(one, other)


def test_less_is_kept_the_more_is_made_again() -> None:
    kept = {}
    for recompute in ("none", "selective", "full"):
        model, sizes = fresh(small()), []
        prepare_layers(model, compiled=False, recompute=recompute)
        weights = {parameter.data_ptr() for parameter in model.parameters()}

        def note(tensor: Tensor, sizes: list[int] = sizes, weights: set[int] = weights) -> Tensor:
            sizes.append(0 if tensor.data_ptr() in weights else tensor.nbytes)
            return tensor

        # what a checkpoint keeps is behind hooks of its own, so the layers' inputs are what is seen of "full"
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            model(batch_of(2).tokens)
        kept[recompute] = sum(sizes)
    assert kept["full"] <= kept["selective"] < kept["none"]


def test_compiled_is_eager_to_rounding_in_one_graph_for_all_layers_and_the_same_bits_again() -> None:
    graphs = torch._dynamo.utils.counters["stats"]
    plain = learnt(fresh(small()), CrossEntropy(), torch.float32)
    model = fresh(small())
    prepare_layers(model, compiled=True, recompute="none")
    assert model.state_dict().keys() == fresh(small()).state_dict().keys()
    before = graphs["unique_graphs"]
    with torch.no_grad():
        model(batch_of(1).tokens)  # measured as it is
    assert graphs["unique_graphs"] == before
    compiled = learnt(model, CrossEntropy(compiled=True), torch.float32)
    assert graphs["unique_graphs"] == before + 4  # one for the layers, one for the norm behind them, two for the loss
    for one, other in zip(compiled, plain, strict=True):
        assert (one - other).norm() <= 1e-5 * other.norm()
    torch._dynamo.reset()  # as in a process that goes on where another was killed
    model.zero_grad()
    again = learnt(model, CrossEntropy(compiled=True), torch.float32)
    assert all(torch.equal(one, other) for one, other in zip(again, compiled, strict=True))


def test_a_compiled_training_goes_on_after_a_stop_as_if_there_had_been_none(
    small_run: ModuleType, inputs: Path, tmp_path: Path
) -> None:
    how = {"tokens": 4 * 256, "compile": True, "recompute": "selective", "dtype": "float32", "keep_steps": ()}
    whole = small_run.context_for(inputs, tmp_path / "whole", **how)
    plain = small_run.context_for(inputs, tmp_path / "plain", **how | {"compile": False})
    compiled, eager = (small_run.run(context)["train_loss"].value for context in (whole, plain))
    assert compiled == pytest.approx(eager, rel=1e-5)
    torch._dynamo.reset()
    line = small_run.Line()
    with pytest.raises(Interrupted):
        small_run.run(
            small_run.context_for(inputs, tmp_path / "stopped", line=line, stop=lambda: len(line.events) > 2, **how)
        )
    torch._dynamo.reset()
    resumed = small_run.context_for(inputs, tmp_path / "stopped", **how)
    small_run.run(resumed)
    assert "resumed" in [event.kind for event in resumed.events]
    assert small_run.results(resumed) == small_run.results(whole)


def test_what_is_compiled_by_default_depends_on_the_work_and_not_on_luck(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, config = torch.device("cpu"), small()
    long = msgspec.structs.replace(SETTINGS, tokens=10**15)
    assert compiles(SETTINGS, config, cpu) == (False, None)
    assert compiles(long, config, cpu) == (True, None)
    assert compiles(msgspec.structs.replace(long, compile=False), config, cpu) == (False, None)
    assert compiles(msgspec.structs.replace(long, invariant=True), config, cpu) == (False, None)
    monkeypatch.setattr(layers.shutil, "which", lambda name: None)
    assert compiles(long, config, cpu) == (False, "no C++ compiler")
    with pytest.raises(ZhenError, match=r"no C\+\+ compiler; expected what torch.compile needs"):
        compiles(msgspec.structs.replace(SETTINGS, compile=True), config, cpu)


def test_settings_that_cannot_be_are_refused() -> None:
    found = msgspec.structs.replace(SETTINGS, invariant=True, micro_batch=1, compile=True)
    assert [field for field, _, _ in found.problems()] == ["invariant"]
    cut = msgspec.structs.replace(SETTINGS.parallel, tensor=2)
    for changed in ({"recompute": "full"}, {"loss_chunk": 9}, {"compile": True}):
        found = msgspec.structs.replace(SETTINGS, parallel=cut, **changed)
        assert [field for field, _, _ in found.problems()] == ["parallel.tensor"]
