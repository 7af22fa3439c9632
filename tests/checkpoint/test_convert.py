"""Conversions: round trips bit for bit on random models, the same logits in transformers, refusals, memory, kills."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from math import prod
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM, LlamaForCausalLM, Phi3ForCausalLM

from zhen.audit.checks import audit_checkpoint
from zhen.checkpoint.convert import Converted, Wanted, convert_checkpoint
from zhen.checkpoint.inspect import inspect_checkpoint
from zhen.checkpoint.reader import open_checkpoint
from zhen.checkpoint.rename import Wanted as RenameWanted
from zhen.checkpoint.rename import rename_checkpoint
from zhen.checkpoint.writer import write_sharded
from zhen.cli.app import run
from zhen.errors import ZhenError
from zhen.model.config import ModelConfig, RopeScaling, from_config_json, to_config_json
from zhen.model.size import shapes

DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
LLAMA_3 = RopeScaling(
    rope_type="llama3",
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=8192,
)
CONFIG = ModelConfig(
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    vocab_size=96,
    max_position_embeddings=64,
    rms_norm_eps=1e-6,
    rope_theta=5e6,
    pad_token_id=None,
)
TEXT = torch.randint(96, (2, 24), generator=torch.Generator().manual_seed(0))


def convert(source: Path, out: Path, target: str, **wanted: Any) -> Converted:
    return convert_checkpoint(source, out, Wanted(target, **wanted), lambda done, total: None)


def bits_of(random: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> bytes:
    """Finite numbers of every size, subnormal ones and both zeros among them."""
    width = 4 if dtype == "F32" else 2
    bits = random.integers(0, 1 << 8 * width, prod(shape), dtype=f"u{width}")
    exponent = {"F32": 0x7F80_0000, "BF16": 0x7F80, "F16": 0x7C00}[dtype]
    return np.where(bits & exponent == exponent, bits ^ exponent, bits).astype(f"<u{width}").tobytes()


def write_model(folder: Path, config: ModelConfig, dtype: str, shard_bytes: int, seed: int) -> Path:
    random = np.random.default_rng(seed)
    tensors = [(name, dtype, shape, bits_of(random, dtype, shape)) for name, shape in shapes(config).items()]
    folder.mkdir(parents=True)
    write_sharded(folder, tensors, shard_bytes)
    (folder / "config.json").write_text(json.dumps(to_config_json(config, DTYPES[dtype])))
    return folder


def content(path: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    checkpoint = open_checkpoint(path)
    return {
        name: (tensor.dtype, tensor.shape, bytes(checkpoint.read(name))) for name, tensor in checkpoint.tensors.items()
    }


def config_in(folder: Path) -> ModelConfig:
    return from_config_json(json.loads((folder / "config.json").read_text()))


@st.composite
def models(draw: st.DrawFn) -> tuple[ModelConfig, str, int, int]:
    heads = draw(st.sampled_from([1, 2, 3, 4, 6]))
    kv_heads = draw(st.sampled_from([count for count in (1, 2, 3, 4, 6) if heads % count == 0]))
    width = draw(st.sampled_from([2, 4, 6, 8]))
    config = ModelConfig(
        hidden_size=heads * width,
        intermediate_size=draw(st.integers(1, 40)),
        num_hidden_layers=draw(st.integers(1, 3)),
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        vocab_size=draw(st.integers(3, 40)),
        max_position_embeddings=draw(st.sampled_from([32, 2048, 200_000])),
        rms_norm_eps=draw(st.sampled_from([1e-5, 1e-6, 0.00123])),
        rope_theta=draw(st.sampled_from([10_000.0, 5e6, 123_456.5])),
        tie_word_embeddings=draw(st.booleans()),
    )
    return (
        config,
        draw(st.sampled_from(list(DTYPES))),
        draw(st.sampled_from([2000, 10**9])),
        draw(st.integers(0, 9)),
    )


def divisors(config: ModelConfig) -> list[int]:
    sizes = (config.num_key_value_heads, config.intermediate_size, config.vocab_size, config.hidden_size)
    return [count for count in (1, 2, 3) if not any(size % count for size in sizes)]


@pytest.mark.parametrize("target", ["yi", "meta", "gguf", "phi3", "internlm2"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(model=models(), data=st.data())
def test_there_and_back_is_bit_for_bit(
    target: str, model: tuple[ModelConfig, str, int, int], data: st.DataObject
) -> None:
    config, dtype, shard_bytes, seed = model
    wanted: dict[str, Any] = {} if target == "gguf" else {"shard_bytes": shard_bytes}
    if target == "meta":
        wanted = {"model_parallel": data.draw(st.sampled_from(divisors(config))), "tie": False}
    with tempfile.TemporaryDirectory() as base:
        source = write_model(Path(base, "source"), config, dtype, shard_bytes, seed)
        there = Path(base, "there.gguf" if target == "gguf" else "there")
        convert(source, there, target, **wanted)
        convert(there, Path(base, "back"), "llama", shard_bytes=shard_bytes, tie=config.tie_word_embeddings)
        assert content(Path(base, "back")) == content(source)
        assert config_in(Path(base, "back")) == config


def test_baichuan_and_back(tmp_path: Path) -> None:
    config = msgspec.structs.replace(CONFIG, num_key_value_heads=4, rope_theta=10_000.0)
    source = write_model(tmp_path / "source", config, "BF16", 10**9, 1)
    convert(source, tmp_path / "there", "baichuan")
    assert "model.layers.0.self_attn.W_pack.weight" in open_checkpoint(tmp_path / "there").tensors
    convert(tmp_path / "there", tmp_path / "back", "llama")
    assert content(tmp_path / "back") == content(source)
    assert config_in(tmp_path / "back") == config


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LLaMA that transformers made and saved."""
    folder = tmp_path_factory.mktemp("theirs") / "model"
    torch.manual_seed(0)
    config = AutoConfig.for_model(**to_config_json(CONFIG, "float32") | {"initializer_range": 0.2})
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def logits(folder: Path, **more: Any) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False, dtype=torch.float32, **more)
    with torch.no_grad():
        found: torch.Tensor = model.eval()(TEXT).logits
    return found


