"""Tokenizer files, licences, figures and bare checkpoints."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from zhen.audit.checks import audit_checkpoint
from zhen.audit.figures import CardFigure, mark, pointer, render, resolve
from zhen.audit.license import identify, text_of
from zhen.audit.tokens import sentencepiece_pieces
from zhen.checkpoint.writer import write_safetensors
from zhen.errors import ZhenError
from zhen.model.config import ModelConfig, to_config_json
from zhen.model.size import shapes

CONFIG = ModelConfig(
    hidden_size=8,
    intermediate_size=12,
    num_hidden_layers=1,
    num_attention_heads=2,
    vocab_size=10,
    max_position_embeddings=32,
    tie_word_embeddings=True,
)


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A checkpoint without card, tokenizer or manifest."""
    tensors = [(name, "F32", shape, bytes(4 * _product(shape))) for name, shape in shapes(CONFIG).items()]
    write_safetensors(tmp_path / "model.safetensors", tensors, {"format": "pt"})
    (tmp_path / "config.json").write_text(json.dumps(to_config_json(CONFIG, "float32")))
    return tmp_path


def _product(shape: tuple[int, ...]) -> int:
    return shape[0] * (shape[1] if len(shape) > 1 else 1)


def test_bare_checkpoint_passes_and_says_what_was_not_checked(bare: Path) -> None:
    report = audit_checkpoint(bare)
    assert report.passed
    unsure = {finding.id for finding in report.of("could not be checked")}
    assert {"files.manifest", "tokenizer.rows", "claims.figures", "claims.context", "license.text"} <= unsure
    assert all(finding.evidence for finding in report.findings)


def test_single_file_without_config_does_not_pass(bare: Path) -> None:
    report = audit_checkpoint(bare / "model.safetensors")
    assert not report.passed
    assert "config.llama" in {finding.id for finding in report.of("could not be checked")}


def test_stored_tied_head_is_fine_only_where_it_is_the_embedding(bare: Path) -> None:
    tensors = [(name, "F32", shape, bytes(4 * _product(shape))) for name, shape in shapes(CONFIG).items()]
    head = ("lm_head.weight", "F32", (10, 8), bytes(320))
    write_safetensors(bare / "model.safetensors", [*tensors, head], {})
    assert audit_checkpoint(bare).passed
    write_safetensors(bare / "model.safetensors", [*tensors, (*head[:3], b"\1" * 320)], {})
    assert [finding.id for finding in audit_checkpoint(bare).of("fails")] == ["weights.extra"]


def test_audit_needs_no_torch(bare: Path) -> None:
    program = (
        "import sys\nfrom zhen.audit.checks import audit_checkpoint\n"
        f"assert audit_checkpoint({str(bare)!r}).passed\n"
        "assert not {'torch', 'pyarrow', 'jinja2', 'altair', 'sentencepiece'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_links_into_the_hubs_cache_are_followed(bare: Path) -> None:
    snapshot, blobs = bare / "models--a--b" / "snapshots" / "0123", bare / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for name in ("config.json", "model.safetensors"):
        (bare / name).rename(blobs / name.upper())
        (snapshot / name).symlink_to(f"../../blobs/{name.upper()}")
    report = audit_checkpoint(snapshot)
    assert report.passed
    assert not report.of("fails")


def test_second_set_of_weights_is_found(bare: Path) -> None:
    (bare / "other").mkdir()
    (bare / "other" / "model.safetensors").write_bytes((bare / "model.safetensors").read_bytes())
    assert [found.file for found in audit_checkpoint(bare).of("fails")] == ["other/model.safetensors"]


def test_index_that_states_another_size_is_found(bare: Path) -> None:
    (bare / "model.safetensors").rename(bare / "model-00001-of-00001.safetensors")
    names = dict.fromkeys(shapes(CONFIG), "model-00001-of-00001.safetensors")
    index = {"metadata": {"total_size": 7}, "weight_map": names}
    (bare / "model.safetensors.index.json").write_text(json.dumps(index))
    assert [found.id for found in audit_checkpoint(bare).of("fails")] == ["weights.only"]


def test_nothing_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZhenError, match="is not there"):
        audit_checkpoint(tmp_path / "nothing")


def test_more_tokens_than_rows_is_found(bare: Path) -> None:
    vocabulary = {f"t{number}": number for number in range(13)}
    (bare / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}}))
    failed = audit_checkpoint(bare).of("fails")
    assert [finding.id for finding in failed] == ["tokenizer.rows"]
    assert "up to 12" in failed[0].evidence


def test_pieces_are_sentencepieces_own(tmp_path: Path) -> None:
    model = io.BytesIO()
    text = iter(["A town has bridges.", "镇上有桥。"] * 40)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=text, model_writer=model, vocab_size=300, byte_fallback=True, minloglevel=3,
        hard_vocab_limit=False,
    )  # fmt: skip
    (tmp_path / "tokenizer.model").write_bytes(model.getvalue())
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    expected = [processor.id_to_piece(number) for number in range(processor.get_piece_size())]
    assert sentencepiece_pieces(tmp_path / "tokenizer.model") == expected


