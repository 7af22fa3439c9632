"""A quantised checkpoint: what transformers makes of it, what Zhen reads back, what its record says."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from zhen.audit.checks import audit_checkpoint
from zhen.checkpoint.inspect import inspect_checkpoint
from zhen.checkpoint.load import load_model, save_model
from zhen.checkpoint.packed import PACKED, SCALE, SHAPE
from zhen.checkpoint.reader import open_checkpoint
from zhen.checkpoint.writer import write_safetensors
from zhen.errors import ZhenError
from zhen.model.size import packed_weights, weight_group
from zhen.quantize.calibrate import calibrate
from zhen.quantize.round import round_to_nearest
from zhen.quantize.settings import QuantizeSettings
from zhen.quantize.stage import quantize
from zhen.quantize.write import Quantised, quantise_checkpoint, read_quantised
from zhen.tokenizer.load import load_tokenizer

IDS = torch.arange(3, 51)[None]


def made(source: Path, folder: Path, text: Path | None = None, **more: Any) -> Quantised:
    settings = QuantizeSettings(**{"group": 64, "method": "gptq" if text else "rtn", "tokens": 12 * 64} | more)
    return quantise_checkpoint(source, folder / "q", folder / "parts", settings, text, lambda done, total, facts: None)


def loaded_by_transformers(folder: Path) -> Any:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("compressed_tensors", reason="transformers reads packed weights through it")
    transformers.logging.disable_progress_bar()
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)


@pytest.mark.parametrize(
    ("which", "more"),
    [
        ("checkpoint", {"bits": 4, "head_bits": 8}),
        ("checkpoint", {"bits": 8, "group": 32}),
        ("tied", {"bits": 4, "group": 32}),
    ],
    ids=["4-bits-head-8", "8-bits", "tied"],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_transformers_computes_what_our_dequantised_weights_do(
    which: str, more: dict[str, Any], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    made(request.getfixturevalue(which), tmp_path, **more)
    theirs = loaded_by_transformers(tmp_path / "q")
    ours = load_model(tmp_path / "q")
    save_model(ours, tmp_path / "whole", "bfloat16", None, 64)
    plain = loaded_by_transformers(tmp_path / "whole")
    with torch.inference_mode():
        logits = theirs(IDS).logits  # unpacks on the first pass
        assert torch.equal(logits, plain(IDS).logits)
        state = theirs.state_dict()
        assert all(torch.equal(state[name], tensor) for name, tensor in ours.state_dict().items())
        assert torch.allclose(ours.float()(IDS), plain.float()(IDS).logits, atol=1e-4)


def test_what_is_read_back_is_what_was_rounded(checkpoint: Path, tmp_path: Path) -> None:
    made(checkpoint, tmp_path, embedding_bits=8)
    before, after = load_model(checkpoint, "float32").state_dict(), load_model(tmp_path / "q").state_dict()
    for name, weight in before.items():
        bits = 8 if "embed" in name else 4
        packed = weight.dim() == 2 and name != "lm_head.weight"
        group = weight_group(weight.shape[-1], 64)
        due = round_to_nearest(weight, bits, group, torch.bfloat16).weight() if packed else weight
        assert torch.equal(after[name].float(), due), name


def test_inspect_names_bits_and_groups_and_counts_parameters(checkpoint: Path, tmp_path: Path) -> None:
    report = made(checkpoint, tmp_path, head_bits=8)
    seen, before = inspect_checkpoint(tmp_path / "q"), inspect_checkpoint(checkpoint)
    assert seen.dtypes == {"int4/64": 12, "BF16": 6, "int4/32": 2, "int8/64": 1}
    assert (seen.family, seen.parameters, seen.unmapped) == ("llama", before.parameters, [])
    assert seen.bytes == report.bytes_after < 0.55 * report.bytes_before
    assert any("compressed-tensors pack-quantized" in note for note in seen.notes)


@pytest.mark.parametrize("more", [{}, {"bits": 8, "group": 32}, {"head_bits": 8, "embedding_bits": 8}])
def test_bytes_are_those_of_the_formula(checkpoint: Path, tmp_path: Path, more: dict[str, Any]) -> None:
    report = made(checkpoint, tmp_path, **more)
    config = load_model(checkpoint).config
    due = packed_weights(config, **{"bits": 4, "group": 64} | more)
    assert report.bytes_after == pytest.approx(due, rel=0.05)
    assert (tmp_path / "q" / "model.safetensors").stat().st_size > report.bytes_after


def test_gptq_moves_layers_less_than_rounding(checkpoint: Path, text: Path, tmp_path: Path) -> None:
    reports = {}
    for method in ("rtn", "gptq"):
        reports[method] = made(checkpoint, tmp_path / method, text, method=method)
    for rounded, better in zip(reports["rtn"].layers, reports["gptq"].layers, strict=True):
        assert better.output_error < rounded.output_error
        outputs = [sum(m.output_error for m in layer.matrices) for layer in (better, rounded)]
        assert outputs[0] < 0.8 * outputs[1]


def test_the_errors_are_those_of_the_stored_weights(checkpoint: Path, text: Path, tmp_path: Path) -> None:
    report = made(checkpoint, tmp_path, text)
    before, after = load_model(checkpoint, "float32").state_dict(), load_model(tmp_path / "q", "float32").state_dict()
    assert [layer.layer for layer in report.layers] == [0, 1]
    for matrix in (matrix for layer in report.layers for matrix in layer.matrices):
        moved = (after[matrix.name] - before[matrix.name]).norm() / before[matrix.name].norm()
        assert matrix.weight_error == pytest.approx(float(moved), rel=1e-3)


def test_both_languages_are_in_the_calibration_text(text: Path, tokenizer: Path) -> None:
    found = calibrate(text, load_tokenizer(tokenizer), sequences=10, length=32)
    assert found.languages == {"en": 160, "zh": 160}
    assert found.tokens.shape == (10, 32)
    decoded = load_tokenizer(tokenizer).decode(found.tokens[9].tolist())
    assert "磨坊" in decoded
    assert found.sha256 == calibrate(text, load_tokenizer(tokenizer), sequences=10, length=32).sha256
    assert found.sha256 != calibrate(text, load_tokenizer(tokenizer), sequences=8, length=32).sha256


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [("a.jsonl", '{"text": "x"}\n{"txt": 1}\n', "line 2"), ("a.txt", "too short", "tokens"), ("a.csv", "", "no files")],
)
def test_text_that_is_none_is_told(tmp_path: Path, tokenizer: Path, name: str, content: str, said: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ZhenError) as caught:
        calibrate(tmp_path, load_tokenizer(tokenizer), 4, 32)
    assert said in "\n".join(caught.value.lines())


def test_a_packed_embedding_is_refused_where_it_is_the_head_too(tied: Path, tmp_path: Path) -> None:
    with pytest.raises(ZhenError, match="whose head is its embedding"):
        made(tied, tmp_path, head_bits=8)


def test_what_is_quantised_is_not_quantised_again(checkpoint: Path, tmp_path: Path) -> None:
    made(checkpoint, tmp_path)
    with pytest.raises(ZhenError, match="quantised already"):
        made(tmp_path / "q", tmp_path / "again")


def test_gptq_without_text_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ZhenError, match="no calibration text"):
        made(checkpoint, tmp_path, method="gptq")


def damaged(folder: Path, change: Any) -> None:
    """Rewrite a checkpoint's tensors, each changed by `change(name, dtype, shape, data)`, None to leave it out."""
    opened = open_checkpoint(folder / "model.safetensors")
    tensors = [(i.name, i.dtype, i.shape, bytes(opened.read(i.name))) for i in opened.tensors.values()]
    write_safetensors(folder / "model.safetensors", [t for t in (change(*t) for t in tensors) if t], {})