@pytest.mark.parametrize("target", ["yi", "meta", "gguf", "phi3", "internlm2"])
def test_transformers_gives_the_same_logits_after_conversion_from_each(
    target: str, theirs: Path, tmp_path: Path
) -> None:
    there = tmp_path / ("there.gguf" if target == "gguf" else "there")
    convert(theirs, there, target)
    convert(there, tmp_path / "back", "llama")
    assert torch.equal(logits(tmp_path / "back"), logits(theirs))
    assert inspect_checkpoint(tmp_path / "back").family == "llama"


def test_transformers_own_phi3_gives_the_same_logits(theirs: Path, tmp_path: Path) -> None:
    convert(theirs, tmp_path / "phi3", "phi3")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "phi3", trust_remote_code=False)
    assert isinstance(model, Phi3ForCausalLM)
    assert (logits(tmp_path / "phi3") - logits(theirs)).abs().max() < 1e-5


def test_a_file_of_torch_save_becomes_safetensors(theirs: Path, tmp_path: Path) -> None:
    state = LlamaForCausalLM.from_pretrained(theirs).state_dict()
    (tmp_path / "torch").mkdir()
    shutil.copy(theirs / "config.json", tmp_path / "torch")
    # one transposed, as it comes when a trainer keeps its matrices the other way round
    head = state["lm_head.weight"].t().contiguous().t()
    torch.save(state | {"lm_head.weight": head}, tmp_path / "torch" / "pytorch_model.bin")
    convert(tmp_path / "torch", tmp_path / "back", "llama")
    assert content(tmp_path / "back") == content(theirs)


def test_tied_and_untied(tmp_path: Path) -> None:
    tied = msgspec.structs.replace(CONFIG, tie_word_embeddings=True)
    source = write_model(tmp_path / "source", tied, "BF16", 10**9, 1)
    convert(source, tmp_path / "two", "llama", tie=False)
    two = content(tmp_path / "two")
    assert two["lm_head.weight"] == two["model.embed_tokens.weight"]
    assert not config_in(tmp_path / "two").tie_word_embeddings
    convert(tmp_path / "two", tmp_path / "one", "llama", tie=True)
    assert content(tmp_path / "one") == content(source)
    other = write_model(tmp_path / "other", CONFIG, "BF16", 10**9, 2)
    with pytest.raises(ZhenError, match="a head of its own"):
        convert(other, tmp_path / "never", "llama", tie=True)


