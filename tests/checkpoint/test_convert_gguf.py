"""GGUF against the gguf package, transformers' own GGUF loading, sentencepiece, and (where it is there) llama.cpp."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import math
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import msgspec
import numpy as np
import pytest
import sentencepiece
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, decoders, models, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from zhen.checkpoint.convert import Converted, Wanted, convert_checkpoint
from zhen.checkpoint.gguf import open_gguf, restored_files
from zhen.checkpoint.gguf_header import read_gguf_header
from zhen.checkpoint.gguf_metadata import fingerprint, rope_factors
from zhen.checkpoint.tokenizer_files import CUTS, read_tokenizer
from zhen.checkpoint.writer import write_sharded
from zhen.errors import ZhenError
from zhen.model.config import ModelConfig, RopeScaling, from_config_json, to_config_json
from zhen.model.size import shapes

TEXTS = ["The river runs to the sea.", "今天天气很好，我们去看海。", "def f(x):\n    return x ** 2  # naïve café 🙂"]
CONFIG = ModelConfig(
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    vocab_size=400,
    max_position_embeddings=64,
    rms_norm_eps=1e-6,
    rope_theta=5e6,
    initializer_range=0.2,
    pad_token_id=None,
)
ROLES = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def convert(source: Path, out: Path, target: str, **wanted: Any) -> Converted:
    return convert_checkpoint(source, out, Wanted(target, **wanted), lambda done, total: None)


def learn(**more: Any) -> bytes:
    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 20),
        model_writer=made,
        model_type="bpe",
        vocab_size=380,
        byte_fallback=True,
        character_coverage=1.0,
        user_defined_symbols=["<|im_start|>"],
        minloglevel=2,
        **{"normalization_rule_name": "identity", **more},
    )
    return made.getvalue()


@pytest.fixture(scope="module")
def learned() -> bytes:
    return learn(remove_extra_whitespaces=False)


@pytest.fixture
def make(tmp_path: Path, learned: bytes) -> Callable[..., Path]:
    """`make(config={}, settings={}, tokenizer=True)`: a LLaMA of transformers' making, with a tokenizer beside it."""

    def write(
        config: dict[str, Any] | None = None, settings: dict[str, Any] | None = None, tokenizer: bool = True
    ) -> Path:
        folder = tmp_path / "source"
        torch.manual_seed(0)
        LlamaForCausalLM(AutoConfig.for_model(**to_config_json(CONFIG, "float32") | (config or {}))).save_pretrained(
            folder
        )
        if tokenizer:
            (folder / "tokenizer.model").write_bytes(learned)
            made = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": False, **ROLES, **(settings or {})}
            (folder / "tokenizer_config.json").write_text(json.dumps(made))
        return folder

    return write


def field(path: Path, key: str) -> Any:
    return gguf.GGUFReader(path).fields[key].contents()


def elsewhere(path: Path, out: Path, **changes: Any) -> Path:
    """The file as another tool would have written it: our own keys left out, `changes` made, tensors as they are."""
    reader = gguf.GGUFReader(path)
    writer = gguf.GGUFWriter(out, "llama")
    for key, found in reader.fields.items():
        if key.startswith(("GGUF.", "zhen.", "tokenizer.huggingface")) or key == "general.architecture":
            continue
        kinds = found.types
        value = changes.get(key.rpartition(".")[2], found.contents())
        if value is not None:
            writer.add_key_value(key, value, kinds[0], kinds[-1] if kinds[0] == gguf.GGUFValueType.ARRAY else None)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out


