"""Generation speed beside transformers and llama.cpp: one random LLaMA, greedy, in turns, in one run.

Each row makes a few tokens, then the next, many rounds long; a ratio is the median of the ratios within a round, so
that other work on the machine hits both sides alike. With one thread it is the processor's time that counts, with
several the clock's. Beside them stand the products of all matrices alone with as many rows: what the weights allow.
llama.cpp's rows need `pip install llama-cpp-python`; `zhen convert` writes their files.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import numpy as np
import torch
import transformers
import typer

from zhen.checkpoint.convert import Wanted, convert_checkpoint
from zhen.checkpoint.load import load_model, save_model
from zhen.cli.launch import relaunch
from zhen.console import out, say, table
from zhen.infer.engine import Engine
from zhen.infer.requests import Request
from zhen.model.config import ModelConfig, to_config_json
from zhen.model.size import parameters
from zhen.model.transformer import Transformer
from zhen.quantize.settings import QuantizeSettings
from zhen.quantize.write import quantise_checkpoint

SHAPES = {
    "50m": ModelConfig(
        hidden_size=512,
        intermediate_size=1_536,
        num_hidden_layers=12,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=64,
        vocab_size=16_384,
        max_position_embeddings=2_048,
    ),
    "850m": ModelConfig(
        hidden_size=2_048,
        intermediate_size=5_632,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=64,
        vocab_size=32_000,
        max_position_embeddings=2_048,
    ),
}
PROMPT = 128
WARM = 2
LINEAR, PRODUCTS, OURS = "Linear's products alone", "Zhen's products alone", "Zhen bf16"
THEIRS, COMPILED = "transformers bf16", "transformers bf16, compiled, static cache"
Make = Callable[[], "Runner"]
Times = list[float]


class Runner(Protocol):
    """Something that continues several texts together."""

    def start(self, prompts: Sequence[Sequence[int]], length: int) -> None:
        """Read the prompts and choose a token behind each; texts will be at most `length` long."""

    def step(self) -> None:
        """Add a token to each."""


class Blank:
    """A tokenizer that costs nothing: the others make no text either."""

    end_of_text = 2

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size

    def decode(self, ids: Sequence[int]) -> str:
        """Nothing."""
        return ""


class Ours:
    """Zhen's engine."""

    def __init__(self, model: Transformer) -> None:
        self._engine = Engine(model, Blank(model.config.vocab_size), 16, prefix_tokens=0)  # type: ignore[arg-type]
        self._ids: list[int] = []

    def start(self, prompts: Sequence[Sequence[int]], length: int) -> None:
        """See Runner."""
        for id in self._ids:
            self._engine.cancel(id)
        most = length - len(prompts[0])
        asked = [Request(prompt=ids, max_tokens=most, stop_ids=frozenset()) for ids in prompts]
        self._ids = [self._engine.submit(request) for request in asked]
        begun: set[int] = set()
        while len(begun) < len(asked):
            begun |= {event.id for event in self._engine.step() if event.token is not None}

    def step(self) -> None:
        """See Runner."""
        self._engine.step()


class Products:
    """Nothing but the products of all matrices, with a row for each text."""

    def __init__(self, products: Sequence[tuple[Callable[[torch.Tensor], torch.Tensor], int]]) -> None:
        """`products`: each with the width of its input."""
        self._products = products
        self._rows: dict[int, torch.Tensor] = {}

    def start(self, prompts: Sequence[Sequence[int]], length: int) -> None:
        """See Runner."""
        widths = {width for _, width in self._products}
        self._rows = {width: torch.randn(len(prompts), width).bfloat16() for width in widths}

    def step(self) -> None:
        """See Runner."""
        for product, width in self._products:
            product(self._rows[width])


class Theirs:
    """transformers' model in a loop of our own, which does less than `generate`: a cache that grows, nothing compiled;
    or compiled, with a static cache, as `generate` does it."""

    def __init__(self, model: Any, compiled: bool) -> None:
        self._model, self._compiled = model, compiled
        self._forward = torch.compile(model.forward, dynamic=False) if compiled else model.forward
        self._cache: Any = None
        self._next = torch.empty(0)

    def start(self, prompts: Sequence[Sequence[int]], length: int) -> None:
        """See Runner."""
        config = self._model.config
        kinds = transformers.StaticCache, transformers.DynamicCache
        self._cache = kinds[0](config=config, max_cache_len=length) if self._compiled else kinds[1](config=config)
        self._next = self._choose(self._model.forward, torch.tensor(prompts))

    def step(self) -> None:
        """See Runner."""
        self._next = self._choose(self._forward, self._next)

    def _choose(self, forward: Any, ids: torch.Tensor) -> torch.Tensor:
        found = forward(input_ids=ids, cache=self._cache, use_cache=True, logits_to_keep=1)
        chosen: torch.Tensor = found.logits[:, -1].argmax(-1, keepdim=True)
        return chosen


