"""What the chat page says, in both languages."""

from __future__ import annotations

WORDS = {
    "en": {
        "language": "Language",
        "new": "New chat",
        "earlier": "Earlier chats",
        "forget": "Delete all chats",
        "system": "System prompt",
        "sampling": "How answers are chosen",
        "temperature": "Temperature (0: always the likeliest)",
        "top_p": "Top-p",
        "max_tokens": "Longest answer, tokens",
        "seed": "Seed (empty: another each time)",
        "ask": "Write to the model …",
        "stop": "Stop",
        "dark": "Light / dark",
        "speed": "{tokens} tokens · {rate:.1f} tokens/s · first after {first:.2f} s",
        "forgotten": " · earlier turns no longer fit and were left out",
        "stopped": " · stopped",
        "private": "Chats are kept in this browser alone; nothing is sent anywhere else.",
        "one_turn": "This model knows no turns: it answers each message by itself.",
        "goes_on": "This model knows no questions: it goes on with what you write.",
    },
    "zh": {
        "language": "语言",
        "new": "新对话",
        "earlier": "以前的对话",
        "forget": "删除全部对话",
        "system": "系统提示",
        "sampling": "如何选取回答",
        "temperature": "温度（0：总取最可能的词）",
        "top_p": "Top-p",
        "max_tokens": "回答最长多少词元",
        "seed": "随机种子（留空：每次不同）",
        "ask": "给模型写点什么……",
        "stop": "停止",
        "dark": "浅色／深色",
        "speed": "{tokens} 词元 · 每秒 {rate:.1f} 词元 · 首词元 {first:.2f} 秒",
        "forgotten": " · 较早的对话放不下，已略去",
        "stopped": " · 已停止",
        "private": "对话只保存在这个浏览器里，不会发往任何别处。",
        "one_turn": "这个模型不懂多轮对话：每条消息单独回答。",
        "goes_on": "这个模型不懂提问：它会接着你写的往下写。",
    },
}

NAMES = {"English": "en", "中文": "zh"}
"""As the page's switch calls the languages."""

CLOSING = (
    "The server is closing: running answers still come, new questions don't. Your chats stay in this browser. "
    "服务器正在关闭：正在生成的回答会继续完成，不再接受新的提问。您的对话仍保存在这个浏览器里。"
)
"""Told to all open pages, whatever their language."""
