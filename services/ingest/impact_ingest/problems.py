"""Refusals of a whole request: RFC 9457 `application/problem+json`."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

PROBLEM_JSON = "application/problem+json"


class Problem(Exception):
    """The answer to a request that is refused as a whole.

    `code` is stable and for programs; `detail` says what is wrong and what to do next, and never quotes
    what was sent.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})

    def body(self) -> bytes:
        """The problem document."""
        document = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
        }
        return msgspec.json.encode(document | self.extra)


def unreadable(detail: str) -> Problem:
    """400: the body cannot be read or split into events."""
    return Problem(400, "unreadable_body", detail)


def too_large(detail: str) -> Problem:
    """413."""
    return Problem(413, "too_large", detail)


def unavailable(code: str, detail: str) -> Problem:
    """503: try the same request again in a second."""
    return Problem(503, code, detail, headers={"Retry-After": "1"})