def logits(*arguments: Any, **more: Any) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(*arguments, dtype=torch.float32, **more)
    text = torch.randint(300, (2, 24), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found: torch.Tensor = model.eval()(text).logits
    return found


def test_transformers_reads_our_gguf_with_the_same_logits(make: Callable[..., Path], tmp_path: Path) -> None:
    source = make()
    convert(source, tmp_path / "m.gguf", "gguf")
    assert torch.equal(logits(tmp_path, gguf_file="m.gguf"), logits(source))
    theirs = AutoConfig.from_pretrained(tmp_path, gguf_file="m.gguf")
    assert (theirs.rms_norm_eps, theirs.num_key_value_heads, theirs.vocab_size) == (pytest.approx(1e-6), 2, 400)


def test_the_header_is_what_the_gguf_package_reads(make: Callable[..., Path], tmp_path: Path) -> None:
    convert(make(), tmp_path / "m.gguf", "gguf", dtype="q8_0")
    ours, theirs = read_gguf_header(tmp_path / "m.gguf"), gguf.GGUFReader(tmp_path / "m.gguf")
    assert {key for key in theirs.fields if not key.startswith("GGUF.")} == set(ours.metadata)
    for key, value in ours.metadata.items():
        assert np.array_equal(value, theirs.fields[key].contents())
    assert [tensor.name for tensor in theirs.tensors] == list(ours.tensors)
    for tensor in theirs.tensors:
        mine = ours.tensors[tensor.name]
        assert mine.shape == tuple(tensor.shape.tolist()[::-1])
        assert (mine.type, mine.begin) == (tensor.tensor_type.name, tensor.data_offset)
        assert mine.end - mine.begin == tensor.n_bytes


@pytest.mark.parametrize("stated", [False, True])
def test_a_start_token_is_added_just_where_the_tokenizers_config_says_so(
    stated: bool, make: Callable[..., Path], tmp_path: Path
) -> None:
    source = make(settings={"add_bos_token": stated, "add_eos_token": not stated})
    convert(source, tmp_path / "m.gguf", "gguf")
    assert field(tmp_path / "m.gguf", "tokenizer.ggml.add_bos_token") is stated
    assert field(tmp_path / "m.gguf", "tokenizer.ggml.add_eos_token") is not stated
    elsewhere(tmp_path / "m.gguf", tmp_path / "other.gguf")
    convert(tmp_path / "other.gguf", tmp_path / "back", "llama")
    back = json.loads((tmp_path / "back" / "tokenizer_config.json").read_text())
    assert (back["add_bos_token"], back["add_eos_token"]) == (stated, not stated)


def test_an_unstated_start_token_is_transformers_true_and_noted(make: Callable[..., Path], tmp_path: Path) -> None:
    done = convert(make(settings={"add_bos_token": None}), tmp_path / "m.gguf", "gguf")
    assert field(tmp_path / "m.gguf", "tokenizer.ggml.add_bos_token") is True
    assert any("add_bos_token" in note for note in done.notes)


@pytest.mark.parametrize("base", [10_000.0, 500_000.0, 5_000_000.0, 10_000_000.0])
def test_the_rotary_base_is_always_stated(base: float, make: Callable[..., Path], tmp_path: Path) -> None:
    rotary = {"rope_theta": base, "rope_parameters": {"rope_theta": base, "rope_type": "default"}}
    source = make(config=rotary)
    convert(source, tmp_path / "m.gguf", "gguf")
    assert field(tmp_path / "m.gguf", "llama.rope.freq_base") == base
    elsewhere(tmp_path / "m.gguf", tmp_path / "other.gguf")
    convert(tmp_path / "other.gguf", tmp_path / "back", "llama")
    assert from_config_json(json.loads((tmp_path / "back" / "config.json").read_text())).rope_theta == base


def test_a_folder_whose_name_is_not_utf_8_gives_a_file(make: Callable[..., Path], tmp_path: Path) -> None:
    folder = make().rename(tmp_path / os.fsdecode(b"m\xff"))
    convert(folder, tmp_path / "m.gguf", "gguf")
    assert read_gguf_header(tmp_path / "m.gguf").metadata["general.name"] == "m?"


def test_a_file_of_another_tool_becomes_the_same_model(make: Callable[..., Path], tmp_path: Path) -> None:
    source = make(settings={"chat_template": "{{ messages }}"})
    convert(source, tmp_path / "m.gguf", "gguf")
    elsewhere(tmp_path / "m.gguf", tmp_path / "other.gguf")
    done = convert(tmp_path / "other.gguf", tmp_path / "back", "llama")
    assert any("rebuilt" in note for note in done.notes)
    assert torch.equal(logits(tmp_path / "back"), logits(source))
    ours, theirs = (
        sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
        for folder in (tmp_path / "back", source)
    )
    for text in TEXTS:
        assert ours.encode(text) == theirs.encode(text)
    assert AutoTokenizer.from_pretrained(tmp_path / "back").chat_template == "{{ messages }}"


def test_small_files_come_back_as_they_were_unless_the_metadata_was_edited(
    make: Callable[..., Path], tmp_path: Path
) -> None:
    source = make()
    convert(source, tmp_path / "m.gguf", "gguf")
    convert(tmp_path / "m.gguf", tmp_path / "back", "llama")
    for name in ("tokenizer.model", "tokenizer_config.json", "generation_config.json"):
        assert (tmp_path / "back" / name).read_bytes() == (source / name).read_bytes()
    data = (tmp_path / "m.gguf").read_bytes()
    key = b"tokenizer.ggml.add_bos_token" + (7).to_bytes(4, "little")
    at = data.index(key) + len(key)
    (tmp_path / "edited.gguf").write_bytes(data[:at] + b"\x01" + data[at + 1 :])
    convert(tmp_path / "edited.gguf", tmp_path / "edited", "llama")
    assert json.loads((tmp_path / "edited" / "tokenizer_config.json").read_text())["add_bos_token"] is True


def test_tokens_are_sentencepieces_with_rows_to_spare_marked_unused(
    make: Callable[..., Path], learned: bytes, tmp_path: Path
) -> None:
    convert(make(), tmp_path / "m.gguf", "gguf")
    theirs = sentencepiece.SentencePieceProcessor(model_proto=learned)
    tokens, kinds = (field(tmp_path / "m.gguf", f"tokenizer.ggml.{key}") for key in ("tokens", "token_type"))
    scores = field(tmp_path / "m.gguf", "tokenizer.ggml.scores")
    count = theirs.get_piece_size()
    assert tokens[:count] == [theirs.id_to_piece(index) for index in range(count)]
    assert scores[:count] == [theirs.get_score(index) for index in range(count)]
    assert all((kind == 6) == theirs.is_byte(index) for index, kind in enumerate(kinds[:count]))
    assert all((kind == 3) == theirs.is_control(index) for index, kind in enumerate(kinds[:count]))
    assert (len(tokens), set(kinds[count:])) == (400, {5})
    assert [field(tmp_path / "m.gguf", f"tokenizer.ggml.{role}_token_id") for role in ("bos", "eos", "unknown")] == [
        1,
        2,
        0,
    ]


@pytest.mark.parametrize(("setting", "says"), [("nmt_nfkc", "charsmap"), ("identity", "joins spaces")])
def test_what_llama_cpp_does_not_do_to_a_text_is_noted(
    setting: str, says: str, make: Callable[..., Path], tmp_path: Path
) -> None:
    source = make()
    (source / "tokenizer.model").write_bytes(learn(normalization_rule_name=setting))
    assert any(says in note for note in convert(source, tmp_path / "m.gguf", "gguf").notes)


def byte_level(pre: str, folder: Path) -> Any:
    """A byte-level BPE that cuts text as `pre` says, beside a model."""
    made = Tokenizers(models.BPE(ignore_merges=pre == "llama-bpe"))
    if CUTS[pre][0][0] == "Split":
        split = pre_tokenizers.Split(Regex(CUTS[pre][0][1]), "isolated")
        made.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    else:
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        TEXTS * 9, trainers.BpeTrainer(vocab_size=390, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet)
    )
    made.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return made


