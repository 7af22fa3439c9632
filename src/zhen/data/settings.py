"""The recipe section `[data]`: where text comes from, which rules decide over it, what is held out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Literal

from msgspec import Meta, Struct

SAMPLEWEB = "sampleweb"
"""The `path` that means the built-in web."""

MADE = {SAMPLEWEB: "sampleweb/crawl", "sampleweb/strings": "sampleweb/strings"}
"""Each `path` that means what the stage `sampleweb` makes -> where that lies."""

Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Number = Annotated[float, Meta(ge=0.0)]
Count = Annotated[int, Meta(ge=0)]
Name = Annotated[str, Meta(pattern=r"^[^./\s][^/\x00-\x1f]*$")]
"""Sources give folders their names."""


class Columns(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which column of a table, or key of a JSON line, holds what."""

    text: str | None = None
    """Plain text. Without `text` and `html`: the column `text`, and where there is none, `html`."""
    html: str | None = None
    """A page, as bytes or a string; it goes through extraction as the pages of a crawl do."""
    url: str = "url"
    """The document's address; a missing column is no error."""
    license: str = "license"
    """The document's licence; where missing or empty the source's is taken."""


class Source(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One place that text comes from; `[[data.sources]]`."""

    name: Name
    """What mixtures, shards and figures call it; no slash, no dot in front."""
    path: str
    """`sampleweb`, `sampleweb/strings`, a folder (with all below it), a glob, a file, or a URL (http, https, s3, hf);
    `${VARIABLE}` is replaced by the environment's. Formats by name: .warc .wet .jsonl .parquet .html .htm .txt .md,
    packed as .gz or .zst."""
    license: str = "unknown"
    """The licence of documents that name none of their own."""
    columns: Columns | None = None
    """For Parquet and JSON lines."""


class ExtractSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How pages become text; `[data.extract]`."""

    page_seconds: Annotated[float, Meta(gt=0.0)] = 10.0
    """CPU seconds that the extraction of one page may take (no outside source; pages take about 10 ms)."""
    languages: tuple[str, ...] | None = None
    """Languages (ISO 639-1) whose pages get the good extractor; pages in others keep the quick one's text, a tenth of
    the work. Left out: all pages get the good one. For crawls in many languages under rules that keep a few."""


class RulesSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which documents are kept; `[data.rules]`. A threshold that is left out is the preset's (`rules.RULES`)."""

    preset: Literal["bilingual", "none", "gopher", "c4", "fineweb-en", "fineweb2-zh", "map-zh"] = "bilingual"
    """`bilingual`: Chinese and English prose. `none`: nothing goes but exact duplicates. The others: published ones."""
    licenses: tuple[str, ...] | None = None
    """Licences that are kept, as the documents name them (SPDX: `CC0-1.0`; `unknown` where none is named), small
    letters or not; left out: any."""
    min_language: Share | None = None
    """Least share (0 to 1) of a text that is Chinese or English, whichever it is more."""
    min_english: Share | None = None
    """Least share of a text that is English; no other language is kept then."""
    min_chinese: Share | None = None
    """Least share of a text that is Chinese; no other language is kept then."""
    min_characters_en: Count | None = None
    """Least characters of an English document (and of any language but Chinese)."""
    min_characters_zh: Count | None = None
    """Least characters of a Chinese document."""
    max_characters: Count | None = None
    """Greatest number of characters."""
    min_word_characters: Share | None = None
    """Least share of letters (Han characters are letters) and digits among the characters that are not blanks."""
    min_common_words: Share | None = None
    """Least share of the words that are among the language's most common ones (`data/terms.py`)."""
    max_spam_words: Share | None = None
    """Greatest share of the words that spam and gambling are full of (`data/terms.py`)."""
    max_lures: Share | None = None
    """Greatest number, per word, of names of gambling sites with a way into them (`data/terms.py`)."""
    max_bare_lines: Share | None = None
    """Greatest share of the characters in lines (of 12 characters and more) without a mark of a sentence, table or
    code, in texts with eight such lines and more."""
    max_duplicate_lines: Share | None = None
    """Greatest share of the lines that repeat an earlier line."""
    max_duplicate_line_characters: Share | None = None
    """Greatest share of characters that are in lines which repeat an earlier line."""
    max_duplicate_paragraphs: Share | None = None
    """Greatest share of the paragraphs that repeat an earlier one (an empty line is between two)."""
    max_duplicate_paragraph_characters: Share | None = None
    """Greatest share of characters that are in paragraphs which repeat an earlier one."""
    max_top_2_grams: Number | None = None
    """Greatest share of characters in the most frequent 2 words in a row (Chinese: 2 characters)."""
    max_top_3_grams: Number | None = None
    """Greatest share of characters in the most frequent 3 words in a row (Chinese: 3 characters)."""
    max_top_4_grams: Number | None = None
    """Greatest share of characters in the most frequent 4 words in a row (Chinese: 4 characters)."""
    max_duplicated_5_grams: Share | None = None
    """Greatest share of characters in 5 words in a row that occurred before."""
    max_duplicated_6_grams: Share | None = None
    """Greatest share of characters in 6 words in a row that occurred before."""
    max_duplicated_7_grams: Share | None = None
    """Greatest share of characters in 7 words in a row that occurred before."""
    max_duplicated_8_grams: Share | None = None
    """Greatest share of characters in 8 words in a row that occurred before."""
    max_duplicated_9_grams: Share | None = None
    """Greatest share of characters in 9 words in a row that occurred before."""
    max_duplicated_10_grams: Share | None = None
    """Greatest share of characters in 10 words in a row that occurred before."""
    min_words: Count | None = None
    """Least words; a Han character is one."""
    max_words: Count | None = None
    """Greatest number of words."""
    min_word_length: Number | None = None
    """Least mean characters of a word."""
    max_word_length: Number | None = None
    """Greatest mean characters of a word."""
    max_hashes: Number | None = None
    """Greatest number of `#` per word."""
    max_ellipses: Number | None = None
    """Greatest number of ellipses per word."""
    max_bullet_lines: Share | None = None
    """Greatest share of the lines that begin with `•` or `-`."""
    max_ellipsis_lines: Share | None = None
    """Greatest share of the lines that end in an ellipsis."""
    min_words_with_letters: Share | None = None
    """Least share of the words (runs of symbols are words too) that have a letter."""
    min_stop_words: Count | None = None
    """Least number of different stop words of the language."""
    max_c4_banned: Count | None = None
    """Greatest number of lines, among those that C4 looks at, with `{` or `lorem ipsum`."""
    min_c4_sentences: Count | None = None
    """Least sentences in the lines that C4 keeps."""
    max_c4_banned_any_end: Count | None = None
    """As `max_c4_banned`, lines without an end mark among them."""
    min_c4_sentences_any_end: Count | None = None
    """As `min_c4_sentences`, in lines without an end mark too."""
    min_ended_lines: Share | None = None
    """Least share of the lines that end in a mark that ends a sentence."""
    max_short_lines: Share | None = None
    """Greatest share of the lines of at most 30 characters."""
    max_line_ends: Number | None = None
    """Greatest number of line ends per word."""
    min_sentences: Count | None = None
    """Least sentences."""
    max_digits: Share | None = None
    """Greatest share of digits among the characters."""
    max_brackets: Share | None = None
    """Greatest share of characters between 【 and 】."""
    max_more_lines: Share | None = None
    """Greatest share of the lines that only announce a text (展开, 更多, read more)."""
    min_distinct_words: Share | None = None
    """Least number of different words per word (Chinese: characters)."""
    min_entropy: Number | None = None
    """Least entropy of the words (Chinese: characters) in nats."""


class DuplicatesSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What counts as said already; `[data.duplicates]`. Exact copies always do."""

    near: bool = True
    """Whether of documents that are much alike only the first is kept."""
    jaccard: Annotated[float, Meta(ge=0.6, le=1.0)] = 0.7
    """From this estimated Jaccard similarity on, 0.6 to 1: the share of runs of five words (of five characters where
    they are Han) that two documents have in common, of those that either has (FineWeb's bands find half of the pairs
    at 0.7)."""
    paragraphs: bool = True
    """Whether paragraphs that very many documents have are left out of all but the first of these."""
    paragraph_documents: Annotated[int, Meta(ge=1)] = 50
    """In more documents than so many (in the built-in web, sentences are told again in up to 23)."""


class PrivacySettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is put out of sight in the text that is written; `[data.privacy]`."""

    redact: bool = True
    """Whether contacts, numbers of persons and accounts, and secrets are replaced by `[kind]`."""
    kinds: tuple[Literal["secret", "email", "identity-number", "bank-card", "phone", "ip-address"], ...] = (
        "secret",
        "email",
        "identity-number",
        "bank-card",
        "phone",
        "ip-address",
    )
    """Which kinds."""


class ContaminationSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which benchmarks no document may give away; `[data.contamination]`."""

    against: tuple[str, ...] = ()
    """Files, folders or globs of benchmark files (.jsonl .json .csv .tsv .parquet, packed or not); `${VARIABLE}` is
    replaced by the environment's. `sampleweb/tasks/…` are those of the built-in web."""
    columns: tuple[str, ...] = ()
    """Keys that hold the question and then the answer; without them they are found by their usual names."""
    threshold: Annotated[float, Meta(ge=0.2, le=1.0)] = 0.8
    """From this share of an item's words on (0.2 to 1), in runs of 13 that a document has too, it is left out (Touvron
    et al. 2023, Llama 2, A.6: 80 %)."""
    report: Annotated[float, Meta(ge=0.5, le=1.0)] = 0.6
    """From this share of an item's words on (0.5 to 1, those that tell it from others weigh more), in a passage that
    asks and answers, it is reported as a likely rewording (ours)."""


class DataSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The section `[data]`."""

    sources: tuple[Source, ...] = ()
    """Where text comes from, in the order in which equal documents are preferred."""
    extract: ExtractSettings = ExtractSettings()
    rules: RulesSettings = RulesSettings()
    duplicates: DuplicatesSettings = DuplicatesSettings()
    contamination: ContaminationSettings = ContaminationSettings()
    privacy: PrivacySettings = PrivacySettings()
    held_out: Annotated[float, Meta(ge=0.0, le=0.2)] = 0.01
    """Share of the documents of each language that is held out from training (design: 1 %)."""
    held_out_bytes: Annotated[int, Meta(ge=0)] = 200_000
    """UTF-8 bytes of text held out at least in each language, but never more than a fifth of it (design: 200 kB)."""

    def problems(self) -> Iterator[tuple[str, str, str]]:
        """Combinations that cannot be meant: (field, found, expected)."""
        counts = Counter(source.name for source in self.sources)
        for index, source in enumerate(self.sources):
            if counts[source.name] > 1:
                yield f"sources.{index}.name", f'"{source.name}"', "a name that no other source has"
            if not source.path.strip():
                yield f"sources.{index}.path", '""', "a folder, a glob, a file or a URL"
            if source.columns and source.columns.text and source.columns.html:
                yield f"sources.{index}.columns", "a text and an html column", "one of the two"
