"""A finding: one claim and what became of it."""

from __future__ import annotations

from typing import Literal

import msgspec

Severity = Literal["error", "warning", "note"]
Verdict = Literal["holds", "fails", "could not be checked"]
Confidence = Literal["exact", "likely", "none"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One claim, checked: what is claimed, the verdict, the evidence for it, and what to do."""

    id: str
    """The check, `room.what`; several findings of one check bear the same id."""
    severity: Severity
    """How bad it is where the claim does not hold."""
    claim: str
    verdict: Verdict
    evidence: str
    """What was looked at and seen; for `could not be checked` the reason."""
    confidence: Confidence
    """`exact`: compared byte by byte or number by number; `likely`: by resemblance; `none`: not checked."""
    fix: str | None = None
    file: str | None = None
    """Relative to the folder that was audited, where one file is to blame."""


def counted(number: int, noun: str) -> str:
    """`1 file`, `2 files`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def visible(text: str) -> str:
    """Text in which every character can be seen: names of hostile files steer no terminal and turn no line around."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def holds(check: str, claim: str, evidence: str, *, confidence: Confidence = "exact") -> Finding:
    """The claim was checked and is true."""
    return Finding(
        id=check,
        severity="error",
        claim=claim,
        verdict="holds",
        evidence=visible(evidence),
        confidence=confidence,
    )


def fails(
    check: str,
    claim: str,
    evidence: str,
    *,
    fix: str,
    file: str | None = None,
    severity: Severity = "error",
    confidence: Confidence = "exact",
) -> Finding:
    """The claim was checked and is not true."""
    return Finding(
        id=check,
        severity=severity,
        claim=claim,
        verdict="fails",
        evidence=visible(evidence),
        confidence=confidence,
        fix=visible(fix),
        file=file,
    )


def unchecked(
    check: str, claim: str, reason: str, *, fix: str | None = None, severity: Severity = "warning"
) -> Finding:
    """The claim could not be checked, and why. Of severity error it keeps the audit from passing."""
    return Finding(
        id=check,
        severity=severity,
        claim=claim,
        verdict="could not be checked",
        evidence=visible(reason),
        confidence="none",
        fix=fix,
    )
