"""One kind of error: where it is, what was found, what was expected, what to do; and the exit statuses."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from os import PathLike, fspath

DONE = 0
ANSWER_IS_NO = 1
COULD_NOT = 2
INTERRUPTED = 130


class ZhenError(Exception):
    """Something the user can mend. Printed as `file, place: found; expected … [rule]`, then `hint: …`.

    `found` is a sentence fragment that names the value (`unknown key "tokns"`), `expected` what would be
    right, `hint` what to do next; `rule` the lasting name of the rule of a format that a file breaks
    (`safetensors.overlap`). Exit status 2.
    """

    status: int = COULD_NOT

    def __init__(
        self,
        found: str,
        *,
        expected: str | None = None,
        file: str | PathLike[str] | None = None,
        place: str | None = None,
        hint: str | None = None,
        rule: str | None = None,
    ) -> None:
        self.found = found
        self.expected = expected
        self.file = fspath(file) if file is not None else None
        self.place = place
        self.hint = hint
        self.rule = rule
        super().__init__(self.text())

    def text(self) -> str:
        """The message without its hint, on one line."""
        where = ", ".join(part for part in (self.file, self.place) if part)
        what = f"{self.found}; expected {self.expected}" if self.expected else self.found
        what = f"{what} [{self.rule}]" if self.rule else what
        return f"{where}: {what}" if where else what

    def lines(self) -> list[str]:
        """The message as it is printed: the text, then the hint if there is one."""
        return [self.text()] + ([f"hint: {self.hint}"] if self.hint else [])

    def __reduce__(self) -> tuple[object, ...]:
        # keyword-only arguments: the default would lose them when an error crosses a process
        return (_rebuild, (type(self), self.found, self.expected, self.file, self.place, self.hint, self.rule))


def _rebuild(
    kind: type[ZhenError],
    found: str,
    expected: str | None,
    file: str | None,
    place: str | None,
    hint: str | None,
    rule: str | None,
) -> ZhenError:
    return kind(found, expected=expected, file=file, place=place, hint=hint, rule=rule)


class ManyErrors(ZhenError):
    """Several mistakes found in one go, printed one after the other (a recipe reports all of its own at once)."""

    def __init__(self, errors: Sequence[ZhenError]) -> None:
        self.errors = list(errors)
        super().__init__("\n".join(error.text() for error in errors))

    def lines(self) -> list[str]:
        """The lines of each error in turn."""
        return [line for error in self.errors for line in error.lines()]

    def __reduce__(self) -> tuple[object, ...]:
        return (ManyErrors, (self.errors,))


class Interrupted(ZhenError):
    """Stopped by the user at a safe point; the same command goes on from there. Exit status 130."""

    status = INTERRUPTED


class Follows(ZhenError):
    """The end of a process because another one failed, which tells why. Has no lines of its own."""

    def __init__(self, status: int) -> None:
        super().__init__("another process failed")
        self.status = status

    def lines(self) -> list[str]:
        """None."""
        return []


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word closest to `word`, or None where nothing is close."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return found[0] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """A hint naming the closest known word, or None."""
    match = nearest(word, known)
    return f'did you mean "{match}"?' if match else None


def missing_extra(package: str, extra: str, purpose: str) -> ZhenError:
    """The error for a library that a verb needs and that is not installed."""
    return ZhenError(
        f"{purpose} needs `{package}`, which is not installed",
        hint=f"pip install 'zhen[{extra}]'",
    )
