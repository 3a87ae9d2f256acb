"""A clinic whose partners report about people, the pages for their files, and a door in memory."""

from __future__ import annotations

import json
import re
from contextlib import asynccontextmanager
from html import unescape
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from impact_aggregator.active import activate
from impact_database import migrate
from impact_database.engine import connect
from impact_database.keys import SqlKeyStore, create_key
from impact_reports.app import create_app
from impact_reports.partner_door import DoorUnavailable, Verdict
from impact_schemas.catalog import parse_catalog
from impact_schemas.partner_plan import CORRECTION, RETRACTION, Elsewhere
from impact_schemas.partner_rows import row_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from sqlalchemy.ext.asyncio import AsyncEngine

    from impact_schemas.partner_rows import Key

NOON = 1_767_268_800_000_000  # 1 January 2026
SOURCE = "/clinic/partners"
SECRET = b"s" * 32

CATALOG = """
apiVersion: impact/v1
product: clinic
title: "Clinic <b>on wheels</b>"
sources: ["/clinic/*"]
events:
  clinic.visit.v1:
    subject: required
    pseudonymous: [data.household]
    data:
      type: object
      required: [day]
      properties:
        day: {type: string}
        minutes: {type: number, minimum: 0, description: how long it took}
        language: {enum: [en, sw]}
        household: {type: string}
metrics:
  minutes: {title: Minutes, event: clinic.visit.v1, aggregate: sum, of: data.minutes, unit: min, role: impact}
imports:
  visits:
    title: Visits of "outreach"
    source: /clinic/partners
    type: clinic.visit.v1
    key: [patient, day]
    subject: patient
    time: day
    data:
      day: day
      minutes: {column: minutes, type: number}
      language: language
      household: household
"""
HEADER = "patient,day,minutes,language,household"
FORM = "/products/clinic/files/visits"
FIELDS = re.compile(r'name="(\w+)" value="([^"]*)"')


class Door:
    """Follows the contract, in memory; what `refuse` names is rejected, and it may break off."""

    def __init__(self) -> None:
        self.events: dict[str, dict[str, Any]] = {}
        self.retracted: set[str] = set()
        self.data: dict[str, tuple[str, Any]] = {}  # corrected: time, data
        self.keys: list[str] = []
        self.breaks_after: int | None = None

    async def judge(self, key: str, events: Sequence[bytes]) -> list[Verdict]:
        self.keys.append(key)
        return [
            Verdict(number, "schema_violation", "-1 is less than the minimum of 0", "/data/minutes")
            for number, event in enumerate(map(json.loads, events))
            if event["data"].get("minutes") == -1
        ]

    async def send(self, key: str, events: Sequence[bytes]) -> list[Verdict]:
        self.keys.append(key)
        verdicts = []
        for number, event in enumerate(map(json.loads, events)):
            if self.breaks_after is not None:
                self.breaks_after -= 1
                if self.breaks_after < 0:
                    raise DoorUnavailable("the door does not answer")
            if event["data"].get("minutes") == 666:
                verdicts.append(Verdict(number, "value_out_of_range", "666 is too much"))
            else:
                self._take(event)
        return verdicts

    def _take(self, event: dict[str, Any]) -> None:
        data = event["data"]
        if event["type"] == RETRACTION:
            self.retracted.add(data["id"])
        elif event["type"] == CORRECTION:
            self.data[data["id"]] = max(
                self.data.get(data["id"], ("", {})), (event["time"], data["data"]), key=lambda one: one[0]
            )
        else:
            first = self.events.setdefault(event["id"], event)
            assert first == event | {"importid": first["importid"]}, "an id_conflict"

    async def find(self, key: str, source: str, keys: Sequence[Key]) -> dict[Key, Elsewhere]:
        self.keys.append(key)
        found = {}
        for one in keys:
            generation = 0
            while row_id(source, one, generation) in self.retracted:
                generation += 1
            if row_id(source, one, generation) in self.events:
                found[one] = Elsewhere(generation, counted=True)
            elif generation:
                found[one] = Elsewhere(generation - 1, counted=False)
        return found

    def counted(self) -> list[tuple[str, str, Any]]:
        """patient, day, minutes of what stands."""
        standing = [(name, one) for name, one in self.events.items() if name not in self.retracted]
        data = [(one["subject"], self.data.get(name, ("", one["data"]))[1]) for name, one in standing]
        return sorted((subject, one["day"], one.get("minutes")) for subject, one in data)


