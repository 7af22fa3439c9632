"""Chinese for sentences that other rooms write in English: why a record was lost, what the audit claims."""

from __future__ import annotations

import re
from collections.abc import Mapping

from zhen.pages.parts import Words

_NUMBER = r"([\d,.]+)"

REASONS = {
    r"WARC (\S+) record": r"WARC 的 \1 记录",
    r"HTTP status (\d+)": r"HTTP 状态码 \1",
    r"content of type (.+)": r"\1 类型的内容",
    r"page without text": "没有文字的网页",
    r"empty file": "空文件",
    r"a Git LFS pointer.*": "只是 Git LFS 指针，不是文件本身（git lfs pull）",
    r"cannot be read: (.+)": r"无法读取：\1",
    r"UTF-16; JSON lines are UTF-8": "是 UTF-16，而 JSON 行应为 UTF-8",
    rf"a line of {_NUMBER} bytes; at most {_NUMBER} are read": r"一行长 \1 字节，最多读 \2 字节",
    r"not UTF-8 at byte (\S+) of the line": r"该行从第 \1 字节起不是 UTF-8",
    r"nested too deeply": "嵌套太深",
    r"not JSON: (.+)": r"不是 JSON：\1",
    r"not a JSON object": "不是 JSON 对象",
    r"no Parquet file, or damaged: (.+)": r"不是 Parquet 文件，或已损坏：\1",
    r"no column (.+); there are (.*)": r"没有 \1 列；现有：\2",
    r"row group (\S+) is damaged, (\S+) rows lost: (.+)": r"行组 \1 损坏，丢失 \2 行：\3",
    rf"longer than {_NUMBER} bytes": r"长于 \1 字节",
    r"WARC header without an end": "WARC 头没有结尾",
    r"WARC record with Content-Length (.+)": r"WARC 记录的 Content-Length 是 \1",
    rf"a WARC record of {_NUMBER} bytes; at most {_NUMBER} are read": r"WARC 记录长 \1 字节，最多读 \2 字节",
    r"the file ends inside a WARC record": "文件在 WARC 记录中间结束",
    r"bytes between WARC records": "WARC 记录之间有多余的字节",
    rf"the file ends {_NUMBER} bytes before the end of the record": r"文件在记录结尾前 \1 字节处结束",
    r"the block digest does not match": "区块摘要不符",
    r"the response is not HTTP": "应答不是 HTTP",
    r"the HTTP body ends inside (?:its chunks|a chunk)": "HTTP 正文在分块中间结束",
    r"the HTTP body is no (\S+): (.+)": r"HTTP 正文不是 \1：\2",
    r"the HTTP body is damaged (\S+) \((.+)\)": r"HTTP 正文的 \1 已损坏（\2）",
    rf"the HTTP body ends inside its (\S+) stream, or is longer than {_NUMBER} bytes": (
        r"HTTP 正文在 \1 流中间结束，或长于 \2 字节"
    ),
    r"the file ends inside a (\S+) member": r"文件在 \1 成员中间结束",
    r"damaged (\S+) member \((.+)\)": r"\1 成员已损坏（\2）",
    r"in no encoding that fits it; its bytes are pairs as in (\S+), which is not read": (
        r"没有合适的编码；字节成对，像 \1，本程序不读"
    ),
    r"in no encoding that fits it": "没有合适的编码",
    rf"extraction crashed or took {_NUMBER} CPU seconds": r"正文提取崩溃，或用去 \1 秒处理器时间",
    r"(\S+) is null": r"\1 为 null",
    r"no (\S+) \(there are (.+)\)": r"没有 \1（现有：\2）",
    r"(\S+) is of type (\S+), not text": r"\1 的类型是 \2，不是文本",
    r"(\S+) holds a lone surrogate": r"\1 含有孤立的代理项",
}
"""The English sentence as a pattern -> the Chinese one. Names of columns, numbers and other programs' words stay."""

_IN_ROW = re.compile(r"row (\S+): (.+)")