NAME = "model.layers.0.mlp.up_proj.weight"


@pytest.mark.parametrize(
    "change",
    [
        lambda n, d, s, b: None if n == NAME + SCALE else (n, d, s, b),
        lambda n, d, s, b: None if n == NAME + SHAPE else (n, d, s, b),
        lambda n, d, s, b: (n, d, s, np.array([96, 1 << 40]).tobytes()) if n == NAME + SHAPE else (n, d, s, b),
        lambda n, d, s, b: (n, d, s, np.array([-96, 64]).tobytes()) if n == NAME + SHAPE else (n, d, s, b),
        lambda n, d, s, b: (n, "I16", (s[0], s[1] * 2), b) if n == NAME + PACKED else (n, d, s, b),
        lambda n, d, s, b: (n, d, (s[1], s[0]), b) if n == NAME + SCALE else (n, d, s, b),
    ],
    ids=["no-scale", "no-shape", "wide", "negative", "words", "scales"],
)
def test_parts_that_do_not_fit_are_told_by_name(checkpoint: Path, tmp_path: Path, change: Any) -> None:
    made(checkpoint, tmp_path, bits=8, group=32)
    damaged(tmp_path / "q", change)
    with pytest.raises(ZhenError) as caught:
        load_model(tmp_path / "q")
    assert NAME in "\n".join(caught.value.lines())


