"""The model card, English and Chinese in one README.md: a template, and figures that all come from records."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import Any, NamedTuple

import jinja2
import msgspec

from zhen.audit.adapter import ADAPTER
from zhen.audit.claims import LENGTHS
from zhen.audit.figures import CardFigure, Form, mark, pointer, resolve
from zhen.evaluate.settings import PASSKEY_BAR, USED_LENGTH
from zhen.formats.record import Record
from zhen.release.collect import MODEL_STAGES, clean_record, model_stage
from zhen.release.report_names import KNESER_NEY, XZ
from zhen.release.summary import BITS, MARGIN, Run

Labels = tuple[str, str]
"""What a thing is called in English and in Chinese."""


class Fact(NamedTuple):
    """A figure that the card shows at the top, if its record has it."""

    name: str
    stage: str
    """`model` stands for the stage whose model is released."""
    keys: tuple[str, ...]
    form: Form
    labels: Labels
    else_of: tuple[str, ...] = ("pretrain",)
    """Stages that say it where the model's own doesn't: tuning changes neither shape nor text."""


FACTS = (
    Fact("parameters", "model", ("figures", "parameters", "value"), "integer", ("parameters", "参数量")),
    Fact("layers", "extend", ("figures", "layers", "value"), "integer", ("layers", "层数")),
    Fact("layers", "model", ("sections", "model", "num_hidden_layers"), "integer", ("layers", "层数")),
    Fact("width", "model", ("sections", "model", "hidden_size"), "integer", ("width", "宽度")),
    Fact("heads", "model", ("sections", "model", "num_attention_heads"), "integer", ("query heads", "查询头数")),
    Fact("kv_heads", "model", ("sections", "model", "num_key_value_heads"), "integer", ("key-value heads", "键值头数")),
    Fact("vocabulary", "tokenizer", ("figures", "vocab_size", "value"), "integer", ("vocabulary", "词表大小")),
    *(
        Fact(
            "context_length",
            stage,
            ("sections", stage, name),
            "integer",
            ("context length, trained (tokens)", "训练的上下文长度（词元）"),
        )
        for stage in MODEL_STAGES
        for name in LENGTHS
    ),
    Fact(
        "used_length",
        "evaluate",
        ("figures", USED_LENGTH, "value"),
        "integer",
        (
            f"longest context at which {PASSKEY_BAR:.0%} of hidden keys are found, in each language (tokens)",
            f"各语言能找出 {PASSKEY_BAR:.0%} 隐藏钥匙的最长上下文（词元）",
        ),
    ),
    Fact("trained_tokens", "pretrain", ("figures", "tokens", "value"), "integer", ("tokens trained on", "训练词元数")),
    Fact(
        "extended_tokens",
        "extend",
        ("figures", "tokens", "value"),
        "integer",
        ("tokens trained on to extend it", "扩展时的训练词元数"),
    ),
    Fact("corpus_tokens", "shards", ("figures", "tokens", "value"), "integer", ("tokens in the corpus", "语料词元数")),
    Fact(
        "corpus_documents",
        "shards",
        ("figures", "documents", "value"),
        "integer",
        ("documents in the corpus", "语料文档数"),
    ),
)

LANGUAGES = {"en": ("English", "英文"), "zh": ("Chinese", "中文")}

KEPT = "kept_documents."
"""How data.write's figures of documents by language begin."""

REFERENCES = {
    KNESER_NEY: ("5-gram model (Kneser-Ney)", "五元模型（Kneser-Ney）"),
    XZ: ("`xz -9`", "`xz -9`"),
}


