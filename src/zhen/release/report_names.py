"""What the report calls rules, units, models and kinds of questions in English and Chinese."""

from __future__ import annotations

from zhen.pages.parts import Words

KNESER_NEY, XZ = "kneser-ney", "xz -9"
"""What evaluate calls the references in its figures."""

LANGUAGES = {"en": "英文", "zh": "中文", "ja": "日文", "und": "语言不明", "other": "其他语言"}
ENGLISH = {"en": "English", "zh": "Chinese", "ja": "Japanese", "und": "unknown language"}

RULES = {
    "kept": "保留",
    "language": "语言",
    "english": "英文占比",
    "chinese": "中文占比",
    "length": "过短",
    "greatest-length": "过长",
    "word-characters": "字母与汉字太少",
    "common-words": "常用词太少",
    "spam-words": "垃圾词太多",
    "duplicate-lines": "重复行",
    "duplicate-line-characters": "重复行的字符",
    "duplicate-paragraphs": "重复段落",
    "duplicate-paragraph-characters": "重复段落的字符",
    **{f"top-{n}-grams": f"最多见的{word}连词" for n, word in ((2, "二"), (3, "三"), (4, "四"))},
    **{f"duplicated-{n}-grams": f"重复的 {n} 连词" for n in range(5, 11)},
    "line-ends": "换行太多",
    "short-lines": "短行太多",
    "hashes": "井号太多",
    "ellipses": "省略号太多",
    "contamination": "泄漏评测题",
    "licence": "许可",
    "exact-duplicate": "完全重复",
    "near-duplicate": "近似重复",
    "paragraph-duplicate": "段落与他页重复",
}

UNITS = {
    "characters": "字符",
    "words": "词",
    "sentences": "句",
    "lines": "行",
    "share of characters": "占字符比",
    "share of lines": "占行比",
    "share of words": "占词比",
    "share of paragraphs": "占段落比",
    "per word": "每词",
    "nats": "奈特",
    "different stop words": "不同停用词",
}

KINDS = {
    "A": Words("asked in training, on other pages", "训练中问过（在别的网页上）"),
    "B": Words("stated, never asked", "网页说过，从未问过"),
    "C": Words("stated in English only", "只有英文网页说过"),
    "D": Words("stated in Chinese only", "只有中文网页说过"),
    "unseen-wording": Words("in wordings that no page uses", "没有网页用过的问法"),
    "unstated": Words("stated by no page (must stay at chance)", "没有网页说过（只能靠猜）"),
}

METRICS = {
    "exact": Words("exact answer", "答案完全一致"),
    "choice": Words("one of four", "四选一"),
}


def language(code: str) -> Words:
    """A language's name."""
    return Words(ENGLISH.get(code, code), LANGUAGES.get(code, code))


def rule_name(rule: str) -> Words:
    """A rule's name; the Chinese one says what it is about, and the name itself."""
    return Words(rule, f"{RULES[rule]}（{rule}）" if rule in RULES and rule != "kept" else RULES.get(rule, rule))


def unit_name(unit: str) -> Words:
    """What a rule measures in."""
    return Words(unit, UNITS.get(unit, unit))


def model_name(model: str) -> Words:
    """A model's or control's name as evaluate gives it, in words."""
    names = {
        KNESER_NEY: Words("5-gram model (Kneser-Ney)", "五元模型（Kneser-Ney）"),
        XZ: Words("xz -9", "xz -9"),
        "chance": Words("guessing", "随机猜"),
        "most-frequent": Words("the most frequent answer", "最常见的答案"),
    }
    stage, _, step = model.partition(":")
    if step:
        return Words(f"before training (step {step})", f"训练前（第 {step} 步）")
    return names.get(model) or Words(f"the model ({stage})", f"本模型（{stage}）")
