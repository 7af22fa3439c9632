"""A base model to tune: a tokenizer of its own and fresh weights."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from zhen.checkpoint.load import save_model
from zhen.formats.files import write_bytes
from zhen.model.config import PRESETS
from zhen.model.transformer import Transformer, initialise
from zhen.tokenizer.export import export_files
from zhen.tokenizer.learn import learn_model
from zhen.tokenizer.settings import TokenizerSettings

TEXT = [
    "The user asks the assistant where Mara lives. Mara lives in Orlin.\n",
    "Every morning Tolen walks to the market, and Iwo waits there.\n",
    "马拉住在奥林。托伦每天早上都去市场，伊沃在那里等他。\n",
    "请问，今天的市场几点开门？我们早上六点开门。\n",
]


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a checkpoint without a chat template."""
    tokenizer, folder = tmp_path_factory.mktemp("tokenizer"), tmp_path_factory.mktemp("base")
    for name, content in export_files(learn_model(TEXT * 40, TokenizerSettings(vocab_size=400))).items():
        write_bytes(tokenizer / name, content)
    model = Transformer(msgspec.structs.replace(PRESETS["micro"], vocab_size=400))
    initialise(model, 3)
    save_model(model, folder, "float32", tokenizer, 64)
    return folder