@pytest.mark.parametrize("pre", ["gpt-2", "llama-bpe", "smaug-bpe", "qwen2"])
def test_byte_level_tokenizers_go_there_and_back(pre: str, make: Callable[..., Path], tmp_path: Path) -> None:
    source = make(tokenizer=False)
    theirs = byte_level(pre, source)
    convert(source, tmp_path / "m.gguf", "gguf")
    assert field(tmp_path / "m.gguf", "tokenizer.ggml.pre") == pre
    assert field(tmp_path / "m.gguf", "tokenizer.ggml.add_bos_token") is False
    convert(elsewhere(tmp_path / "m.gguf", tmp_path / "other.gguf"), tmp_path / "back", "llama")
    ours = Tokenizers.from_file(str(tmp_path / "back" / "tokenizer.json"))
    for text in [*TEXTS, "<s>1234567 it's</s>"]:
        assert ours.encode(text).ids == theirs.encode(text).ids
        assert ours.decode(ours.encode(text).ids) == theirs.decode(theirs.encode(text).ids)


def test_a_start_token_that_a_template_adds_is_added(make: Callable[..., Path], tmp_path: Path) -> None:
    source = make(tokenizer=False)
    made = byte_level("llama-bpe", source)
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    made.save(str(source / "tokenizer.json"))
    convert(source, tmp_path / "m.gguf", "gguf")
    assert field(tmp_path / "m.gguf", "tokenizer.ggml.add_bos_token") is True