def test_a_padded_vocabulary_is_zeros_and_comes_off_again(theirs: Path, tmp_path: Path) -> None:
    convert(theirs, tmp_path / "padded", "llama", vocab_size=128)
    assert config_in(tmp_path / "padded").vocab_size == 128
    wide = logits(tmp_path / "padded")
    assert torch.equal(wide[..., :96], logits(theirs))
    assert not wide[..., 96:].any()
    convert(tmp_path / "padded", tmp_path / "cut", "llama", vocab_size=96)
    assert content(tmp_path / "cut") == content(theirs)
    with pytest.raises(ZhenError, match=r"at least 96: rows up to there are not zeros"):
        convert(tmp_path / "padded", tmp_path / "never", "llama", vocab_size=95)


@pytest.mark.parametrize("dtype", ["bf16", "f16"])
def test_casts_are_torchs(dtype: str, theirs: Path, tmp_path: Path) -> None:
    convert(theirs, tmp_path / "cast", "llama", dtype=dtype)
    kind = {"bf16": torch.bfloat16, "f16": torch.float16}[dtype]
    state = LlamaForCausalLM.from_pretrained(theirs).state_dict()
    for name, (_, _, data) in content(tmp_path / "cast").items():
        assert data == state[name].to(kind).view(torch.int16).numpy().tobytes()
    assert AutoConfig.from_pretrained(tmp_path / "cast").dtype == kind


def test_shards_hold_what_was_asked(tmp_path: Path) -> None:
    source = write_model(tmp_path / "source", CONFIG, "BF16", 10**9, 1)
    done = convert(source, tmp_path / "many", "llama", shard_bytes=20_000)
    assert max(size for name, size in done.files.items() if name.endswith(".safetensors")) < 20_000 + 5_000
    assert len(done.files) > 8
    assert content(tmp_path / "many") == content(source)
    assert open_checkpoint(tmp_path / "many").notes == []


@pytest.mark.parametrize(
    ("changes", "target", "wanted", "says"),
    [
        ({}, "lama", {}, 'did you mean "llama"'),
        ({}, "llama", {"dtype": "q8_0"}, "--to gguf"),
        ({}, "gguf", {"model_parallel": 2}, "--to meta"),
        ({}, "gguf", {"shard_bytes": 2000}, "--shard-bytes: 2000"),
        ({}, "meta", {"model_parallel": 4}, "num_key_value_heads: 2; expected a multiple of the 4"),
        ({"tie_word_embeddings": True}, "meta", {}, "--untie"),
        ({"head_dim": 8}, "meta", {}, "head_dim: 8"),
        ({}, "baichuan", {}, "num_key_value_heads: 2"),
        ({"rope_scaling": LLAMA_3, "max_position_embeddings": 8192}, "phi3", {}, "rope_scaling: llama3"),
        ({"rope_scaling": RopeScaling(rope_type="dynamic", factor=2.0)}, "gguf", {}, "'dynamic'"),
    ],
)
def test_what_a_target_cannot_hold_is_refused(
    changes: dict[str, Any], target: str, wanted: dict[str, Any], says: str, tmp_path: Path
) -> None:
    config = msgspec.structs.replace(CONFIG, **changes)
    source = write_model(tmp_path / "source", config, "BF16", 10**9, 1)
    for dry_run in (True, False):
        with pytest.raises(ZhenError) as error:
            convert(source, tmp_path / "out", target, dry_run=dry_run, **wanted)
        assert says in "\n".join(error.value.lines())
    assert os.listdir(tmp_path) == ["source"]


@pytest.mark.parametrize(("dtype", "hint"), [("I8", None), ("F64", "--dtype f32 casts it"), ("F8_E4M3", None)])
def test_weights_that_are_no_plain_numbers_are_refused(dtype: str, hint: str | None, tmp_path: Path) -> None:
    width = 8 if dtype == "F64" else 1
    tensors = [(name, dtype, shape, bytes(width * prod(shape))) for name, shape in shapes(CONFIG).items()]
    (tmp_path / "source").mkdir()
    write_sharded(tmp_path / "source", tensors, 10**9)
    (tmp_path / "source" / "config.json").write_text(json.dumps(to_config_json(CONFIG, "float32")))
    for target in ("llama", "gguf", "meta"):
        with pytest.raises(ZhenError, match=f"dtype {dtype}") as error:
            convert(tmp_path / "source", tmp_path / "out", target)
        assert error.value.hint == hint
    if dtype == "F64":
        convert(tmp_path / "source", tmp_path / "cast", "llama", dtype="f32")
        assert {kind for kind, _, _ in content(tmp_path / "cast").values()} == {"F32"}


