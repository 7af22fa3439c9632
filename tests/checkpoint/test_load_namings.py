"""Models of other namings and layouts load as the models they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

from zhen.checkpoint.convert import Wanted, convert_checkpoint
from zhen.checkpoint.fused import from_llama
from zhen.checkpoint.load import load_model, save_model
from zhen.checkpoint.reader import open_checkpoint
from zhen.checkpoint.views import views, written
from zhen.checkpoint.writer import write_sharded
from zhen.errors import ZhenError
from zhen.model.config import ModelConfig
from zhen.model.transformer import Transformer, initialise

TEXT = torch.randint(60, (2, 20), generator=torch.Generator().manual_seed(0))
GROUPED: dict[str, Any] = {"num_attention_heads": 4, "num_key_value_heads": 2}

META = {"dim": 32, "multiple_of": 16, "n_heads": 4, "n_kv_heads": 2, "n_layers": 2, "norm_eps": 1e-5, "vocab_size": 60}
COMMON = {
    "hidden_size": 32, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "vocab_size": 60, "hidden_act": "silu", "rms_norm_eps": 1e-5, "max_position_embeddings": 4096,
}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "yi": COMMON | {"model_type": "Yi", "architectures": ["YiForCausalLM"], "num_key_value_heads": 2},
    "meta": META,
    "phi3": COMMON | {"model_type": "phi3", "num_key_value_heads": 2, "sliding_window": None},
    "baichuan": COMMON | {"model_type": "baichuan", "architectures": ["BaiChuanForCausalLM"]},
    "internlm2": COMMON | {"model_type": "internlm2", "num_key_value_heads": 2, "bias": False},
    "megatron": COMMON | {"num_query_groups": 2},
    "lit-llama": {"n_embd": 32, "n_layer": 2, "n_head": 4, "block_size": 4096, "vocab_size": 60,
                  "rms_norm_eps": 1e-5, "intermediate_size": 96},
    "qwen": COMMON | {"model_type": "qwen", "intermediate_size": 192, "kv_channels": 8},
}  # fmt: skip


def stored(folder: Path, scheme: str) -> Transformer:
    """A random model, and the folder of it under the scheme's names with its family's configuration."""
    groups = 4 if scheme in ("baichuan", "lit-llama", "qwen") else 2
    config = ModelConfig(
        hidden_size=32, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=groups,
        vocab_size=60, max_position_embeddings=4096, initializer_range=0.3,
    )  # fmt: skip
    model = Transformer(config)
    initialise(model, 1)
    save_model(model, folder / "llama", "float32", None, 4096)
    theirs = from_llama(views(open_checkpoint(folder / "llama")), scheme, config)
    (folder / "theirs").mkdir()
    write_sharded(folder / "theirs", [written(view) for view in theirs], 20_000)
    (folder / "theirs" / "config.json").write_text(json.dumps(CONFIGS[scheme]))
    return model


@pytest.mark.parametrize("scheme", CONFIGS)
@torch.no_grad()
def test_a_model_of_another_naming_is_the_same_model(scheme: str, tmp_path: Path) -> None:
    ours = stored(tmp_path, scheme)
    loaded = load_model(tmp_path / "theirs")
    assert torch.equal(loaded(TEXT), ours(TEXT))


@torch.no_grad()
def test_what_transformers_saves_of_phi3_is_loaded(tmp_path: Path) -> None:
    config = transformers.Phi3Config(**COMMON, num_key_value_heads=2, pad_token_id=0, eos_token_id=2)
    theirs = transformers.Phi3ForCausalLM(config).eval()
    theirs.save_pretrained(tmp_path)
    torch.testing.assert_close(load_model(tmp_path)(TEXT), theirs(TEXT).logits, rtol=1e-4, atol=1e-5)


def test_a_family_that_differs_is_refused_with_what_differs(tmp_path: Path) -> None:
    stored(tmp_path, "baichuan")
    file = tmp_path / "theirs" / "config.json"
    file.write_text(json.dumps(CONFIGS["baichuan"] | {"hidden_size": 5120}))
    with pytest.raises(ZhenError, match=r"config\.json, model_type: 'baichuan' of 13B adds ALiBi"):
        load_model(tmp_path / "theirs")


def test_biases_are_not_dropped(tmp_path: Path) -> None:
    config = transformers.Qwen2Config(**COMMON, num_key_value_heads=2)
    transformers.Qwen2ForCausalLM(config).save_pretrained(tmp_path)
    with pytest.raises(ZhenError, match=r'6 tensors without a name in "qwen2": .*bias'):
        load_model(tmp_path)


@torch.no_grad()
def test_pickled_weights_and_metas_folder_load_as_the_same_model(tmp_path: Path) -> None:
    ours = stored(tmp_path, "meta")
    torch.save(ours.state_dict(), tmp_path / "llama" / "pytorch_model.bin")
    (tmp_path / "llama" / "model.safetensors").unlink()
    assert torch.equal(load_model(tmp_path / "llama")(TEXT), ours(TEXT))
    meta = {
        name: tensor for file in (tmp_path / "theirs").glob("*.safetensors") for name, tensor in load_file(file).items()
    }
    folder = tmp_path / "consolidated"
    folder.mkdir()
    torch.save(meta | {"rope.freqs": torch.zeros(4)}, folder / "consolidated.00.pth")
    (folder / "params.json").write_text(json.dumps(META | {"multiple_of": 32}))
    assert torch.equal(load_model(folder)(TEXT), ours(TEXT))


@torch.no_grad()
def test_a_gguf_file_loads_as_the_same_model(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    ours = stored(tmp_path, "yi")
    convert_checkpoint(tmp_path / "theirs", tmp_path / "m.gguf", Wanted("gguf"), lambda done, total: None)
    assert torch.equal(load_model(tmp_path / "m.gguf")(TEXT), ours(TEXT))