def test_a_tokenizer_that_gguf_has_no_words_for_is_refused(make: Callable[..., Path], tmp_path: Path) -> None:
    source = make(tokenizer=False)
    made = byte_level("gpt-2", source)
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.save(str(source / "tokenizer.json"))
    with pytest.raises(ZhenError, match="no name for"):
        convert(source, tmp_path / "m.gguf", "gguf")
    with pytest.raises(ZhenError, match="at most the 300 rows"):
        convert(make(config={"vocab_size": 300}), tmp_path / "m.gguf", "gguf")


def test_llama_3s_scaling_is_transformers(make: Callable[..., Path], tmp_path: Path) -> None:
    scaling = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    positions = {"max_position_embeddings": 131_072, "rope_theta": 5e5}
    source = make(
        config={**positions, "rope_scaling": dict(scaling), "rope_parameters": {**scaling, "rope_theta": 5e5}}
    )
    config = AutoConfig.from_pretrained(source)
    plain = 5e5 ** -(torch.arange(0, 16, 2) / 16)
    theirs = plain / ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))[0]
    ours = from_config_json(json.loads((source / "config.json").read_text()))
    assert ours.rope_scaling is not None
    assert np.allclose(rope_factors(ours, ours.rope_scaling), theirs, rtol=1e-6)
    convert(source, tmp_path / "m.gguf", "gguf")
    convert(elsewhere(tmp_path / "m.gguf", tmp_path / "other.gguf"), tmp_path / "back", "llama")
    back = from_config_json(json.loads((tmp_path / "back" / "config.json").read_text()))
    assert (back.rope_scaling, back.rope_theta) == (RopeScaling(**scaling), 5e5)


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL"])
def test_quantised_tensors_are_read_as_the_gguf_package_expands_them(kind: str, tmp_path: Path) -> None:
    quantised = gguf.GGMLQuantizationType[kind]
    block, width = gguf.GGML_QUANT_SIZES[quantised]
    data = np.random.default_rng(0).integers(0, 120, (6, 1024 // block * width), dtype=np.uint8)
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_tensor("token_embd.weight", data, raw_dtype=quantised)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    opened = open_gguf(tmp_path / "m.gguf")
    assert opened.tensors["token_embd.weight"].shape == (6, 1024)
    assert opened.notes == [f"1 tensors of type {kind} are read as F32"]
    theirs = gguf.dequantize(data, quantised)
    assert bytes(opened.read("token_embd.weight")) == theirs.astype("<f4").tobytes()


def test_q8_0_is_the_packages_own(make: Callable[..., Path], tmp_path: Path) -> None:
    source = make()
    done = convert(source, tmp_path / "m.gguf", "gguf", dtype="q8_0")
    assert done.dtypes == {"Q8_0": 16, "F32": 5}
    state = LlamaForCausalLM.from_pretrained(source).state_dict()
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "m.gguf").tensors}
    theirs = gguf.quantize(state["model.layers.1.mlp.up_proj.weight"].numpy(), gguf.GGMLQuantizationType.Q8_0)
    assert np.array_equal(tensors["blk.1.ffn_up.weight"].data, theirs)


def test_every_part_of_a_split_file_opens_the_whole(make: Callable[..., Path], tmp_path: Path) -> None:
    source = make()
    convert(source, tmp_path / "m.gguf", "gguf")
    reader = gguf.GGUFReader(tmp_path / "m.gguf")
    writer = gguf.GGUFWriter(tmp_path / "part.gguf", "llama", split_max_tensors=8)
    for key, found in reader.fields.items():
        if key.startswith("llama."):
            writer.add_key_value(key, found.contents(), found.types[0])
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    parts = sorted(tmp_path.glob("part-*.gguf"))
    assert len(parts) == 3
    for number, part in enumerate(parts):
        convert(part, tmp_path / f"back{number}", "llama")
        assert torch.equal(logits(tmp_path / f"back{number}"), logits(source))
    parts[1].unlink()
    with pytest.raises(ZhenError, match="all 3 parts"):
        open_gguf(parts[0])


