"""What the server answers instead of a completion: errors in OpenAI's form, each with its HTTP status."""

from __future__ import annotations

import json
from typing import Any

from zhen.errors import ZhenError

KINDS = {401: "authentication_error", 429: "rate_limit_error", 500: "server_error", 503: "server_error"}
"""Status -> OpenAI's type of error; all others are `invalid_request_error`."""


class Refusal(Exception):
    """A request that is not answered. `param` names the field at fault, `code` is for programs."""

    def __init__(
        self, status: int, message: str, *, code: str | None = None, param: str | None = None, retry_after: int = 0
    ) -> None:
        self.status, self.message, self.code, self.param = status, message, code, param
        self.retry_after = retry_after
        """Seconds after which another try is worth it; 0 where it is not."""
        super().__init__(message)

    def body(self) -> dict[str, Any]:
        """The error as OpenAI's clients read it."""
        kind = KINDS.get(self.status, "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def headers(self) -> dict[str, str]:
        """What goes with it: `Retry-After`, or how to log in."""
        if self.retry_after:
            return {"Retry-After": str(self.retry_after)}
        return {"WWW-Authenticate": "Bearer"} if self.status == 401 else {}


def of_zhen(error: ZhenError) -> Refusal:
    """A mistake in a request that a lower room found."""
    return Refusal(400, error.text(), code="invalid_value")


def json_bytes(value: Any) -> bytes:
    """JSON on one line. Halves of surrogate pairs, which a request may quote back at us, are escaped."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
