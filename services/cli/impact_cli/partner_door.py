"""The door, as those see it who send partners' rows: the command line, and the pages by their port."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import httpx

from impact_cli.send import RETRIED, SendError, Target, send
from impact_schemas.partner_plan import Elsewhere
from impact_schemas.partner_rows import row_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from impact_cli.send import Rejection
    from impact_reports.partner_door import Verdict
    from impact_schemas.partner_rows import Key

LOOKUPS_AT_ONCE = 8
LOOKUP_PAUSES_S = (0.5, 1.0, 2.0, 4.0)  # between attempts while the service is too busy
COUNTED_OR_ON_THE_WAY = frozenset({"counted", "duplicate", "waiting"})
PAGE_RETRY_S = 20.0  # somebody waits for the page


async def judge(target: Target, events: Sequence[bytes]) -> list[Rejection]:
    """What the door would reject. Raises SendError."""
    return (await send(events, replace(target, dry_run=True))).rejections


async def find(target: Target, source: str, keys: Sequence[Key]) -> dict[Key, Elsewhere]:
    """Which of these rows the service has already. Raises SendError."""
    async with httpx.AsyncClient(timeout=target.request_timeout_s) as client:
        lookup = _Lookup(client, target, source)
        found = await asyncio.gather(*(lookup.row(key) for key in keys))
    return {key: one for key, one in zip(keys, found, strict=True) if one is not None}


class _Lookup:
    """Asks the service what became of events. A service that does not tell knows none."""

    def __init__(self, client: httpx.AsyncClient, target: Target, source: str) -> None:
        self._client = client
        self._url = f"{target.url.rstrip('/')}/v1/events/status"
        self._headers = {"Authorization": f"Bearer {target.key}"}
        self._source = source
        self._at_once = asyncio.Semaphore(LOOKUPS_AT_ONCE)
        self._tells = True

    async def row(self, key: Key) -> Elsewhere | None:
        generation = 0
        while True:
            status = await self._status(row_id(self._source, key, generation))
            if status in COUNTED_OR_ON_THE_WAY:
                return Elsewhere(generation, counted=True)
            if status != "retracted":
                return Elsewhere(generation - 1, counted=False) if generation else None
            generation += 1

    async def _status(self, event_id: str) -> str:
        if not self._tells:
            return "unknown"
        async with self._at_once:
            answer = await self._asked(event_id)
        if answer.status_code in (404, 405):
            self._tells = False
            return "unknown"
        if answer.status_code != 200:
            raise SendError(f"{self._url} answered {answer.status_code}: {answer.text[:200]}")
        return str(answer.json().get("status", "unknown"))

    async def _asked(self, event_id: str) -> httpx.Response:
        parameters = {"source": self._source, "id": event_id}
        for pause in (*LOOKUP_PAUSES_S, None):
            try:
                answer = await self._client.get(self._url, params=parameters, headers=self._headers)
            except httpx.TransportError as error:
                raise SendError(f"no answer from {self._url}: {error}") from error
            if pause is None or answer.status_code not in RETRIED:
                break
            await asyncio.sleep(pause)
        return answer


class HttpDoor:
    """The port of the pages over HTTP: see `impact_reports.partner_door.Door`."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def judge(self, key: str, events: Sequence[bytes]) -> list[Verdict]:
        """What would be rejected; nothing is kept."""
        try:
            return _verdicts(await judge(self._target(key), events))
        except SendError as error:
            raise _unavailable(error) from error

    async def send(self, key: str, events: Sequence[bytes]) -> list[Verdict]:
        """Hands events over; what is not rejected is in the log when this returns."""
        try:
            return _verdicts((await send(events, self._target(key))).rejections)
        except SendError as error:
            raise _unavailable(error) from error

    async def find(self, key: str, source: str, keys: Sequence[Key]) -> dict[Key, Elsewhere]:
        """Which of these rows the service has already, from whomever."""
        try:
            return await find(self._target(key), source, keys)
        except SendError as error:
            raise _unavailable(error) from error

    def _target(self, key: str) -> Target:
        # one request at a time: a retraction and what comes after it arrive in their order
        return Target(url=self._url, key=key, in_flight=1, retry_for_s=PAGE_RETRY_S)


def _verdicts(rejections: Sequence[Rejection]) -> list[Verdict]:
    from impact_reports.partner_door import Verdict

    return [Verdict(one.index, one.code, one.detail or "", one.pointer) for one in rejections]


def _unavailable(error: SendError) -> Exception:
    from impact_reports.partner_door import DoorUnavailable

    reason = str(error).splitlines()[0]
    return DoorUnavailable(
        f"The door does not take it now ({reason}). What was sent is noted: try again, and it goes on"
    )