class LlamaCpp:
    """llama.cpp's own decoding of a GGUF file, without its Python classes; the choice by numpy."""

    def __init__(self, library: Any, file: Path) -> None:
        self._library = library
        library.llama_backend_init()
        # the file holds no tokenizer, and needs none
        self._overrides = (library.llama_model_kv_override * 2)()
        self._overrides[0].tag = library.LLAMA_KV_OVERRIDE_TYPE_STR
        self._overrides[0].key = b"tokenizer.ggml.model"
        self._overrides[0].value.val_str = b"no_vocab"
        settings = library.llama_model_default_params()
        settings.kv_overrides = self._overrides
        self._model = library.llama_model_load_from_file(str(file).encode(), settings)
        if not self._model:
            raise OSError("llama.cpp does not load the file")
        self._vocabulary = library.llama_vocab_n_tokens(library.llama_model_get_vocab(self._model))
        self._batch = library.llama_batch_init(16 * PROMPT, 0, 1)
        self._context: Any = None
        self._ids: list[int] = []
        self._position = 0

    def start(self, prompts: Sequence[Sequence[int]], length: int) -> None:
        """See Runner."""
        if self._context:
            self._library.llama_free(self._context)
        settings = self._library.llama_context_default_params()
        settings.n_ctx, settings.n_seq_max = len(prompts) * length, len(prompts)
        settings.n_batch = len(prompts) * PROMPT
        settings.n_threads = settings.n_threads_batch = torch.get_num_threads()
        self._context = self._library.llama_init_from_model(self._model, settings)
        self._position = 0
        self._feed(prompts)

    def step(self) -> None:
        """See Runner."""
        self._feed([[id] for id in self._ids])

    def _feed(self, texts: Sequence[Sequence[int]]) -> None:
        batch, at, last = self._batch, 0, []
        for text, ids in enumerate(texts):
            for place, id in enumerate(ids):
                batch.token[at], batch.pos[at] = id, self._position + place
                batch.n_seq_id[at], batch.logits[at] = 1, place == len(ids) - 1
                batch.seq_id[at][0] = text
                at += 1
            last.append(at - 1)
        batch.n_tokens = at
        if self._library.llama_decode(self._context, batch):
            raise RuntimeError("llama.cpp does not decode")
        self._position += len(texts[0])
        rows = [self._library.llama_get_logits_ith(self._context, place) for place in last]
        self._ids = [int(np.ctypeslib.as_array(row, (self._vocabulary,)).argmax()) for row in rows]


def random_model(config: ModelConfig) -> Transformer:
    """bfloat16, every matrix normal."""
    model = Transformer(config).to(torch.bfloat16).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.normal_(0, config.initializer_range)
    return model


def theirs(model: Transformer) -> Any:
    """transformers' model over the very weights."""
    with torch.device("meta"):
        other = transformers.LlamaForCausalLM(transformers.LlamaConfig(**to_config_json(model.config, "bfloat16")))
    # what is no parameter has no place on the meta device
    other.model.rotary_emb = type(other.model.rotary_emb)(other.config)
    weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
    other.load_state_dict(weights, assign=True)
    return other.eval()


def llama_files(source: Path, folder: Path) -> Iterator[tuple[str, Callable[[Any], Path]]]:
    """Row -> what makes its file. Q4_0 is made by llama.cpp's own quantisation of the bfloat16 file."""
    for name, dtype in (("bf16", "bf16"), ("Q8_0", "q8_0")):

        def converted(library: Any, dtype: str = dtype) -> Path:
            file = folder / f"{dtype}.gguf"
            if not file.exists():
                convert_checkpoint(source, file, Wanted("gguf", dtype), lambda done, total: None)
            return file

        yield f"llama.cpp {name}", converted

    def quantised(library: Any) -> Path:
        settings = library.llama_model_quantize_default_params()
        settings.ftype, settings.nthread, settings.pure = library.LLAMA_FTYPE_MOSTLY_Q4_0, 1, True
        file = folder / "q4_0.gguf"
        if library.llama_model_quantize(str(converted(library, "bf16")).encode(), str(file).encode(), settings):
            raise OSError("llama.cpp does not quantise the file")
        return file

    yield "llama.cpp Q4_0", quantised


def packed(folder: Path, bits: Literal[8, 4]) -> Transformer:
    """The model quantised by rounding, groups of 128, the head in 8 bits, and computed with as it is packed."""
    settings = QuantizeSettings(bits=bits, head_bits=8, method="rtn")
    final = folder / f"{bits}-bits"
    quantise_checkpoint(
        folder / "model", final, folder / f"{bits}-work", settings, None, lambda done, total, facts: None
    )
    return load_model(final, packed=True)


