"""Packed checkpoints under `zhen rename` and `zhen convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from zhen.checkpoint.convert import Wanted, convert_checkpoint
from zhen.checkpoint.inspect import inspect_checkpoint
from zhen.checkpoint.load import load_model
from zhen.checkpoint.rename import Wanted as Renaming
from zhen.checkpoint.rename import rename_checkpoint
from zhen.errors import ZhenError
from zhen.formats.record import VERB_RECORD
from zhen.quantize.settings import QuantizeSettings
from zhen.quantize.write import quantise_checkpoint
from zhen.release.renamed import release_renamed


@pytest.fixture(scope="module")
def packed(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("packed")
    settings = QuantizeSettings(bits=4, group=32, head_bits=8, embedding_bits=8, method="rtn")
    quantise_checkpoint(checkpoint, work / "q", work / "parts", settings, None, lambda *progress: None)
    # as the verb leaves it: a record of the name that `zhen convert` gives its own
    (work / "q" / VERB_RECORD).write_text('{"stage": "quantize", "version": 2, "key": ""}')
    return work / "q"


@pytest.mark.parametrize("target", ["llama", "yi", "gguf"])
def test_convert_writes_the_weights_that_packed_ones_stand_for(packed: Path, tmp_path: Path, target: str) -> None:
    out = tmp_path / ("plain.gguf" if target == "gguf" else "plain")
    made = convert_checkpoint(packed, out, Wanted(target), lambda done, total: None)
    assert any("unpacked" in note for note in made.notes)
    before, after = load_model(packed).state_dict(), load_model(out).state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name].float(), weight.float()) for name, weight in before.items())
    assert not any("quantised" in note for note in inspect_checkpoint(out).notes)


@pytest.mark.parametrize("more", [{}, {"in_place": True}, {"dry_run": True}])
def test_rename_refuses_with_what_to_do_and_leaves_all_as_it_was(
    packed: Path, tmp_path: Path, more: dict[str, Any]
) -> None:
    before = {path.name: path.read_bytes() for path in packed.iterdir()}
    with pytest.raises(ZhenError, match="compressed-tensors pack-quantized") as refused:
        rename_checkpoint(packed, Renaming("yi", out=None if "in_place" in more else tmp_path / "out", **more))
    assert f"zhen convert {packed} --to yi --out FOLDER" in str(refused.value.hint)
    assert {path.name: path.read_bytes() for path in packed.iterdir()} == before
    assert not (tmp_path / "out").exists()


def test_release_takes_the_verbs_record_for_what_it_is(packed: Path, tmp_path: Path) -> None:
    with pytest.raises(ZhenError, match="another verb's") as refused:
        release_renamed(packed, tmp_path / "out", "q")
    assert "[quantize]" in str(refused.value.hint)
