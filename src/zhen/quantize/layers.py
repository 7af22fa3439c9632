"""A model quantised a layer at a time: read from disk, run, its matrices rounded, written; what was done is kept.

In memory are one layer in float32, the Hessian of one matrix with its factors, and the activations of the text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec
import torch
from torch import Tensor

from zhen.checkpoint.load import DTYPES, open_llama, tensor_bytes, tensor_from, view_tensor
from zhen.checkpoint.packed import PACKED, SCALE, SHAPE, Packed, quantisation
from zhen.checkpoint.packing import pack, unpack
from zhen.checkpoint.reader import open_checkpoint
from zhen.checkpoint.views import View
from zhen.checkpoint.writer import Tensor as Written
from zhen.checkpoint.writer import write_safetensors
from zhen.errors import ZhenError
from zhen.formats.files import write_json
from zhen.model.linear import Linear
from zhen.model.rope import Rotary
from zhen.model.size import weight_group
from zhen.model.transformer import Layer
from zhen.quantize.gptq import Hessian, gptq
from zhen.quantize.round import Rounded, round_to_nearest
from zhen.quantize.settings import QuantizeSettings

STEPS = (
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    ("self_attn.o_proj",),
    ("mlp.gate_proj", "mlp.up_proj"),
    ("mlp.down_proj",),
)
"""A layer's matrices in the order in which they are rounded; those of a step have the same inputs."""

MATRICES = sum(map(len, STEPS))
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
OUTSIDE = (EMBEDDING, HEAD)

_TOKENS_AT_ONCE = 4096
_MEASURED = 8
"""Sequences by which a layer's outputs are compared."""


class MatrixErrors(msgspec.Struct, frozen=True, kw_only=True):
    """A matrix, and how far it is from what it was."""

    name: str
    bits: int
    group: int
    weight_error: float
    """|Q - W| / |W|."""
    output_error: float | None = None
    """|Q X - W X| / |W X| over the calibration text."""


class LayerErrors(msgspec.Struct, frozen=True, kw_only=True):
    """A layer: its matrices, and its outputs for the same inputs; layer -1 are embedding and head."""

    layer: int
    output_error: float | None
    matrices: list[MatrixErrors]


