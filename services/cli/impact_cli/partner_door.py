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

IDS_AT_ONCE = 1_000
LOOKUP_PAUSES_S = (0.5, 1.0, 2.0, 4.0)  # between attempts while the service is too busy
COUNTED_OR_ON_THE_WAY = frozenset({"counted", "duplicate", "waiting"})
PAGE_RETRY_S = 20.0  # somebody waits for the page


async def judge(target: Target, events: Sequence[bytes]) -> list[Rejection]:
    """What the door would reject. Raises SendError."""
    return (await send(events, replace(target, dry_run=True))).rejections


async def find(target: Target, source: str, keys: Sequence[Key]) -> dict[Key, Elsewhere]:
    """Which of these rows the service has already. Raises SendError."""
    async with httpx.AsyncClient(timeout=target.request_timeout_s) as client:
        return await _Lookup(client, target, source).rows(keys)


class _Lookup:
    """Asks the service what became of events. A service that does not tell knows none."""

    def __init__(self, client: httpx.AsyncClient, target: Target, source: str) -> None:
        self._client = client
        self._url = f"{target.url.rstrip('/')}/v1/events/status"
        self._headers = {"Authorization": f"Bearer {target.key}"}
        self._source = source

    async def rows(self, keys: Sequence[Key]) -> dict[Key, Elsewhere]:
        """What is taken back is looked for under the id of its next generation."""
        found: dict[Key, Elsewhere] = {}
        left, generation = list(keys), 0
        while left:
            statuses = await self._statuses({key: row_id(self._source, key, generation) for key in left})
            for key, status in statuses.items():
                if status in COUNTED_OR_ON_THE_WAY:
                    found[key] = Elsewhere(generation, counted=True)
                elif status != "retracted" and generation:
                    found[key] = Elsewhere(generation - 1, counted=False)
            left = [key for key, status in statuses.items() if status == "retracted"]
            generation += 1
        return found

    async def _statuses(self, ids: dict[Key, str]) -> dict[Key, str]:
        names = list(ids.values())
        found: dict[str, str] = {}
        for start in range(0, len(names), IDS_AT_ONCE):
            found |= await self._asked(names[start : start + IDS_AT_ONCE])
        return {key: found.get(name, "unknown") for key, name in ids.items()}

    async def _asked(self, names: Sequence[str]) -> dict[str, str]:
        answer = await self._answer({"source": self._source, "ids": names})
        if answer.status_code in (404, 405):
            return {}
        if answer.status_code != 200:
            raise SendError(f"{self._url} answered {answer.status_code}: {answer.text[:200]}")
        statuses: dict[str, str] = answer.json().get("statuses", {})
        return statuses

    async def _answer(self, asked: dict[str, object]) -> httpx.Response:
        for pause in (*LOOKUP_PAUSES_S, None):
            try:
                answer = await self._client.post(self._url, json=asked, headers=self._headers)
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