class Clinic:
    """The pages over a database, and their people's keys."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.keys = SqlKeyStore(engine)
        self.door = Door()
        self.now = NOON

    async def start(self) -> None:
        await activate(self.engine, {"clinic": parse_catalog(CATALOG, "clinic.yaml")}, NOON)
        self.partner = await self.key("import")
        self.approver = await self.key("admin")
        await self.keys.start()

    async def key(self, scope: str, product: str = "clinic") -> str:
        return (await create_key(self.engine, product, [scope]))[0]

    def client(
        self, *, open_to_all: bool = True, off: bool = False, secret: bytes = SECRET
    ) -> httpx.AsyncClient:
        app = create_app(
            self.engine,
            self.keys,
            session_key=secret,
            open_to_all=open_to_all,
            clock=lambda: self.now,
            door=None if off else self.door,
        )
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://localhost")

    async def everything_kept(self) -> str:
        """All that the journal's tables hold."""
        kept = []
        async with self.engine.connect() as connection:
            for table in ("import_run", "import_row", "import_step"):
                rows = await connection.exec_driver_sql(f"SELECT * FROM {table}")
                kept += [repr(tuple(row)) for row in rows]
        return "\n".join(kept)


class Pages:
    """What a partner and an approver do."""

    def __init__(self, clinic: Clinic, client: httpx.AsyncClient) -> None:
        self.clinic = clinic
        self.client = client

    async def look(
        self, *rows: str, replace: bool = False, content: bytes | None = None, **more: Any
    ) -> httpx.Response:
        text = "\n".join([HEADER, *rows]).encode() if content is None else content
        data = {"key": more.pop("key", self.clinic.partner)} | ({"replace": "yes"} if replace else {})
        file = (more.pop("name", "visits.csv"), text)
        return await self.client.post(f"{FORM}/preview", data=data, files={"file": file}, **more)

    async def approve(self, preview: httpx.Response, key: str | None = None, **more: Any) -> httpx.Response:
        fields = {name: unescape(value) for name, value in FIELDS.findall(preview.text)}
        fields |= {"key": key or self.clinic.approver}
        files = {name: (None, value) for name, value in fields.items()}
        return await self.client.post(f"{FORM}/approve", files=files, **more)

    async def sent(self, *rows: str, replace: bool = False) -> str:
        self.clinic.now += 1_000_000
        answer = await self.approve(await self.look(*rows, replace=replace))
        assert answer.status_code == 303, answer.text
        return str(answer.headers["location"]).rpartition("/")[2]

    async def receipt(self, importid: str) -> str:
        answer = await self.client.get(f"/products/clinic/imports/{importid}")
        assert answer.status_code == 200
        return answer.text

    async def undo(self, importid: str, key: str | None = None, **more: Any) -> httpx.Response:
        self.clinic.now += 1_000_000
        fields = {"key": (None, key or self.clinic.approver)}
        return await self.client.post(f"/products/clinic/imports/{importid}/undo", files=fields, **more)


def counts(page: httpx.Response) -> tuple[int, ...]:
    """new, changed, unchanged, missing, wrong."""
    assert page.status_code == 200, page.text
    return tuple(int(one) for one in re.findall(r'<span class="count">([\d,]+)</span>', page.text))


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Clinic]:
    engine = connect(url)
    await migrate.upgrade(engine)
    clinic = Clinic(engine)
    await clinic.start()
    try:
        yield clinic
    finally:
        await clinic.keys.stop()
        await engine.dispose()


@pytest.fixture
async def clinic(database_url: str) -> AsyncIterator[Clinic]:
    async with opened(database_url) as one:
        yield one


@pytest.fixture
async def pages(clinic: Clinic) -> AsyncIterator[Pages]:
    async with clinic.client() as client:
        yield Pages(clinic, client)
