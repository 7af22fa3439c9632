"""How answers are scored where the harness has no such task, or would ask the network for it."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

from zhen.evaluate.harness.files import Doc
from zhen.evaluate.harness.sandbox import passes

SECONDS = 5
"""What comparing two formulas may take; by an alarm, which only a main thread gets."""


def squad(doc: Doc, results: Sequence[str]) -> dict[str, float]:
    """Exact match and F1 of words, the best over all right answers (Rajpurkar et al. 2016, arXiv 1606.05250)."""
    given = _words(results[0])
    right = [_words(answer) for answer in doc["answers"]]
    return {"f1": max(_f1(given, answer) for answer in right), "exact": float(any(given == answer for answer in right))}


def _words(text: str) -> list[str]:
    """Words without case, punctuation and articles."""
    plain = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", plain).split()


def _f1(given: Sequence[str], right: Sequence[str]) -> float:
    if not given or not right:
        return float(given == right)
    common = sum((Counter(given) & Counter(right)).values())
    return 2 * common / (len(given) + len(right))


def mathematics(doc: Doc, results: Sequence[str]) -> dict[str, float]:
    """Whether the final answer is worth the same as the right one (math-verify), and whether it is written alike."""
    from math_verify import parse, verify

    given, right = final_answer(results[0]), boxed(doc["solution"]) or ""
    same = bool(given) and given.replace(" ", "") == right.replace(" ", "")
    parsed = [parse(f"${text}$", parsing_timeout=SECONDS) if text else [] for text in (right, given)]
    equal = bool(parsed[0] and parsed[1]) and verify(parsed[0], parsed[1], timeout_seconds=SECONDS)
    return {"math_verify": float(equal or same), "exact": float(same)}


def final_answer(text: str) -> str:
    """What an answer ends in: `Final Answer: The final answer is …. I hope`, else its last box."""
    said = re.search(r"Final Answer: The final answer is (.*?)\. I hope it is correct", text, re.DOTALL)
    return said.group(1).strip().strip("$") if said else boxed(text) or ""


def boxed(text: str) -> str | None:
    """The content of the last `\\boxed{…}` or `\\fbox{…}`, braces in it matched."""
    at = max(text.rfind("\\boxed{"), text.rfind("\\fbox{"))
    if at < 0:
        return None
    begin = text.index("{", at) + 1
    depth = 1
    for place in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[begin:place]
    return None


def humaneval(doc: Doc, results: Sequence[str]) -> dict[str, float]:
    """Whether the function passes the tests of the set, run in the sandbox."""
    return {"pass@1": float(passes(f"{doc['prompt']}{results[0]}\n{doc['test']}\ncheck({doc['entry_point']})\n"))}


def mbpp(doc: Doc, results: Sequence[str]) -> dict[str, float]:
    """Whether the program passes the three tests, run in the sandbox."""
    tests = "\n".join([doc.get("test_setup_code") or "", *doc["test_list"]])
    return {"pass@1": float(passes(f"{results[0]}\n{tests}\n"))}
