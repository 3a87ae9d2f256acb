"""Refusals: RFC 9457 `application/problem+json` for programs, a page for people."""

from __future__ import annotations

from http import HTTPStatus

import msgspec

PROBLEM_JSON = "application/problem+json"


class Problem(Exception):
    """A request that is refused; `code` is for programs, `detail` says what is wrong and what to do next."""

    def __init__(self, status: int, code: str, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = headers or {}

    @property
    def title(self) -> str:
        """The status in words."""
        return HTTPStatus(self.status).phrase

    def body(self) -> bytes:
        """The problem document."""
        document = {"type": "about:blank", "title": self.title, "status": self.status}
        return msgspec.json.encode(document | {"code": self.code, "detail": self.detail})


def unauthorized(detail: str) -> Problem:
    """401."""
    return Problem(401, "unauthorized", detail, {"WWW-Authenticate": 'Bearer realm="impact"'})