def llama(file: Callable[[Any], Path]) -> Runner:
    """A runner of llama.cpp. Raises ImportError where that is not installed."""
    import llama_cpp
    from llama_cpp._logger import set_verbose

    set_verbose(False)
    return LlamaCpp(llama_cpp, file(llama_cpp))


def products_of_engine(model: Transformer) -> Runner:
    """As the engine has them, a model that was given to it: q, k, v and gate, up joined, laid out beforehand."""
    found = [product for module in model.modules() if (product := getattr(module, "product", None)) is not None]
    return Products([(product, product.shape[1]) for product in found])


def products_of_torch(model: torch.nn.Module) -> Runner:
    """PyTorch's own product with every matrix of transformers' model."""
    return Products([(each, each.in_features) for each in model.modules() if isinstance(each, torch.nn.Linear)])


def rows(shape: str, folder: Path) -> Iterator[tuple[str, Make]]:
    """Name -> what makes the runner of a row, in the order of the table. One row more is one entry more."""
    model = random_model(SHAPES[shape])
    save_model(model, folder / "model", "bfloat16", None, model.config.max_position_embeddings)
    other = theirs(model)
    yield THEIRS, lambda: Theirs(other, compiled=False)
    yield COMPILED, lambda: Theirs(other, compiled=True)
    for name, file in llama_files(folder / "model", folder):
        yield name, partial(llama, file)
    yield LINEAR, lambda: products_of_torch(other)
    yield OURS, lambda: Ours(model)
    for bits in (8, 4):
        yield f"Zhen {bits} bits", lambda bits=bits: Ours(packed(folder, bits))  # type: ignore[misc]
    yield PRODUCTS, lambda: products_of_engine(model)


def measure(runners: dict[str, Runner], streams: int, vocabulary: int, rounds: int, tokens: int) -> dict[str, Times]:
    """Row -> seconds a step, round by round; a row that fails is taken out, with its reason told."""
    prompts = torch.randint(3, vocabulary, (streams, PROMPT)).tolist()
    length = PROMPT + 1 + WARM + rounds * tokens
    for name, runner in list(runners.items()):
        try:
            runner.start(prompts, length)
            for _ in range(WARM):
                runner.step()
        except Exception as error:  # no compiler, a file refused: the others go on
            leave_out(name, error)
            del runners[name]
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    found: dict[str, Times] = {name: [] for name in runners}
    for number in range(rounds):
        turn = list(runners.items())
        for name, runner in turn[number % len(turn) :] + turn[: number % len(turn)]:
            begun = clock()
            for _ in range(tokens):
                runner.step()
            found[name].append((clock() - begun) / tokens)
    return found


def leave_out(name: str, error: Exception) -> None:
    """Say why a row is missing."""
    reason = str(error).strip().splitlines() or [type(error).__name__]
    say(f"{name} is left out: {reason[0]}")


def ratio(of: Times, to: Times | None) -> str:
    """How many times as fast `of` is as `to`: the median over the rounds."""
    if to is None:
        return "–"
    return f"{statistics.median(theirs / ours for ours, theirs in zip(of, to, strict=True)):.2f}"


def main(
    shape: Annotated[str, typer.Option(help="50m or 850m.")] = "50m",
    streams: Annotated[str, typer.Option(help="Texts continued together.")] = "1,2,4,8,16",
    rounds: Annotated[int, typer.Option(help="Of each row, in turns.")] = 25,
    tokens: Annotated[int, typer.Option(help="Made in a round, in each text.")] = 8,
) -> None:
    """Print the table of ratios."""
    torch.manual_seed(0)
    beside = (LINEAR, PRODUCTS, THEIRS, COMPILED, "llama.cpp Q8_0", "llama.cpp Q4_0", OURS)
    lines = []
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        runners: dict[str, Runner] = {}
        for name, make in rows(shape, Path(folder)):
            try:
                runners[name] = make()
            except (ImportError, OSError) as error:
                leave_out(name, error)
        for count in map(int, streams.split(",")):
            found = measure(runners, count, SHAPES[shape].vocab_size, rounds, tokens)
            for name, times in found.items():
                rate = f"{count / statistics.median(times):,.1f}"
                lines.append((name, str(count), rate, *(ratio(times, found.get(other)) for other in beside)))
    title = (
        f"{parameters(SHAPES[shape]) / 1e6:,.0f} M parameters, {rounds} rounds of {tokens} tokens behind {PROMPT}, "
        f"{os.environ.get('OMP_NUM_THREADS', '?')} threads; times as fast as"
    )
    heads = ("", "streams", "tokens/s", "Linear", "products", "transformers", "compiled", "Q8_0", "Q4_0", "Zhen bf16")
    out.print(table(heads, lines, title=title))


if __name__ == "__main__":
    relaunch()
    typer.run(main)
