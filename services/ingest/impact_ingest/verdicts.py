"""Verdicts on single events, and the answer that carries them."""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

Code = Literal[
    "invalid_envelope",
    "unknown_type",
    "source_not_allowed",
    "schema_violation",
    "value_out_of_range",
    "unit_mismatch",
    "subject_missing",
    "time_in_future",
    "time_too_old",
    "too_large",
]
CODES: tuple[Code, ...] = get_args(Code)


class Refused(Exception):
    """The verdict on an event that is not taken. `detail` never quotes a value that was sent."""

    def __init__(
        self, code: Code, detail: str, pointer: str | None = None, *, forbidden: bool = False
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.pointer = pointer
        self.forbidden = forbidden  # of a source or type that the key's product may not write


class Rejection(msgspec.Struct, frozen=True):
    """One refused event of a request; sent again unchanged it is refused again, so `retryable` is false."""

    index: int
    id: str | None
    code: Code
    detail: str
    pointer: str | None
    retryable: bool = False


class Answer(msgspec.Struct, frozen=True):
    """What became of the events of a request."""

    accepted: int
    rejected: list[Rejection]