def test_quantised_weights_and_unknown_names_are_refused(theirs: Path, tmp_path: Path) -> None:
    shutil.copytree(theirs, tmp_path / "source")
    config = json.loads((theirs / "config.json").read_text())
    (tmp_path / "source" / "config.json").write_text(json.dumps(config | {"quantization_config": {"bits": 8}}))
    with pytest.raises(ZhenError, match="weights quantised as"):
        convert(tmp_path / "source", tmp_path / "out", "llama")
    (tmp_path / "odd").mkdir()
    write_sharded(tmp_path / "odd", [("one.two", "F32", (1,), bytes(4))], 10**9)
    with pytest.raises(ZhenError, match="no known scheme"):
        convert(tmp_path / "odd", tmp_path / "out", "llama")


def test_licence_and_tokenizer_go_along_but_no_link_out_of_the_folder(theirs: Path, tmp_path: Path) -> None:
    shutil.copytree(theirs, tmp_path / "source")
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "source" / "LICENSE").write_text("as you like")
    (tmp_path / "source" / "NOTICE").symlink_to(tmp_path / "secret")
    made = {"tokenizer_class": "YiTokenizer", "auto_map": {"AutoTokenizer": ["tokenization_yi.YiTokenizer", None]}}
    (tmp_path / "source" / "tokenizer_config.json").write_text(json.dumps(made))
    (tmp_path / "source" / "tokenization_yi.py").write_text("raise SystemExit")
    convert(tmp_path / "source", tmp_path / "out", "llama")
    kept = {"LICENSE", "config.json", "generation_config.json", "model.safetensors", "tokenizer_config.json"}
    assert set(os.listdir(tmp_path / "out")) == kept | {"zhen-record.json"}
    record = json.loads((tmp_path / "out" / "zhen-record.json").read_text())
    assert list(record["license"]["files"]) == ["LICENSE"]
    assert json.loads((tmp_path / "out" / "tokenizer_config.json").read_text()) == {"tokenizer_class": "LlamaTokenizer"}


def test_the_record_says_what_was_read_and_the_licence_and_follows_a_rename(theirs: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(theirs, tmp_path / "source"))
    (source / "LICENSE").write_text("as you like")
    convert(source, tmp_path / "phi3", "phi3", dtype="f16")
    convert(tmp_path / "phi3", tmp_path / "out", "llama")
    record = json.loads((tmp_path / "phi3" / "zhen-record.json").read_text())
    files = {name: hashlib.sha256((source / name).read_bytes()).hexdigest() for name in record["files"]}
    assert record["files"] == files
    assert {"model.safetensors", "config.json", "LICENSE"} <= files.keys()
    rename_checkpoint(tmp_path / "out", RenameWanted("yi", in_place=True))
    record = json.loads((tmp_path / "out" / "zhen-record.json").read_text())
    made = [(step["source"], step["target"], step.get("converted")) for step in record["steps"]]
    assert made == [("llama", "phi3", {"dtype": "f16"}), ("phi3", "llama", {}), ("llama", "yi", None)]
    assert str(tmp_path) not in json.dumps(record)
    (tmp_path / "phi3" / "LICENSE").write_text("as I like")
    verdicts = {finding.id: finding.verdict for finding in audit_checkpoint(tmp_path / "phi3").findings}
    assert (verdicts["claims.origin"], verdicts["license.origin"]) == ("could not be checked", "fails")


def test_a_pointer_of_git_lfs_is_no_tokenizer(theirs: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(theirs, tmp_path / "source"))
    (source / "tokenizer.model").write_text("version https://git-lfs.github.com/spec/v1\nsize 5\n")
    with pytest.raises(ZhenError, match="Git LFS pointer"):
        convert(source, tmp_path / "out", "llama")


def test_a_number_too_large_leaves_nothing(tmp_path: Path) -> None:
    source = write_model(tmp_path / "source", CONFIG, "BF16", 10**9, 1)
    with pytest.raises(ZhenError, match="too large for F16"):
        convert(source, tmp_path / "out", "llama", dtype="f16")
    with pytest.raises(ZhenError, match="too large for F16"):
        convert(source, tmp_path / "out.gguf", "gguf", dtype="f16")
    assert os.listdir(tmp_path) == ["source"]


