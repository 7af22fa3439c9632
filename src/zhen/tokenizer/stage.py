"""The stage `tokenizer`: learn one from the kept documents, or take that of the checkpoint the recipe goes on from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zhen.errors import ZhenError
from zhen.formats.document import count_documents, document_files
from zhen.formats.files import sha256_file, write_bytes
from zhen.formats.record import Figure, Input
from zhen.formats.stage import Context, Figures
from zhen.tokenizer.export import CONFIG, JSON, MODEL, SPECIAL_MAP, export_files
from zhen.tokenizer.learn import learn_model
from zhen.tokenizer.load import Tokenizer, load_tokenizer
from zhen.tokenizer.sample import Drawn, draw_sample
from zhen.tokenizer.settings import TokenizerSettings

TAKEN_ALONG = (MODEL, JSON, CONFIG, SPECIAL_MAP, "added_tokens.json", "chat_template.jinja")
"""A checkpoint's tokenizer files, those of them that it has."""

MEASURED_BYTES = 2_000_000
"""Text of the sample, per language, on which bytes per token are measured."""


def learn_inputs(sections: Mapping[str, Any]) -> list[Input]:
    """The tokenizer files of `model.init`, with their hashes; none without it.

    Raises ZhenError where the folder is missing or its tokenizer cannot be loaded.
    """
    if not (init := sections.get("model.init")):
        return []
    folder = Path(init)
    load_tokenizer(folder)
    files = [folder / name for name in TAKEN_ALONG if (folder / name).is_file()]
    return [Input(path.name, *sha256_file(path)) for path in files]


def learn(context: Context) -> Figures:
    """Make the tokenizer's files in the stage's folder. Returns vocabulary size and bytes per token by language."""
    if init := context.sections.get("model.init"):
        return _copy(context, Path(init))
    settings: TokenizerSettings = context.sections["tokenizer"]
    sample = _sample(context, settings)
    drawn = sum(len(item.text.encode("utf-8")) for item in sample)
    context.stop_here()
    context.line.update(0, settings.vocab_size, "pieces", f"learning from {drawn / 1e6:,.1f} MB")
    files = export_files(learn_model([item.text for item in sample], settings))
    context.stop_here()
    for name, content in files.items():
        context.output(name, "result", write_bytes(context.folder / name, content))
        context.line.update(settings.vocab_size, settings.vocab_size, "pieces", f"wrote {name}")
    tokenizer = load_tokenizer(context.folder)
    measured = bytes_per_token(tokenizer, sample)
    ratios = ", ".join(f"{name.split('.')[-1]} {figure.value:.2f}" for name, figure in measured.items())
    context.summary = f"{tokenizer.vocab_size:,} pieces from {drawn / 1e6:,.1f} MB; bytes a token: {ratios}"
    return {
        "vocab_size": Figure(tokenizer.vocab_size, "pieces"),
        "sample": Figure(drawn, "bytes", n=len(sample)),
        **measured,
    }


def bytes_per_token(tokenizer: Tokenizer, sample: Sequence[Drawn]) -> Figures:
    """UTF-8 bytes a token by language, over the first MEASURED_BYTES of each; `n` is the number of tokens."""
    seen: dict[str, int] = defaultdict(int)
    tokens: dict[str, int] = defaultdict(int)
    for item in sample:
        if seen[item.lang] < MEASURED_BYTES:
            seen[item.lang] += len(item.text.encode("utf-8"))
            tokens[item.lang] += len(tokenizer.encode(item.text))
    return {
        f"bytes_per_token.{lang}": Figure(round(seen[lang] / tokens[lang], 4), "bytes/token", n=tokens[lang])
        for lang in sorted(seen)
        if tokens[lang]
    }


def _sample(context: Context, settings: TokenizerSettings) -> list[Drawn]:
    """The text to learn from, with progress over the two passes that drawing takes."""
    folder = context.after["data.write/kept"]
    files = document_files(folder)
    total = 2 * count_documents(files)
    if not total:
        raise ZhenError("no documents to learn from", file=folder, hint="see in `data` why none was kept")
    done = 0

    def progress(documents: int) -> None:
        nonlocal done
        done += documents
        context.line.update(done, total, "documents", "drawing a sample")
        context.stop_here()

    return draw_sample(files, settings.sample_bytes, context.sections["run.seed"], progress)


def _copy(context: Context, folder: Path) -> Figures:
    """Copy the tokenizer of a checkpoint; each file must be what it was when the run was planned."""
    planned = learn_inputs(context.sections)
    for done, item in enumerate(planned):
        context.line.update(done, len(planned), "files", f"taking {item.path}")
        context.stop_here()
        digest = write_bytes(context.folder / item.path, (folder / item.path).read_bytes())
        if digest.sha256 != item.sha256:
            raise ZhenError("changed while it was copied", file=folder / item.path, hint="run again")
        context.input_hashed(item)
        context.output(item.path, "result", digest)
    context.line.update(len(planned), len(planned), "files")
    size = load_tokenizer(context.folder).vocab_size
    context.summary = f"{size:,} pieces, those of the checkpoint to go on from"
    return {"vocab_size": Figure(size, "pieces")}