VALUES = st.one_of(
    st.booleans(),
    st.integers(0, 2**32 - 1),
    st.floats(width=32),
    st.text(min_size=1, max_size=9),
    st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=5),
    st.lists(st.text(max_size=5), min_size=1, max_size=5),
)


@settings(max_examples=60, deadline=None)
@given(
    metadata=st.dictionaries(st.text("abc.", min_size=1, max_size=6), VALUES, max_size=6),
    tensors=st.lists(st.tuples(st.integers(1, 4), st.integers(0, 5)), max_size=4),
    cut=st.one_of(st.none(), st.tuples(st.integers(0, 400), st.integers(0, 255))),
    shorter=st.integers(0, 3),
)
def test_headers_of_any_content_and_damaged_ones(
    metadata: dict[str, Any],
    tensors: list[tuple[int, int]],
    cut: tuple[int, int] | None,
    shorter: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    file = tmp_path_factory.mktemp("headers") / "m.gguf"
    writer = gguf.GGUFWriter(file, "llama")
    adders = {bool: "add_bool", int: "add_uint32", float: "add_float32", str: "add_string", list: "add_array"}
    for key, value in metadata.items():
        getattr(writer, adders[type(value)])(key, value)
    for number, (rows, columns) in enumerate(tensors):
        writer.add_tensor(f"t{number}", np.full((rows, columns + 1), number, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    if cut is None:
        found = read_gguf_header(file)
        assert found.metadata.keys() == metadata.keys() | {"general.architecture"}
        for key, value in metadata.items():
            assert np.array_equal(found.metadata[key], value, equal_nan=isinstance(value, float))
        opened = open_gguf(file) if "token_embd.weight" in found.tensors else None
        assert opened is None
        return
    data = bytearray(file.read_bytes())
    data[cut[0] % len(data)] = cut[1]
    file.write_bytes(data[: len(data) - shorter])
    try:
        found = read_gguf_header(file)
    except ZhenError:
        return
    # what is accepted lies within the file, and the package finds the same tensors there
    assert all(tensor.end <= len(data) - shorter for tensor in found.tensors.values())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, learned: bytes) -> tuple[Path, bytes, int]:
    """(a folder, a GGUF file with a tokenizer, where its first tensor begins)."""
    folder = tmp_path_factory.mktemp("whole")
    config = msgspec.structs.replace(CONFIG, hidden_size=8, head_dim=2, intermediate_size=8)
    tensors = [(key, "BF16", shape, bytes(2 * math.prod(shape))) for key, shape in shapes(config).items()]
    write_sharded(folder, tensors, 10**9)
    (folder / "config.json").write_text(json.dumps(to_config_json(config, "bfloat16")))
    (folder / "tokenizer.model").write_bytes(learned)
    convert(folder, folder / "m.gguf", "gguf")
    begin = min(tensor.begin for tensor in read_gguf_header(folder / "m.gguf").tensors.values())
    return folder, (folder / "m.gguf").read_bytes(), begin


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_refused_or_converted_never_a_crash(
    data: st.DataObject, whole: tuple[Path, bytes, int]
) -> None:
    folder, content, begin = whole
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.one_of(st.integers(0, 2500), st.integers(0, begin - 1)))
        new = data.draw(st.binary(max_size=4))
        damaged[at : at + data.draw(st.sampled_from([len(new), len(new), 0, 4]))] = new
    (folder / "damaged.gguf").write_bytes(damaged)
    target = data.draw(st.sampled_from(["llama", "meta", "gguf"]))
    with contextlib.suppress(ZhenError):
        convert(folder / "damaged.gguf", folder / "never", target, dry_run=True)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.text(max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text("01ab", max_size=2), inner, max_size=3)
    ),
    max_leaves=6,
)
KEYS = ("model", "added_tokens", "pre_tokenizer", "normalizer", "post_processor")


