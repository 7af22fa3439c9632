"""Memory: what is really alive in our own training step, by torch's tracker and by counting, against the formula."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from functools import partial
from typing import Any

import msgspec
import pytest
import torch
import torch.distributed as dist
from torch.distributed._tools.mem_tracker import MemTracker
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from zhen.model import size
from zhen.model.attention import attends_in_float32
from zhen.model.config import PRESETS, ModelConfig
from zhen.model.transformer import Transformer, initialise
from zhen.plan.devices import DEVICES
from zhen.plan.layouts import Layout, layouts
from zhen.plan.memory import memory, usable
from zhen.train.batch import Batch
from zhen.train.kernel import precision as products_in
from zhen.train.layers import prepare_layers
from zhen.train.loop import accumulate, clip_gradient, summed_loss
from zhen.train.optimizer import Optimizer
from zhen.train.settings import PretrainSettings


def shape(hidden: int, ffn: int, layers: int, heads: int, keys: int, vocab: int, tied: bool = False) -> ModelConfig:
    return ModelConfig(
        hidden_size=hidden,
        intermediate_size=ffn,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=keys,
        vocab_size=vocab,
        max_position_embeddings=1024,
        tie_word_embeddings=tied,
    )


def fresh(config: ModelConfig) -> Transformer:
    model = Transformer(config)
    initialise(model, 1)
    return model


def batch_of(rows: int, length: int) -> Batch:
    zeros = torch.zeros(rows, length, dtype=torch.long)
    return Batch(zeros, zeros, zeros == 0, zeros == 1)


class Alive(TorchDispatchMode):
    """Bytes of the tensors given to it or made under it that are alive at once, at most."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._live: dict[int, int] = {}

    def see(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        if (key := storage._cdata) not in self._live:
            self._live[key] = storage.nbytes()
            self.now += storage.nbytes()
            weakref.finalize(storage, self._gone, key)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves((args, kwargs, out)):
            # a distributed tensor's own storage is not there; its local part comes by itself
            if isinstance(leaf, torch.Tensor) and not hasattr(leaf, "to_local"):
                self.see(leaf)
        self.most = max(self.most, self.now)
        return out

    def _gone(self, key: int) -> None:
        self.now -= self._live.pop(key, 0)


def peak(
    config: ModelConfig,
    rows: int,
    length: int,
    parts: int,
    model: Transformer | None = None,
    dtype: torch.dtype = torch.bfloat16,
) -> int:
    """Most that is alive in a step of ours, the optimizer's state being there."""
    model, batch = model or fresh(config), batch_of(rows * parts, length)
    settings = PretrainSettings(
        tokens=10**6, tokens_per_step=rows * parts * length, sequence_length=length, learning_rate=1e-3
    )
    optimizer = Optimizer(model, settings)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step(0.0)
    with Alive() as alive:
        for tensor in [*model.parameters(), *optimizer.tensors().values()]:
            alive.see(tensor)
        accumulate(model, batch, micro_batch=rows, dtype=dtype)
        clip_gradient(optimizer, 1.0)
        optimizer.step(1e-3)
    return alive.most


def every_second_product() -> Any:
    """What torchtitan's selective way keeps: attention's output and every second product's."""
    products = {False: 0, True: 0}

    def policy(context: Any, operation: Any, *given: Any, **named: Any) -> CheckpointPolicy:
        if "scaled_dot_product" in str(operation):
            return CheckpointPolicy.MUST_SAVE
        if operation is torch.ops.aten.mm.default:
            products[context.is_recompute] += 1
            if products[context.is_recompute] % 2:
                return CheckpointPolicy.MUST_SAVE
        return CheckpointPolicy.PREFER_RECOMPUTE

    return create_selective_checkpoint_contexts(policy)


def recomputing(config: ModelConfig, recompute: str) -> Transformer:
    """A model whose layers keep only some of their activations."""
    model = fresh(config)
    for layer in model.model.layers:
        some = {"context_fn": every_second_product} if recompute == "selective" else {}
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False, **some)
    return model


def expected(config: ModelConfig, layout: Layout, length: int, parts: int) -> float:
    in_float32 = attends_in_float32(torch.device("cpu"), length, True)
    kept = size.kept_bytes_on_cpu(config, length, in_float32, layout.precision)
    return memory(config, layout, length, parts > 1, kept).total


@pytest.mark.parametrize(
    ("config", "rows", "length", "parts"),
    [
        (shape(64, 176, 4, 4, 2, 500), 2, 300, 1),
        (shape(64, 176, 4, 4, 2, 500), 2, 300, 2),
        (shape(64, 176, 4, 4, 2, 1536, tied=True), 2, 256, 1),
        (shape(64, 176, 4, 4, 4, 300), 3, 128, 2),
        (shape(192, 512, 3, 3, 1, 50), 1, 300, 1),
        (shape(256, 704, 2, 4, 1, 50), 1, 280, 1),
    ],
)
@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_memory_is_what_is_alive_in_a_step(
    config: ModelConfig, rows: int, length: int, parts: int, precision: Any
) -> None:
    due = peak(config, rows, length, parts, dtype=getattr(torch, precision))
    layout = Layout(micro_batch=rows, compiled=False, precision=precision)
    assert expected(config, layout, length, parts) == pytest.approx(due, rel=0.05)