CLAIMS = {
    "the weights are safetensors files with a sound header": "权重是 safetensors 文件，文件头完好",
    "every file is the one that SHA256SUMS lists": "每个文件都与 SHA256SUMS 所列一致",
    "no code comes with the files": "文件中不带代码",
    "no file is a pickle, which runs code when it is loaded, or holds one": (
        "没有文件是 pickle（加载时会执行代码），也不内含 pickle"
    ),
    "config.json describes a LLaMA decoder without code of its own": "config.json 描述 LLaMA 解码器，不带自己的代码",
    "every tensor bears LLaMA's name": "每个张量都用 LLaMA 的名字",
    "the tensors are those that config.json asks for, in its shapes": "张量正是 config.json 所要的，形状一致",
    "every tensor is stored in the number format that config.json names": "每个张量都以 config.json 写明的数值格式存储",
    "packed matrices have all their parts, and these fit each other": "打包的矩阵各部分齐全且彼此相符",
    "the weights that were checked are the only ones here": "除核对过的权重外，此处没有别的权重",
    "the adapter fits the weights beside it": "适配器与旁边的权重相符",
    "the tensors are those of the checkpoint that this one is a renaming of": "张量与改名前的检查点相同",
    "the licence files of the checkpoint that this one was made of are here, unchanged": (
        "来源检查点的许可文件在此，未经改动"
    ),
    "every token id has a row in the embedding": "每个词元编号在嵌入矩阵中都有一行",
    "tokenizer.model and tokenizer.json give every piece the same id": (
        "tokenizer.model 与 tokenizer.json 给每个词元同样的编号"
    ),
    "config.json, generation_config.json and the tokenizer agree on the special ids": (
        "config.json、generation_config.json 与分词器的特殊词元编号一致"
    ),
    "the context length claimed is one that was trained": "声称的上下文长度是训练过的",
    "the context length claimed is the longest at which the model was seen to find keys": (
        "声称的上下文长度就是实测模型仍能找到钥匙的最大长度"
    ),
    "the weights are those that the record of their training names": "权重就是训练记录所载的权重",
    "configuration and tokenizer are those that the record of the training names": (
        "配置与分词器就是训练记录所载的那些"
    ),
    "every figure of the card is the one in its record": "模型卡上的每个数字都与其记录一致",
    "the licence file is there and is the licence that the card claims": "许可文件在，且就是模型卡声称的许可",
    "LLaMA is credited with the architecture": "注明了架构出自 LLaMA",
    "no question that is scored is in the training text, but for those asked there on purpose": (
        "计分的题都不在训练文本中，有意在训练中问的除外"
    ),
    "the training text holds the questions as often as the record of the evaluation says": (
        "训练文本中含有题目的次数与评测记录所载一致"
    ),
}

_COUNTED = r"(\S+) questions? of (\S+) files?, (\S+) training tokens"

EVIDENCE = {
    r"(\S+) tensors, headers checked": r"\1 个张量，文件头已查",
    r"(\S+) files, (.+), all with equal size and SHA-256": r"\1 个文件，\2，大小与 SHA-256 全部相等",
    r"(\S+) files, (\S+) JSON files read for auto_map": r"\1 个文件，在 \2 个 JSON 文件中找过 auto_map",
    r"looked into (\S+) files, names and content": r"看过 \1 个文件的名字与内容",
    r"(\S+) layers, width (\S+), (\S+) heads, (\S+) for keys and values, vocabulary (\S+)": (
        r"\1 层，宽 \2，\3 个头，键值头 \4 个，词表 \5"
    ),
    r"(\S+) tensors": r"\1 个张量",
    r"(\S+) tensors, none missing, none more": r"\1 个张量，不缺不多",
    r"(\S+) matrices of rank (\S+)": r"\1 个矩阵，秩为 \2",
    r"(\S+) in (\S+)": r"\1 个为 \2",
    r"(\S+) files?": r"\1 个文件",
    r"tokenizer.model: (\S+) tokens, tokenizer.json: (\S+) tokens; (\S+) rows": (
        r"tokenizer.model 有 \1 个词元，tokenizer.json 有 \2 个；嵌入 \3 行"
    ),
    r"(\S+) pieces compared": r"比较了 \1 个词元",
    r"(\S+) tokens in (\S+) and in (.+)": r"\1 个词元，见 \2 与 \3",
    r"claimed: (\S+) tokens; (\S+) of the keys are written up to (\S+) \(tried: (.+)\)": (
        r"声称 \1 个词元；长度到 \3 为止写出 \2 的钥匙（试过：\4）"
    ),
    r"(\S+) files?, SHA-256 as in (\S+)": r"\1 个文件，SHA-256 与 \2 相同",
    r"(\S+) figures, (\S+) records": r"\1 个数字，\2 份记录",
    rf"{_COUNTED}; (\S+) figures? as recorded": r"\2 个文件的 \1 道题，训练词元 \3 个；\4 个数字与记录一致",
    rf"{_COUNTED}; of the (\S+) not asked on purpose none was found": (
        r"\2 个文件的 \1 道题，训练词元 \3 个；并非有意问的 \4 题一道也没有找到"
    ),
    r"(\S+) is the (.+), word by word": r"\1 逐字就是 \2",
    r"(\S+) names it": r"\1 中写明",
}
"""What is seen where a claim holds; what else the audit may say stays in English."""


def reason_words(reason: str) -> Words:
    """Why a record was lost, or held no page; in English where no pattern fits."""
    if row := _IN_ROW.fullmatch(reason):
        return Words(reason, f"第 {row[1]} 行：{reason_words(row[2]).zh}")
    return _by_pattern(reason, REASONS)


def claim_words(claim: str) -> Words:
    """A claim of the audit; in English where it has no Chinese."""
    return Words(claim, CLAIMS.get(claim, claim))


def evidence_words(evidence: str) -> Words:
    """What the audit saw; in English where no pattern fits."""
    return _by_pattern(evidence, EVIDENCE)


def _by_pattern(text: str, patterns: Mapping[str, str]) -> Words:
    for pattern, chinese in patterns.items():
        if found := re.fullmatch(pattern, text, re.DOTALL):
            return Words(text, found.expand(chinese))
    return Words(text, text)