@settings(max_examples=150, deadline=None)
@given(
    table=st.fixed_dictionaries({}, optional=dict.fromkeys(KEYS, JSON)),
    model=st.fixed_dictionaries({}, optional=dict.fromkeys(("vocab", "merges", "byte_fallback", "unk_token"), JSON)),
    config=st.dictionaries(st.sampled_from(["added_tokens_decoder", "bos_token", "chat_template"]), JSON),
)
def test_tokenizer_files_of_any_content_are_read_or_refused(
    table: dict[str, Any], model: dict[str, Any], config: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("any")
    made = {"model": {"type": "BPE", "vocab": {"a": 0}, **model}, **table}
    (folder / "tokenizer.json").write_text(json.dumps(made))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    with contextlib.suppress(ZhenError):
        read_tokenizer(folder, {})


def test_a_gguf_becomes_a_smaller_gguf_with_the_same_tokenizer(make: Callable[..., Path], tmp_path: Path) -> None:
    source = make()
    (source / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    convert(source, tmp_path / "m.gguf", "gguf")
    convert(tmp_path / "m.gguf", tmp_path / "small.gguf", "gguf", dtype="q8_0")
    convert(source, tmp_path / "direct.gguf", "gguf", dtype="q8_0")
    assert (tmp_path / "small.gguf").read_bytes() == (tmp_path / "direct.gguf").read_bytes()
    assert field(tmp_path / "small.gguf", "general.license") == "apache-2.0"


def test_without_the_gguf_package_its_extra_is_named_and_the_rest_works(
    make: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make()
    convert(source, tmp_path / "m.gguf", "gguf")
    monkeypatch.setitem(sys.modules, "gguf", None)
    convert(tmp_path / "m.gguf", tmp_path / "back", "llama")
    with pytest.raises(ZhenError, match="needs `gguf`") as error:
        convert(source, tmp_path / "other.gguf", "gguf")
    assert error.value.hint == "pip install 'zhen[gguf]'"


@pytest.fixture
def llama_cpp() -> Any:
    return pytest.importorskip("llama_cpp", reason="llama-cpp-python isn't installed; it is built from source")


def greedy(folder: Path, ids: list[int], count: int) -> list[int]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    found = model.generate(torch.tensor([ids]), max_new_tokens=count, do_sample=False, eos_token_id=None)
    return list(found[0, len(ids) :].tolist())


@pytest.mark.parametrize(("dtype", "stored"), [(None, None), ("f16", None), ("bf16", "f32")])
def test_llama_cpp_continues_with_the_same_tokens(
    dtype: str | None, stored: str | None, llama_cpp: Any, make: Callable[..., Path], learned: bytes, tmp_path: Path
) -> None:
    """bf16 weights are stored as f32: beside bf16 ones llama.cpp rounds activations, and random logits lie close."""
    source = make()
    if dtype:
        convert(source, tmp_path / "cast", "llama", dtype=dtype)
        source = tmp_path / "cast"
    convert(source, tmp_path / "m.gguf", "gguf", dtype=stored)
    theirs = sentencepiece.SentencePieceProcessor(model_proto=learned)
    for text in TEXTS:
        ids, found = continued(llama_cpp, tmp_path / "m.gguf", text, 12)
        assert ids == theirs.encode(text)
        assert found == greedy(source, ids, 12)


SCALED = {
    "linear": {"rope_type": "linear", "factor": 2.0},
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
    },
}


@pytest.mark.parametrize("kind", SCALED)
def test_scaled_positions_are_said_in_full(kind: str, make: Callable[..., Path], tmp_path: Path) -> None:
    scaling = SCALED[kind]
    source = make(config={"rope_scaling": dict(scaling), "rope_parameters": {**scaling, "rope_theta": 5e6}})
    convert(source, tmp_path / "m.gguf", "gguf")
    convert(elsewhere(tmp_path / "m.gguf", tmp_path / "other.gguf"), tmp_path / "back", "llama")
    back = from_config_json(json.loads((tmp_path / "back" / "config.json").read_text()))
    assert (back.rope_scaling, back.rope_theta) == (RopeScaling(**scaling), 5e6)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", SCALED)
def test_llama_cpp_scales_positions_as_transformers_does(
    kind: str, llama_cpp: Any, make: Callable[..., Path], tmp_path: Path
) -> None:
    scaling = SCALED[kind]
    source = make(config={"rope_scaling": dict(scaling), "rope_parameters": {**scaling, "rope_theta": 5e6}})
    convert(source, tmp_path / "m.gguf", "gguf")
    for text in TEXTS:
        ids, found = continued(llama_cpp, tmp_path / "m.gguf", text, 12)
        assert found == greedy(source, ids, 12)


def test_a_trained_model_continues_with_the_same_tokens_in_llama_cpp(llama_cpp: Any, tmp_path: Path) -> None:
    """A release in bf16 that `zhen run` made: its folder is named by ZHEN_RELEASE."""
    if "ZHEN_RELEASE" not in os.environ:
        pytest.skip("ZHEN_RELEASE names no release")
    source = Path(os.environ["ZHEN_RELEASE"])
    convert(source, tmp_path / "m.gguf", "gguf")
    theirs = AutoTokenizer.from_pretrained(source)
    for text in TEXTS:
        ids, found = continued(llama_cpp, tmp_path / "m.gguf", text, 24)
        assert ids == theirs.encode(text)
        assert found == greedy(source, ids, 24)


def continued(llama_cpp: Any, file: Path, text: str, count: int) -> tuple[list[int], list[int]]:
    """llama.cpp's tokens of `text`, as the file says they are made, and the `count` that it finds likeliest next."""
    model = llama_cpp.Llama(str(file), n_ctx=64, n_threads=1, verbose=False)
    ids = model.tokenize(text.encode(), add_bos=True, special=False)
    return ids, list(itertools.islice(model.generate(ids, temp=0.0, top_k=1, repeat_penalty=1.0), count))


@pytest.mark.parametrize("pre", ["gpt-2", "llama-bpe", "smaug-bpe", "qwen2"])
def test_llama_cpp_cuts_text_as_byte_level_tokenizers_do(
    pre: str, llama_cpp: Any, make: Callable[..., Path], tmp_path: Path
) -> None:
    source = make(tokenizer=False)
    theirs = byte_level(pre, source)
    convert(source, tmp_path / "m.gguf", "gguf")
    model = llama_cpp.Llama(str(tmp_path / "m.gguf"), vocab_only=True, verbose=False)
    for text in [*TEXTS, "don't  stop   at 12345 ; ok\n\n  yes\t 你好，世界 100%"]:
        assert model.tokenize(text.encode(), add_bos=True, special=True) == theirs.encode(text).ids


@pytest.mark.parametrize("name", ["llama", "yi-1.5", "falcon"])
def test_llama_cpp_cuts_text_as_published_tokenizers_do(
    name: str, llama_cpp: Any, shared_data: Path, tmp_path: Path
) -> None:
    folder = shared_data / "tokenizers" / name
    theirs = Tokenizers.from_file(str(folder / "tokenizer.json"))
    rows = theirs.get_vocab_size()
    config = msgspec.structs.replace(CONFIG, vocab_size=rows, hidden_size=8, head_dim=2, intermediate_size=8)
    tensors = [(key, "F16", shape, bytes(2 * math.prod(shape))) for key, shape in shapes(config).items()]
    shutil.copytree(folder, tmp_path / "source")
    write_sharded(tmp_path / "source", tensors, 10**9)
    (tmp_path / "source" / "config.json").write_text(json.dumps(to_config_json(config, "float16")))
    convert(tmp_path / "source", tmp_path / "m.gguf", "gguf")
    model = llama_cpp.Llama(str(tmp_path / "m.gguf"), vocab_only=True, verbose=False)
    for text in [*TEXTS, "don't  stop   at 12345 ; ok\n\n  yes\t 你好，世界 100%"]:
        assert model.tokenize(text.encode(), add_bos=True, special=True) == theirs.encode(text).ids


def test_a_number_where_a_file_should_lie_gives_no_file() -> None:
    said = {"llama.block_count": 1}
    keys = {
        "zhen.file.config.json": 4_000_000_000,
        "zhen.file.../x": "out",
        "config.json": "{}",
        "zhen.file.vocab.json": "{}",
    }
    assert restored_files(said | {"zhen.fingerprint": fingerprint(said)} | keys) == {"vocab.json": b"{}"}
