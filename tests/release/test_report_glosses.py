"""Every name and sentence that other rooms hand to the report has words in both languages."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import zhen.audit
import zhen.data
from zhen.data import gate, rules, scan
from zhen.data.privacy import NAMES as PERSONAL_KINDS
from zhen.pages.parts import Words
from zhen.release.report_glosses import claim_words, evidence_words, reason_words
from zhen.release.report_names import PERSONAL, RULES, STAGES, UNITS, rule_name
from zhen.run import STAGES as PLANNED

HAN = re.compile("[一-鿿]")
CHECK = re.compile(r"[a-z]+\.[a-z-]+$")


def said(node: ast.expr | None) -> Iterator[str]:
    """The strings that an expression may be, with a stand-in for each value that is put in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield "".join(str(each.value) if isinstance(each, ast.Constant) else "7" for each in node.values)
    elif isinstance(node, ast.IfExp):
        yield from said(node.body)
        yield from said(node.orelse)


def reasons(module: ModuleType) -> Iterator[str]:
    """What the module says of losses: in what it makes, raises, names `reason`, or returns instead of a page."""
    places = {"Lost": 2, "Gap": 2, "lost": 1, "_broken": 0, "ValueError": 0, "Skipped": 0}
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in places and len(node.args) > places[name]:
                yield from said(node.args[places[name]])
        elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in ("reason", "page"):
            yield from said(node.value)
        elif isinstance(node, ast.FunctionDef) and node.name in REFUSE:
            for inner in ast.walk(node):
                if isinstance(inner, ast.Return):
                    value = inner.value.elts[-1] if isinstance(inner.value, ast.Tuple) else inner.value
                    yield from said(value)


REFUSE = ("page_from", "_member", "_digest_problem", "_page", "why_not")
"""Functions of the readers that return what is wrong."""

READERS = [
    importlib.import_module(f"zhen.data.{module.name}")
    for module in pkgutil.iter_modules(zhen.data.__path__)
    if module.name.startswith("read")
]
LOSSES = sorted({reason for module in (*READERS, scan, gate) for reason in reasons(module)})


def claims() -> Iterator[str]:
    for found in pkgutil.iter_modules(zhen.audit.__path__):
        module = importlib.import_module(f"zhen.audit.{found.name}")
        for node in ast.walk(ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))):
            # every call that names a check, `"files.hash"`, has the claim behind it
            if isinstance(node, ast.Call) and len(node.args) > 1 and CHECK.match(next(said(node.args[0]), "")):
                claim = node.args[1]
                yield from said(claim)
                if isinstance(claim, ast.Name):
                    yield str(getattr(module, claim.id))


def speaks_both(words: Words) -> bool:
    return bool(re.search("[a-z]", words)) and not HAN.search(words.replace("【】", "")) and bool(HAN.search(words.zh))


@pytest.mark.parametrize("rule", rules.NAMES)
def test_rule_has_words_in_both_languages_and_keeps_its_name(rule: str) -> None:
    assert speaks_both(RULES[rule])
    assert RULES[rule] != rule
    assert f"({rule})" in rule_name(rule)
    assert f"（{rule}）" in rule_name(rule).zh


def test_units_kinds_and_stages_have_words() -> None:
    assert {rule.unit for rule in rules.RULES} <= UNITS.keys()
    assert set(PERSONAL_KINDS) == PERSONAL.keys()
    assert [stage.name for stage in PLANNED if stage.name not in STAGES] == []
    assert all(speaks_both(words) for words in (*STAGES.values(), *PERSONAL.values()) if words != "IP addresses")


def test_reasons_are_found_where_they_are_written() -> None:
    known = {
        "empty file",
        "not a JSON object",
        "bytes between WARC records",
        "not UTF-8 at byte 7 of the line",
        "damaged 7 member (7)",
    }
    assert known | {"7 is null", "the HTTP body ends inside a chunk", "page without text", "HTTP status 7"} <= set(
        LOSSES
    )
    assert len(LOSSES) > 30


@pytest.mark.parametrize("reason", LOSSES)
def test_reason_of_a_loss_has_chinese_words(reason: str) -> None:
    assert HAN.search(reason_words(reason).zh)
    assert HAN.search(reason_words(f"row 7: {reason}").zh)


CLAIMS_MADE = sorted(set(claims()))


def test_claims_are_found_where_they_are_made() -> None:
    assert {"LLaMA is credited with the architecture", "every file is the one that SHA256SUMS lists"} <= set(
        CLAIMS_MADE
    )
    assert len(CLAIMS_MADE) > 15


@pytest.mark.parametrize("claim", CLAIMS_MADE)
def test_claim_of_the_audit_has_chinese_words(claim: str) -> None:
    assert HAN.search(claim_words(claim).zh)


def test_numbers_and_names_stay_in_the_chinese_words() -> None:
    words = reason_words("row group 3 is damaged, 1,024 rows lost: Unexpected end of stream")
    assert words.zh == "行组 3 损坏，丢失 1,024 行：Unexpected end of stream"
    assert evidence_words("19 files, 2.3 MB, all with equal size and SHA-256").zh.startswith("19 个文件，2.3 MB")


def test_unknown_sentence_stays_as_it_is() -> None:
    assert reason_words("something new").zh == "something new"