def weights_findings(folder: Path) -> dict[str, tuple[str, str]]:
    found = audit_checkpoint(folder).findings
    return {each.id: (each.verdict, each.evidence) for each in found if each.id.startswith("weights.")}


def test_the_audit_takes_packed_matrices_for_what_they_stand_for(checkpoint: Path, tmp_path: Path) -> None:
    made(checkpoint, tmp_path)
    found = weights_findings(tmp_path / "q")
    assert {verdict for verdict, _ in found.values()} == {"holds"}
    assert found["weights.dtype"][1] == "21 in BF16, 14 of them packed as int4/32, int4/64"
    damaged(tmp_path / "q", lambda n, d, s, b: None if n == NAME + SCALE else (n, d, s, b))
    assert weights_findings(tmp_path / "q")["weights.packed"][0] == "fails"


def test_weights_quantised_in_another_form_are_told(checkpoint: Path, tmp_path: Path) -> None:
    shutil.copytree(checkpoint, tmp_path / "c")
    config = json.loads((tmp_path / "c" / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "awq", "bits": 4}
    (tmp_path / "c" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ZhenError, match="awq"):
        load_model(tmp_path / "c")
    assert any("awq" in note for note in inspect_checkpoint(tmp_path / "c").notes)


def staged(make_context: Any, folder: Path, checkpoint: Path, text: Path, **more: Any) -> Any:
    (folder.parent / "pretrain").mkdir(exist_ok=True)
    if not (folder.parent / "pretrain" / "checkpoint").exists():
        shutil.copytree(checkpoint, folder.parent / "pretrain" / "checkpoint")
    after = {"pretrain": folder.parent / "pretrain", "data.write/kept": text}
    return make_context(folder, {"quantize": QuantizeSettings(group=64, tokens=12 * 64)}, after, **more)


def results(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "checkpoint").iterdir())}


def test_killed_anywhere_it_ends_in_the_same_bits(
    make_context: Any, checkpoint: Path, text: Path, tmp_path: Path
) -> None:
    whole = staged(make_context, tmp_path / "whole", checkpoint, text)
    figures = quantize(whole)
    assert figures["calibration_tokens.zh"].value == 6 * 64
    due = results(tmp_path / "whole")
    assert sorted(whole.outputs) == sorted(f"checkpoint/{name}" for name in due)
    updates = len(whole.line.updates)
    for moment in (1, 4, 9, updates - 1):
        child = os.fork()
        if child == 0:
            context = staged(make_context, tmp_path / "killed", checkpoint, text)
            context.line._at = lambda number, moment=moment: os.kill(os.getpid(), 9) if number == moment else None
            quantize(context)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) in (-9, 0)
    quantize(staged(make_context, tmp_path / "killed", checkpoint, text))
    assert results(tmp_path / "killed") == due
    assert read_quantised(tmp_path / "killed" / "checkpoint") == read_quantised(tmp_path / "whole" / "checkpoint")


def test_parts_of_other_settings_are_not_used(checkpoint: Path, text: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int, facts: str) -> None:
        if done == 8:
            raise KeyboardInterrupt

    settings = QuantizeSettings(bits=4, group=64, method="rtn")
    with pytest.raises(KeyboardInterrupt):
        quantise_checkpoint(checkpoint, tmp_path / "q", tmp_path / "parts", settings, None, stop)
    made(checkpoint, tmp_path, bits=8)
    made(checkpoint, tmp_path / "alone", bits=8)
    assert (tmp_path / "q" / "model.safetensors").read_bytes() == (
        tmp_path / "alone" / "q" / "model.safetensors"
    ).read_bytes()
