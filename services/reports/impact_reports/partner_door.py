"""The port through which approved rows reach the door: that of everybody, with the approver's own key."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from impact_schemas.partner_plan import Elsewhere
    from impact_schemas.partner_rows import Key


class DoorUnavailable(Exception):
    """The door does not answer, or refuses the key; the message says what to do."""


class Verdict(NamedTuple):
    """Why the door rejects one event; `number` counts from 0 in what was handed over."""

    number: int
    code: str
    detail: str
    pointer: str | None = None


class Door(Protocol):
    """The ingest service. Whatever is repeated is counted once. All raise DoorUnavailable."""

    async def judge(self, key: str, events: Sequence[bytes]) -> list[Verdict]:
        """What would be rejected; nothing is kept."""
        ...

    async def send(self, key: str, events: Sequence[bytes]) -> list[Verdict]:
        """Hands events over; what is not rejected is in the log when this returns."""
        ...

    async def find(self, key: str, source: str, keys: Sequence[Key]) -> dict[Key, Elsewhere]:
        """Which of these rows the service has already, from whomever."""
        ...