class Card:
    """Collects the card's figures while its text is put together."""

    def __init__(self, records: Mapping[str, Record]) -> None:
        self._cleaned = {stage: clean_record(record) for stage, record in records.items()}
        self._model = model_stage(records)
        self._outputs = records[self._model].outputs
        self._chats = "tune" in records
        self._run = Run(records, {})
        self.figures: dict[str, CardFigure] = {}

    def render(self, *, name: str, license: str, license_name: str) -> str:
        """The text of README.md; `figures` is filled on the way."""
        template = (resources.files("zhen.release") / "card.md").read_text(encoding="utf-8")
        environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, autoescape=False)
        facts = list(self._facts())
        codes = languages(self._run) or self._languages()
        text = environment.from_string(template).render(
            name=plain(name),
            quoted=json.dumps(name),
            license=license,
            license_name=license_name,
            facts=facts,
            model=self._model,
            languages=[LANGUAGES.get(lang, (lang, lang)) for lang in self._languages()],
            results=list(self._results()),
            margins=self._cells(MARGIN, "", "1 decimal"),
            head=list(self._head()),
            initial=initial(self._cleaned[self._model]),
            sources=sources(self._cleaned),
            reference_tokens=self._figure(
                "kneser_ney_tokens", "evaluate", ("figures", "kneser_ney_tokens", "value"), "integer"
            ),
            codes=codes,
            kind=kind_of(codes, chat=self._chats),
            chat=self._chats,
            adapter=any(output.path.startswith(ADAPTER) for output in self._outputs),
            replies=list(self._replies()) if self._chats else [],
            stages=self._stages(),
        )
        return re.sub(r"\n{3,}", "\n\n", text).strip("\n") + "\n"

    def figures_json(self) -> list[dict[str, Any]]:
        """What figures.json holds."""
        made: list[dict[str, Any]] = msgspec.to_builtins(list(self.figures.values()))
        return made

    def _facts(self) -> Iterator[tuple[Labels, str]]:
        longest = self._longest()
        for fact in FACTS:
            if fact.name in self.figures or (fact.name == "context_length" and fact.stage != longest):
                continue
            for stage in (self._model, *fact.else_of) if fact.stage == "model" else (fact.stage,):
                if text := self._figure(fact.name, stage, fact.keys, fact.form):
                    yield fact.labels, text
                    break

    def _longest(self) -> str | None:
        """The stage with the longest sequences: later ones may be shorter, and take nothing away."""
        lengths = {stage: self._cleaned.get(stage, {}).get("sections", {}).get(stage) or {} for stage in MODEL_STAGES}
        trained = [stage for stage in MODEL_STAGES if "sequence_length" in lengths[stage]]
        return max(trained, key=lambda stage: int(lengths[stage]["sequence_length"]), default=None)

    def _languages(self) -> list[str]:
        return list(self._run.bits(self._model))

    def _results(self) -> Iterator[tuple[Labels, list[str]]]:
        """(labels, bits per byte by language) of each model and reference."""
        for model in self._run.models():
            step = model.partition(":")[2]
            own = (f"before training (step {step})", f"训练前（第 {step} 步）") if step else ("this model", "本模型")
            if model == "pretrain" != self._model:
                own = ("before the extension", "扩展前") if self._model == "extend" else ("before tuning", "微调前")
            yield REFERENCES.get(model, own), self._cells(BITS + model + ".", "–", "3 decimals")

    def _replies(self) -> Iterator[tuple[Labels, list[str]]]:
        """(labels, shares of right replies by language) of the model, and of the one that was tuned."""
        for labels, after in ((("before tuning", "微调前"), ".pretrain"), (("this model", "本模型"), "")):
            cells = self._cells("dialogue.never-asked.", "–", "3 decimals", behind=f".right{after}")
            if any(cell != "–" for cell in cells):
                yield labels, cells

    def _cells(self, prefix: str, missing: str, form: Form, behind: str = "") -> list[str]:
        names = [prefix + lang + behind for lang in self._languages()]
        found = (self._figure(_id(name), "evaluate", ("figures", name, "value"), form) for name in names)
        return [text or missing for text in found]

    def _head(self) -> Iterator[tuple[str, str, str]]:
        """(language, value, figure's name) of the model-index that hubs read."""
        for lang in self._languages():
            name = _id(f"{BITS}{self._model}.{lang}")
            yield LANGUAGES.get(lang, (lang, lang))[0], repr(self.figures[name].value), name

    def _all(self) -> Iterator[tuple[str, tuple[str, str, str]]]:
        """(stage, (figure's name, value marked, unit)) of every figure of every record."""
        for stage, record in self._cleaned.items():
            for name, figure in record["figures"].items():
                keys = ("figures", name, "value")
                text = self._figure(_id(f"{stage}:{name}"), stage, keys, "number")
                yield stage, (plain(name), text or "–", plain(figure["unit"]))

    def _stages(self) -> list[tuple[str, list[tuple[str, str, str]]]]:
        found: dict[str, list[tuple[str, str, str]]] = {}
        for stage, item in self._all():
            found.setdefault(stage, []).append(item)
        return list(found.items())

    def _figure(self, name: str, stage: str, keys: tuple[str, ...], form: Form) -> str | None:
        """The marked text of a figure, noted for figures.json; None where the record does not have it."""
        if stage not in self._cleaned:
            return None
        path = pointer(*keys)
        try:
            value = resolve(self._cleaned[stage], path)
        except KeyError:
            return None
        if value is None:
            return None
        figure = CardFigure(figure=name, value=value, record=f"records/{stage}.json", path=path, form=form)
        self.figures[name] = figure
        return mark(figure)


def _id(name: str) -> str:
    """A figure's name for a mark, which has no white space and does not end the comment."""
    return re.sub(r"[\s<>]", "_", name).replace("--", "-_")


def initial(record: Mapping[str, Any]) -> str | None:
    """The checkpoint that training went on from, by the last part of its path; None from random weights."""
    folder = record["sections"].get("model.init")
    return plain(str(folder).rstrip("/").rsplit("/", 1)[-1]) if folder else None


def languages(run: Run) -> list[str]:
    """Codes of the languages in which documents were kept to train on, by their record."""
    record = run.records.get("data.write")
    kept = (name.partition(KEPT) for name in (record.figures if record else ()))
    return sorted(lang for start, found, lang in kept if found and not start and run.number("data.write", KEPT + lang))


def kind_of(codes: Sequence[str], *, chat: bool) -> Labels:
    """What the first sentence calls the model."""
    model, chinese_model = ("chat model", "对话模型") if chat else ("base model", "基座模型")
    if set(codes) == {"en", "zh"}:
        return f"A bilingual Chinese–English {model}", f"中英双语{chinese_model}"
    named = [LANGUAGES.get(code, (code, code)) for code in codes]
    if not named:
        return f"A {model}", chinese_model
    english, chinese = (
        separator.join(names) for separator, names in zip((", ", "、"), zip(*named, strict=True), strict=True)
    )
    return f"A {model} for text in {english}", f"{chinese}{chinese_model}"


def sources(cleaned: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """(name, licence) of each source of data, as the recipe names them; an unknown licence is one not stated."""
    sections = cleaned.get("data.scan", {}).get("sections", {})
    found = sections.get("data.sources") or []
    return [(plain(str(item.get("name"))), plain(terms(item.get("license")))) for item in found]


def terms(license: object) -> str:
    """A source's licence in words."""
    return "not stated" if license in (None, "", "unknown") else str(license)


def plain(text: str) -> str:
    """Text on one line, with what Markdown tables or HTML would read as markup put out of action."""
    escaped = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return escaped.replace("|", "\\|").replace("`", "'")
