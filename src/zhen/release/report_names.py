"""What the report calls rules, units, models, kinds of questions and stages, in English and Chinese."""

from __future__ import annotations

from zhen.pages.parts import Words

KNESER_NEY, XZ = "kneser-ney", "xz -9"
"""What evaluate calls the references in its figures."""

RULES = {
    "kept": Words("kept", "保留"),
    "language": Words("too little English or Chinese", "中英文太少"),
    "english": Words("too little English", "英文太少"),
    "chinese": Words("too little Chinese", "中文太少"),
    "length": Words("too short", "过短"),
    "greatest-length": Words("too long", "过长"),
    "word-characters": Words("too few letters and digits", "文字与数字太少"),
    "common-words": Words("too few common words", "常用词太少"),
    "spam-words": Words("too many spam words", "垃圾词太多"),
    "lures": Words("too many lures of gambling", "诱赌的套话太多"),
    "duplicate-lines": Words("too many repeated lines", "重复行太多"),
    "duplicate-line-characters": Words("too much text in repeated lines", "重复行的字符太多"),
    "duplicate-paragraphs": Words("too many repeated paragraphs", "重复段落太多"),
    "duplicate-paragraph-characters": Words("too much text in repeated paragraphs", "重复段落的字符太多"),
    **{f"top-{n}-grams": Words(f"one {n}-gram too often", f"最常见的 {n} 元词组太多") for n in range(2, 5)},
    **{f"duplicated-{n}-grams": Words(f"too many repeated {n}-grams", f"重复的 {n} 元词组太多") for n in range(5, 11)},
    "words": Words("too few words", "词太少"),
    "greatest-words": Words("too many words", "词太多"),
    "least-word-length": Words("words too short in the mean", "平均词长过短"),
    "greatest-word-length": Words("words too long in the mean", "平均词长过长"),
    "hashes": Words("too many hash signs", "井号太多"),
    "ellipses": Words("too many ellipses", "省略号太多"),
    "bullet-lines": Words("too many lines with bullets", "列表行太多"),
    "ellipsis-lines": Words("too many lines that end in an ellipsis", "以省略号结尾的行太多"),
    "words-with-letters": Words("too few words with letters", "含字母的词太少"),
    "stop-words": Words("too few stop words", "停用词太少"),
    "c4-banned": Words("braces or lorem ipsum", "含花括号或 lorem ipsum"),
    "c4-sentences": Words("too few sentences that C4 keeps", "C4 认可的句子太少"),
    "c4-banned-any-end": Words("braces or lorem ipsum in any line", "任意行含花括号或 lorem ipsum"),
    "c4-sentences-any-end": Words("too few sentences in any line", "各行句子太少"),
    "ended-lines": Words("too few lines that end in an end mark", "以句末标点结尾的行太少"),
    "short-lines": Words("too many short lines", "短行太多"),
    "line-ends": Words("too many line ends", "换行太多"),
    "bare-lines": Words("too many bare lines", "无标点的行太多"),
    "sentences": Words("too few sentences", "句子太少"),
    "digits": Words("too many digits", "数字太多"),
    "brackets": Words("too much text in 【】", "【】内的文字太多"),
    "more-lines": Words("too many lines that only announce more", "“展开”“更多”之类的行太多"),
    "distinct-words": Words("too few different words", "用词太单一"),
    "entropy": Words("words too uneven (low entropy)", "词频熵太低"),
    "contamination": Words("benchmark questions in it", "含评测题"),
    "licence": Words("under another licence", "许可不在所列之中"),
    "exact-duplicate": Words("exact copies", "完全重复"),
    "near-duplicate": Words("near copies", "近似重复"),
    "paragraph-duplicate": Words("little left without common paragraphs", "去掉各页共有的段落后所剩太少"),
}

UNITS = {
    "characters": "字符数",
    "words": "词数",
    "sentences": "句数",
    "lines": "行数",
    "share of characters": "占字符的比例",
    "share of lines": "占行的比例",
    "share of words": "占词的比例",
    "share of paragraphs": "占段落的比例",
    "per word": "平均每词",
    "nats": "奈特",
    "different stop words": "不同停用词数",
}