@given(st.binary(max_size=40))
def test_broken_tokenizer_model_is_an_error_of_ours(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("t") / "tokenizer.model"
    path.write_bytes(data)
    with suppress(ZhenError):
        assert all(isinstance(piece, str) for piece in sentencepiece_pieces(path))


def test_licence_is_known_whatever_its_lines_and_copyright() -> None:
    words = text_of("apache-2.0").split()
    text = "Copyright 2024 Somebody. All rights reserved. " + " ".join(words).replace("http:", "https:")
    assert identify(text)[::2] == ("apache-2.0", True)
    assert identify(text_of("cc0-1.0"))[::2] == ("cc0-1.0", True)


def test_licence_with_one_changed_word_is_another() -> None:
    changed = text_of("apache-2.0").replace("royalty-free", "royalty-bearing", 1)
    found = identify(changed)
    assert found.license == "apache-2.0"
    assert 0.98 < found.share < 1
    assert not found.same


def test_half_a_licence_and_other_texts_are_none() -> None:
    text = text_of("apache-2.0")
    assert not identify(text[: len(text) // 2]).same
    assert identify("All rights reserved.") == ("none", 0.0, False)
    assert not identify("").same


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_pointer_leads_to_its_value(keys: list[str]) -> None:
    value: object = 7
    for key in reversed(keys):
        value = {key: value, "other": 1} if key != "other" else {key: value}
    assert resolve(value, pointer(*keys)) == 7


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [
        (31234, "integer", "31,234"),
        (1.23456, "3 decimals", "1.235"),
        (13612.4, "number", "13,612"),
        (-17.66, "1 decimal", "-17.7"),
        (True, "number", "yes"),
        ("text", "integer", "text"),
    ],
)
def test_values_are_written_one_way(value: float | str, form: str, text: str) -> None:
    assert render(value, form) == text  # type: ignore[arg-type]
    figure = CardFigure(figure="a", value=value, record="r", path="/a", form=form)  # type: ignore[arg-type]
    assert mark(figure) == f"<!--=a-->{text}<!--/-->"


@pytest.mark.parametrize(
    ("shares", "recorded", "verdict"),
    [
        ({"en.16": 1.0, "zh.16": 1.0, "en.32": 0.95, "zh.32": 0.96}, 32, "holds"),
        ({"en.16": 1.0, "zh.16": 1.0, "en.32": 1.0, "zh.32": 0.94}, 16, "fails"),
        ({"en.16": 1.0, "zh.16": 1.0, "en.32": 1.0, "zh.32": 0.94}, 32, "fails"),
        ({"en.16": 0.5, "en.32": 1.0}, 0, "fails"),
        ({"en.16": 1.0, "en.32": 1.0, "en.64": 1.0}, 64, "fails"),
        ({}, 32, "could not be checked"),
    ],
)
def test_the_length_claimed_is_the_longest_at_which_keys_were_found(
    bare: Path, shares: dict[str, float], recorded: int, verdict: str
) -> None:
    figures = {f"long_context.passkey.{at}.exact": {"value": share} for at, share in shares.items()}
    figures["long_context.passkey.length"] = {"value": recorded}
    figures["long_context.passkey.en.32.exact.pretrain"] = {"value": 0.0}
    figures["long_context.passkey.en.32.choice"] = {"value": 0.0}
    (bare / "records").mkdir()
    (bare / "records" / "extend.json").write_text(json.dumps({"sections": {"extend": {"sequence_length": 32}}}))
    (bare / "records" / "evaluate.json").write_text(json.dumps({"figures": figures}))
    (finding,) = [finding for finding in audit_checkpoint(bare).findings if finding.id == "claims.length"]
    assert finding.verdict == verdict


@pytest.mark.parametrize(
    ("section", "verdict"),
    [
        ({"sequence_length": 32}, "holds"),
        ({"sequence_length": 32, "context_length": None}, "holds"),
        ({"sequence_length": 40, "context_length": 32}, "holds"),
        ({"sequence_length": 40}, "fails"),
        ({"sequence_length": 40, "context_length": 36}, "fails"),
        ({"sequence_length": 24, "context_length": 32}, "fails"),  # a record that was tampered with
    ],
)
def test_the_length_claimed_was_trained(bare: Path, section: dict[str, int | None], verdict: str) -> None:
    (bare / "records").mkdir()
    (bare / "records" / "extend.json").write_text(json.dumps({"sections": {"extend": section}}))
    (finding,) = [finding for finding in audit_checkpoint(bare).findings if finding.id == "claims.context"]
    assert finding.verdict == verdict


def test_a_model_that_was_not_extended_has_no_such_claim(bare: Path) -> None:
    assert "claims.length" not in {finding.id for finding in audit_checkpoint(bare).findings}