@pytest.mark.parametrize("recompute", ["selective", "full"])
@pytest.mark.parametrize(
    ("config", "rows", "parts"),
    [
        (shape(128, 352, 4, 4, 2, 500), 2, 1),
        (shape(128, 352, 5, 4, 2, 500), 2, 2),
        (shape(96, 256, 3, 3, 3, 900), 2, 2),
    ],
)
def test_memory_is_what_is_alive_where_activations_are_computed_again(
    config: ModelConfig, rows: int, parts: int, recompute: Any
) -> None:
    due = peak(config, rows, 300, parts, recomputing(config, recompute))
    layout = Layout(micro_batch=rows, compiled=False, recompute=recompute)
    assert expected(config, layout, 300, parts) == pytest.approx(due, rel=0.05)


@pytest.mark.filterwarnings("ignore")  # PyTorch's compiler warns of its own doings
@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_a_compiled_layer_keeps_what_is_planned(precision: Any) -> None:
    config, rows, length = shape(128, 352, 6, 4, 2, 90), 4, 300
    model, kept = fresh(config), {}
    prepare_layers(model, compiled=True, recompute="none")
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    noting = torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor)
    with products_in(torch.device("cpu"), getattr(torch, precision), length), noting:
        logits = model(batch_of(rows, length).tokens)
    assert logits.shape == (rows, length, 90)
    planned = size.kept_bytes_on_cpu(config, length, False, precision, compiled=True)
    outside = (4 if precision == "bfloat16" else 8) * config.hidden_size  # the last norm's
    matrices = config.num_hidden_layers * size.layer_parameters(config) + config.vocab_size * config.hidden_size
    casts = 2 * matrices if precision == "bfloat16" else 0
    whole = rows * length * (config.num_hidden_layers * planned + outside) + casts
    assert whole == pytest.approx(sum(kept.values()), rel=0.05)


def test_memory_is_what_torchs_tracker_sees() -> None:
    config, rows, length = shape(64, 176, 2, 4, 2, 500), 1, 300
    model, batch = fresh(config), batch_of(rows, length)
    settings = PretrainSettings(tokens=10**6, tokens_per_step=length, sequence_length=length, learning_rate=1e-3)
    optimizer = Optimizer(model, settings)
    tracker = MemTracker()
    tracker.track_external(model, *optimizer._parts)
    with tracker:
        for _ in range(2):
            accumulate(model, batch, micro_batch=rows, dtype=torch.bfloat16)
            clip_gradient(optimizer, 1.0)
            optimizer.step(1e-3)
            tracker.reset_mod_stats()
    seen = tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"]
    assert expected(config, Layout(micro_batch=rows, compiled=False), length, 1) == pytest.approx(seen, rel=0.05)


@pytest.fixture(params=[4, 8])
def world(request: pytest.FixtureRequest) -> Iterator[int]:
    """Rank 0 of a group of processes that aren't there."""
    dist.init_process_group("fake", rank=0, world_size=request.param, store=FakeStore())
    yield request.param
    dist.destroy_process_group()


@pytest.mark.parametrize(
    ("config", "parts"),
    [(shape(128, 352, 4, 4, 2, 500), 1), (shape(128, 352, 4, 4, 2, 500), 2), (shape(192, 512, 3, 3, 3, 1500), 2)],
)
def test_memory_of_shards_is_what_is_alive_on_a_rank(world: int, config: ModelConfig, parts: int) -> None:
    rows, length = 2, 300
    model, batch = fresh(config), batch_of(rows, length)
    mesh = init_device_mesh("cpu", (world,))
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, foreach=False)

    def update() -> None:
        for _ in range(parts):
            torch.autograd.backward(summed_loss(model, batch, torch.float32))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    update()
    gc.collect()
    with Alive() as alive:
        for tensor in [*model.parameters(), *(value for state in optimizer.state.values() for value in state.values())]:
            alive.see(tensor.to_local() if hasattr(tensor, "to_local") else tensor)
        update()
    layout = Layout(shards=world, micro_batch=rows, compiled=False)
    assert expected(config, layout, length, parts) == pytest.approx(alive.most, rel=0.05)


def test_recomputing_and_cutting_save_memory() -> None:
    config = PRESETS["yi-34b"]

    def total(**how: Any) -> float:
        return memory(config, Layout(**({"shards": 32} | how)), 4096, True).total

    assert total() > total(recompute="selective") > total(recompute="full")
    assert total() > total(shards=64)
    assert total() > total(tensor=4)
    assert total() > total(context=4)
    small = PRESETS["yi-6b"]
    whole, pieces = (
        memory(small, Layout(shards=8, micro_batch=8, recompute="full", loss_chunk=chunk), 4096, True)
        for chunk in (None, 2048)
    )
    assert whole.total > pieces.total


@pytest.mark.parametrize("gpus", [1, 8, 24, 128])
def test_layouts_use_all_devices_and_divide_heads_and_sequences(gpus: int) -> None:
    config, sequences = PRESETS["yi-34b"], 24 * 128
    found = list(layouts(config, gpus, 8, sequences, 4096, "bfloat16"))
    assert found
    for layout in found:
        assert layout.devices == gpus
        assert sequences % (layout.data_parallel * layout.micro_batch) == 0
        assert config.num_key_value_heads % layout.tensor == 0
    odd = msgspec.structs.replace(config, vocab_size=64_001)
    assert {layout.tensor for layout in layouts(odd, gpus, 8, sequences, 4096, "bfloat16")} == {1}


def test_a_34b_does_not_train_on_one_card() -> None:
    for layout in layouts(PRESETS["yi-34b"], 1, 8, 1024, 4096, "bfloat16"):
        assert memory(PRESETS["yi-34b"], layout, 4096, True).total > usable(DEVICES["H200"])