def test_what_exists_is_not_overwritten_but_an_empty_folder_may_be_given(tmp_path: Path) -> None:
    source = write_model(tmp_path / "source", CONFIG, "BF16", 10**9, 1)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    (tmp_path / "file.gguf").write_text("mine")
    for out, target in (("full", "llama"), ("file.gguf", "gguf"), ("full", "gguf")):
        with pytest.raises(ZhenError, match="exists already"):
            convert(source, tmp_path / out, target)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ZhenError, match=r"expected a new name$"):
        convert(source, tmp_path / "empty", "gguf")
    convert(source, tmp_path / "empty", "yi")
    assert open_checkpoint(tmp_path / "empty").tensors


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("target", ["llama", "meta", "gguf"])
def test_stopped_half_way_nothing_of_that_name_is_there(sent: signal.Signals, target: str, tmp_path: Path) -> None:
    source = write_model(tmp_path / "source", CONFIG, "BF16", 10**9, 1)
    out = tmp_path / "out"
    code = f"""
import os, signal, sys
from zhen.checkpoint.convert import Wanted, convert_checkpoint
def report(done, total):
    if done > total / 2:
        os.kill(os.getpid(), {int(sent)})
convert_checkpoint({str(source)!r}, {str(out)!r}, Wanted({target!r}), report)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode != 0
    assert not out.exists()
    if sent == signal.SIGINT:
        assert os.listdir(tmp_path) == ["source"]
    convert(source, out, target)
    assert sorted(os.listdir(tmp_path)) == ["out", "source"]


MEASURED = """
import re, sys
from pathlib import Path
from zhen.checkpoint.convert import Wanted, convert_checkpoint
def largest():  # resident set so far, mapped pages of files included
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
source, out, target, dtype = sys.argv[1:]
before = largest()
convert_checkpoint(source, out, Wanted(target, dtype=dtype or None), lambda done, total: None)
print(before, largest())
"""


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """266 MB in tensors of at most 8 MB."""
    config = ModelConfig(
        hidden_size=1024,
        intermediate_size=2048,
        num_hidden_layers=12,
        num_attention_heads=8,
        vocab_size=4096,
        max_position_embeddings=64,
    )
    one = (np.random.default_rng(0).integers(0, 1 << 10, 4096 * 1024, dtype=np.uint16) + 0x3C00).tobytes()
    tensors = [(name, "BF16", shape, memoryview(one)[: 2 * prod(shape)]) for name, shape in shapes(config).items()]
    folder = tmp_path_factory.mktemp("wide")
    write_sharded(folder, tensors, 10**9)
    (folder / "config.json").write_text(json.dumps(to_config_json(config, "bfloat16")))
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("target", "dtype"), [("llama", "f32"), ("phi3", ""), ("meta", ""), ("gguf", "q8_0")])
def test_memory_is_that_of_a_few_tensors_whatever_the_model(
    target: str, dtype: str, wide: Path, tmp_path: Path
) -> None:
    """Beyond what Python and numpy have: the promised limit is 3 times the largest tensor and 200 MB in all."""
    largest = 3 * 2 * 2048 * 1024 if target == "phi3" else 2 * 4096 * 1024
    arguments = [str(wide), str(tmp_path / "out"), target, dtype]
    done = subprocess.run([sys.executable, "-c", MEASURED, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    before, peak = map(int, done.stdout.split())
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    print(peak - before, peak)
    assert peak - before < 3 * largest + 60_000_000


def test_the_verb_prints_one_object_and_a_dry_run_writes_nothing(
    theirs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZHEN_LAUNCHED", "1")
    arguments = ["convert", str(theirs), "--to", "gguf", "--out", str(tmp_path / "m.gguf"), "--json"]
    assert run([*arguments, "--dry-run"]) == 0
    dry = json.loads(capsys.readouterr().out)
    assert os.listdir(tmp_path) == []
    assert run(arguments) == 0
    done = json.loads(capsys.readouterr().out)
    assert (dry["dry_run"], dry["files"], dry["bytes"]) == (True, {}, done["bytes"])
    assert done["files"] == {"m.gguf": (tmp_path / "m.gguf").stat().st_size}
    assert run(arguments) == 2
    assert "exists already; expected a new name" in capsys.readouterr().err
