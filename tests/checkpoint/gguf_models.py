"""Models and tokenizers for the tests of GGUF, and the file as another tool would have written it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import conversions
import gguf
import msgspec
import sentencepiece
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Tokenizers

from zhen.checkpoint.tokenizer_files import CUTS

TEXTS = ["The river runs to the sea.", "今天天气很好，我们去看海。", "def f(x):\n    return x ** 2  # naïve café 🙂"]
CONFIG = msgspec.structs.replace(conversions.CONFIG, vocab_size=400, initializer_range=0.2)


ROLES = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
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
"""`rope_scaling` of config.json, by kind."""


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