PERSONAL = {
    "secret": Words("keys and passwords", "密钥与密码"),
    "email": Words("e-mail addresses", "电子邮箱"),
    "identity-number": Words("identity card numbers", "身份证号"),
    "bank-card": Words("bank card numbers", "银行卡号"),
    "phone": Words("phone numbers", "电话号码"),
    "ip-address": Words("IP addresses", "IP 地址"),
}

KINDS = {
    "A": Words("asked on other pages in training", "训练网页问过"),
    "B": Words("stated on pages, asked on none", "网页说过、从未问过"),
    "C": Words("stated on English pages only", "只有英文网页说过"),
    "D": Words("stated on Chinese pages only", "只有中文网页说过"),
    "unseen-wording": Words("asked in wordings that no page uses", "网页没有用过的问法"),
    "unstated": Words("stated on no page (only a guess can be right)", "网页没有说过（只能靠猜）"),
}

METRICS = {
    "exact": Words("exact answer", "答案完全一致"),
    "choice": Words("one of four", "四选一"),
}

STAGES = {
    "sampleweb": Words("make the sample web", "生成样本网站"),
    "data.scan": Words("read the pages and measure them", "读入网页并度量"),
    "data.decide": Words("decide which documents are kept", "决定文档去留"),
    "data.write": Words("write what is kept, set the held-out documents apart", "写出保留的文档，划出留出集"),
    "tokenizer": Words("learn the vocabulary", "学习词表"),
    "shards": Words("turn the text into tokens", "把文本切成词元"),
    "pretrain": Words("train the model", "预训练模型"),
    "extend": Words("train it on with longer texts", "用更长的文本继续训练"),
    "tune": Words("tune the model on dialogues", "用对话微调模型"),
    "quantize": Words("store the model in fewer bits", "量化模型"),
    "evaluate": Words("measure the model and ask it questions", "测量模型并提问"),
    "release": Words("put the release together and audit it", "制作发布并审计"),
}


def rule_gloss(rule: str) -> Words:
    """What a rule leaves out, in words."""
    return RULES.get(rule) or Words(rule, rule)


def rule_name(rule: str) -> Words:
    """The same, and the name that recipes and `zhen why` use."""
    gloss = rule_gloss(rule)
    return gloss if gloss == rule else Words(f"{gloss} ({rule})", f"{gloss.zh}（{rule}）")


def unit_name(unit: str) -> Words:
    """What a rule measures in."""
    return Words(unit, UNITS.get(unit, unit))


def stage_name(stage: str) -> Words:
    """What a stage does, and its name."""
    gloss = STAGES.get(stage)
    return Words(f"{stage}: {gloss}", f"{stage}：{gloss.zh}") if gloss else Words(stage, stage)


def question_title(kind: str, name: str) -> Words:
    """What a kind of questions asks about; the name of their set where the kind has no words."""
    return KINDS.get(kind) or Words(kind or name, kind or name)


def model_name(model: str, released: str | None) -> Words:
    """A model's or control's name as evaluate gives it, in words; `released`: the stage whose model is released."""
    names = {
        KNESER_NEY: Words("5-gram model (Kneser-Ney)", "五元模型（Kneser-Ney）"),
        XZ: Words("xz -9", "xz -9"),
        "chance": Words("guessing", "随机猜"),
        "most-frequent": Words("the most frequent answer", "最常见的答案"),
    }
    stage, _, step = model.partition(":")
    if step:
        return Words(f"before training (step {step})", f"训练前（第 {step} 步）")
    if released == "extend":
        names |= {
            "pretrain": Words("before the extension", "扩展前"),
            "extend": Words("this model, extended", "本模型（扩展后）"),
        }
    if released == "tune":
        names |= {"pretrain": Words("before tuning", "微调前"), "tune": Words("this model, tuned", "本模型（微调后）")}
    return names.get(model) or Words(f"the model ({stage})", f"本模型（{stage}）")
