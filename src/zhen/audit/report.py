"""An audit's report: findings in order, the answer, and its forms: a table for people, SARIF 2.1.0 for programs."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

import msgspec
from rich.table import Table

from zhen.audit.finding import Finding, Severity, Verdict
from zhen.console import table

MARKS: dict[Verdict, str] = {"holds": "✓", "fails": "✗", "could not be checked": "?"}

SARIF_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"

_ORDER: dict[Verdict, int] = {"fails": 0, "could not be checked": 1, "holds": 2}
_GRAVITY: dict[Severity, int] = {"note": 0, "warning": 1, "error": 2}
_KINDS: dict[Verdict, str] = {"holds": "pass", "fails": "fail", "could not be checked": "open"}


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The findings of an audit, failures first."""

    findings: list[Finding]
    passed: bool
    """No claim of severity error fails, and each of severity error could be checked."""

    def of(self, verdict: Verdict) -> list[Finding]:
        """The findings with that verdict."""
        return [finding for finding in self.findings if finding.verdict == verdict]

    def fails(self, mildest: Severity) -> bool:
        """Whether a claim of that severity or a graver one does not hold, or one of severity error went unchecked."""
        return _fails(self.findings, mildest)

    def sentence(self) -> str:
        """`passed: 14 claims hold, 1 could not be checked`."""
        failed, unsure, held = (len(self.of(verdict)) for verdict in _ORDER)
        parts = [f"{failed} do not hold"] if failed else []
        parts += [f"{held} claims hold"]
        parts += [f"{unsure} could not be checked"] if unsure else []
        return ("passed: " if self.passed else "not passed: ") + ", ".join(parts)

    def table(self) -> Table:
        """A row a finding: mark, check, claim, what was seen and what to do."""
        rows = [[MARKS[found.verdict], found.id, found.claim, evidence(found)] for found in self.findings]
        return table(["", "check", "claim", "evidence"], rows)

    def to_json(self) -> dict[str, Any]:
        """`{findings, passed}` as plain data."""
        made: dict[str, Any] = msgspec.to_builtins(self)
        return made

    def to_sarif(self) -> dict[str, Any]:
        """A SARIF 2.1.0 log of one run. What holds is a result of kind `pass`, what was not checked of kind `open`."""
        rules = {found.id: {"id": found.id, "shortDescription": {"text": found.claim}} for found in self.findings}
        driver = {"name": "zhen audit", "version": importlib.metadata.version("zhen"), "rules": list(rules.values())}
        return {
            "$schema": SARIF_SCHEMA,
            "version": "2.1.0",
            "runs": [{"tool": {"driver": driver}, "results": [_result(found) for found in self.findings]}],
        }


def report(findings: Iterable[Finding]) -> Report:
    """Findings put in order (failures, unchecked, held; within these as they came) with the answer."""
    ordered = sorted(findings, key=lambda finding: _ORDER[finding.verdict])
    return Report(findings=ordered, passed=bool(ordered) and not _fails(ordered, "error"))


def evidence(finding: Finding) -> str:
    """The evidence, with what to do where the claim does not hold."""
    return f"{finding.evidence} → {finding.fix}" if finding.fix and finding.verdict != "holds" else finding.evidence


def _fails(findings: Iterable[Finding], mildest: Severity) -> bool:
    return any(
        (found.verdict == "fails" and _GRAVITY[found.severity] >= _GRAVITY[mildest])
        or (found.verdict == "could not be checked" and found.severity == "error")
        for found in findings
    )


def _result(finding: Finding) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": finding.id,
        "kind": _KINDS[finding.verdict],
        "level": finding.severity if finding.verdict == "fails" else "none",
        "message": {"text": f"{finding.claim}: {evidence(finding)}"},
        "partialFingerprints": {"claim/v1": f"{finding.id}:{finding.file or ''}"},
    }
    if finding.file:
        result["locations"] = [{"physicalLocation": {"artifactLocation": {"uri": quote(finding.file)}}}]
    return result