class Layers:
    """The layers of a checkpoint and what has been made of them; `work` keeps a file a layer."""

    def __init__(self, source: Path, work: Path, settings: QuantizeSettings) -> None:
        if (form := quantisation(open_checkpoint(source).config)) is not None:
            raise ZhenError(f"quantised already: {form}", expected="the weights that it was made of", file=source)
        self.config, self.views = open_llama(source)
        self._outside_bits = {EMBEDDING: settings.embedding_bits, HEAD: settings.head_bits}
        if self.config.tie_word_embeddings and (settings.head_bits, settings.embedding_bits) != (16, 16):
            raise ZhenError(
                "a model whose head is its embedding",
                expected="16 bits for both: loaders want each by itself where they are packed, which takes as much",
                file=source,
            )
        self.settings = settings
        self._work = work
        half = all(view.dtype == "F16" for view in self.views.values())
        self.dtype = "float16" if half else "bfloat16"
        """Number format of what stays in 16 bits, the scales among it."""
        self._kind = DTYPES[self.dtype][1]
        self.plan = {n: plan for n, view in self.views.items() if (plan := self._planned(n, view)) is not None}
        """How each matrix will be stored, by name; those that stay in 16 bits are left out."""
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @torch.inference_mode()
    def quantise(self, tokens: Tensor | None, report: Callable[[int, str], None]) -> list[LayerErrors]:
        """Make what isn't there yet; `report` is told of each matrix. Returns all errors, the outside's first."""
        count = self.config.num_hidden_layers
        errors = self._outside(report)
        x = None if tokens is None else self._embedded(tokens)
        done = [self._part(number).exists() for number in range(count)]
        for number in range(count):
            layer = self._layer(number)
            if done[number]:
                if x is not None and not all(done[number:]):
                    self._fill(layer, self.read(self._part(number)))
                    self._pass(layer, x)
            else:
                self._quantise_layer(number, layer, x, report)
            errors.append(msgspec.json.decode(self._part(number, ".json").read_bytes(), type=LayerErrors))
            report((number + 1) * MATRICES, f"layer {number + 1} of {count}")
        return errors

    def parts(self) -> list[Path]:
        """The files of what is packed: outside, where anything is, and every layer."""
        first = -1 if any(name in self.plan for name in OUTSIDE) else 0
        return [self._part(number) for number in range(first, self.config.num_hidden_layers)]

    def read(self, part: Path) -> dict[str, Rounded]:
        """What a part holds, by the matrix' name."""
        found = {}
        opened = open_checkpoint(part)
        stored = {name: tensor_from(info, opened.read(name)) for name, info in opened.tensors.items()}
        for name in (name.removesuffix(PACKED) for name in stored if name.endswith(PACKED)):
            columns = int(stored[name + SHAPE][1])
            words = stored[name + PACKED]
            bits = words.shape[1] * 32 // columns
            codes = torch.from_numpy(unpack(words.numpy(), bits, columns))
            found[name] = Rounded(codes, stored[name + SCALE])
        return found

    def _planned(self, name: str, view: View) -> Packed | None:
        bits = self._outside_bits.get(name, self.settings.bits)
        if len(view.shape) != 2 or bits == 16:
            return None
        rows, columns = view.shape
        return Packed(name, (rows, columns), bits, weight_group(columns, self.settings.group), DTYPES[self.dtype][0])

    def _part(self, number: int, ending: str = ".safetensors") -> Path:
        return self._work / (f"layer-{number:05d}{ending}" if number >= 0 else f"outside{ending}")

    def _outside(self, report: Callable[[int, str], None]) -> list[LayerErrors]:
        """Embedding and head, where they are to be packed."""
        names = [name for name in OUTSIDE if name in self.plan]
        if not names:
            return []
        if not self._part(-1).exists():
            made, errors = {}, []
            for name in names:
                report(0, name)
                made[name], error = self._round(self.plan[name], self._weight(name), None)
                errors.append(error)
            self._write(-1, made, LayerErrors(layer=-1, output_error=None, matrices=errors))
        return [msgspec.json.decode(self._part(-1, ".json").read_bytes(), type=LayerErrors)]

    def _embedded(self, tokens: Tensor) -> Tensor:
        """tokens [sequences, length] -> [sequences, length, hidden], by the embedding as it will be stored."""
        if EMBEDDING in self.plan:
            weight = self.read(self._part(-1))[EMBEDDING].weight()
        else:
            weight = self._weight(EMBEDDING).to(self._kind).float()
        return torch.nn.functional.embedding(tokens, weight.cpu()).to(self._device)

    def _weight(self, name: str) -> Tensor:
        return view_tensor(self.views[name]).to(self._device).float()

    def _layer(self, number: int) -> Layer:
        with torch.device("meta"):
            layer = Layer(self.config, number)
        before = f"model.layers.{number}."
        state = {name: self._weight(before + name) for name in layer.state_dict()}
        for name, weight in state.items():
            if weight.dim() == 1:
                state[name] = weight.to(self._kind).float()  # as it will be stored
        layer.load_state_dict(state, assign=True)
        return layer

    def _quantise_layer(self, number: int, layer: Layer, x: Tensor | None, report: Callable[[int, str], None]) -> None:
        before = f"model.layers.{number}."
        made: dict[str, Rounded] = {}
        errors = []
        measured = None if x is None else x[:_MEASURED].clone()
        outputs = None if measured is None else self._run(layer, measured)
        for names in STEPS:
            hessian = None if x is None else self._hessian(layer, names[0], x)
            for name in names:
                report(number * MATRICES + len(made), f"layer {number + 1} of {self.config.num_hidden_layers}, {name}")
                full = f"{before}{name}.weight"
                made[full], error = self._round(self.plan[full], _linear(layer, name).weight, hessian)
                errors.append(error)
                self._fill(layer, {full: made[full]})
        output_error = None
        if outputs is not None and measured is not None:
            moved = self._run(layer, measured)
            output_error = float((moved - outputs).norm() / (outputs - measured).norm().clamp_min(1e-30))
        if x is not None:
            self._pass(layer, x)
        self._write(number, made, LayerErrors(layer=number, output_error=output_error, matrices=errors))

    def _round(self, plan: Packed, weight: Tensor, hessian: Hessian | None) -> tuple[Rounded, MatrixErrors]:
        if hessian is not None and self.settings.method == "gptq":
            made = gptq(weight, hessian.sum, plan.bits, plan.group, self._kind, self.settings.damping)
        else:
            made = round_to_nearest(weight, plan.bits, plan.group, self._kind)
        given = made.weight()
        errors = MatrixErrors(
            name=plan.name,
            bits=plan.bits,
            group=plan.group,
            weight_error=float((given - weight).norm() / weight.norm().clamp_min(1e-30)),
            output_error=None if hessian is None else hessian.output_error(weight, given),
        )
        return made, errors

    def _hessian(self, layer: Layer, name: str, x: Tensor) -> Hessian:
        """Of the inputs of matrix `name` for activations `x` [sequences, length, hidden] before the layer."""

        def stop(_module: object, inputs: tuple[Tensor, ...]) -> None:
            raise _Reached(inputs[0])

        linear = _linear(layer, name)
        hessian = Hessian(linear.in_features, self._device)
        handle = linear.register_forward_pre_hook(stop)
        try:
            for some in self._batches(x):
                try:
                    self._run(layer, some)
                except _Reached as reached:
                    hessian.add(reached.inputs)
        finally:
            handle.remove()
        return hessian

    def _pass(self, layer: Layer, x: Tensor) -> None:
        """Replace activations before the layer by those behind it."""
        for some in self._batches(x):
            some.copy_(self._run(layer, some))

    def _batches(self, x: Tensor) -> Iterator[Tensor]:
        return iter(torch.split(x, max(1, _TOKENS_AT_ONCE // x.shape[1])))

    def _run(self, layer: Layer, x: Tensor) -> Tensor:
        out: Tensor = layer(x, Rotary(self.config).tables(0, x.shape[1], x.device), None, None)
        return out

    def _fill(self, layer: Layer, made: Mapping[str, Rounded]) -> None:
        for full, rounded in made.items():
            name = full.split(".", 3)[3].removesuffix(".weight")
            weight = rounded.weight().to(self._device)
            _linear(layer, name).weight = torch.nn.Parameter(weight, requires_grad=False)

    def _write(self, number: int, made: Mapping[str, Rounded], errors: LayerErrors) -> None:
        """The part's errors, then its tensors: a part with tensors is whole."""
        write_json(self._part(number, ".json"), msgspec.to_builtins(errors))
        plan = self.plan
        tensors: list[Written] = []
        for name, rounded in made.items():
            words = pack(rounded.codes.cpu().numpy(), plan[name].bits)
            shape = torch.tensor(plan[name].shape)
            tensors.append((name + PACKED, "I32", words.shape, words.reshape(-1).view("u1").data))
            tensors.append((name + SCALE, plan[name].dtype, tuple(rounded.scales.shape), tensor_bytes(rounded.scales)))
            tensors.append((name + SHAPE, "I64", (2,), tensor_bytes(shape)))
        write_safetensors(self._part(number), tensors, {})


def _linear(layer: Layer, name: str) -> Linear:
    found = layer.get_submodule(name)
    assert isinstance(found, Linear)
    return found


class _Reached(Exception):
    """Ends a forward pass at a matrix, whose inputs it carries."""

    def __init__(self, inputs: Tensor) -> None:
        super().__init__()
        self.inputs = inputs
