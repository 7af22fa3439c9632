"""What pages call languages, in English and Chinese."""

from __future__ import annotations

from zhen.pages.parts import Words

LANGUAGES = {
    "en": Words("English", "英文"),
    "zh": Words("Chinese", "中文"),
    "ar": Words("Arabic", "阿拉伯文"),
    "de": Words("German", "德文"),
    "el": Words("Greek", "希腊文"),
    "es": Words("Spanish", "西班牙文"),
    "fr": Words("French", "法文"),
    "he": Words("Hebrew", "希伯来文"),
    "hi": Words("Hindi", "印地文"),
    "id": Words("Indonesian", "印尼文"),
    "it": Words("Italian", "意大利文"),
    "ja": Words("Japanese", "日文"),
    "ko": Words("Korean", "韩文"),
    "la": Words("Latin", "拉丁文"),
    "nl": Words("Dutch", "荷兰文"),
    "pl": Words("Polish", "波兰文"),
    "pt": Words("Portuguese", "葡萄牙文"),
    "ru": Words("Russian", "俄文"),
    "th": Words("Thai", "泰文"),
    "tr": Words("Turkish", "土耳其文"),
    "uk": Words("Ukrainian", "乌克兰文"),
    "vi": Words("Vietnamese", "越南文"),
    "und": Words("language unknown", "语言不明"),
    "other": Words("other languages", "其他语言"),
}
"""Of the rest the code itself is shown."""


def language(code: str) -> Words:
    """A language's name."""
    return LANGUAGES.get(code) or Words(code, code)
