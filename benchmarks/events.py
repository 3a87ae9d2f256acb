"""The events of all benchmarks, about 260 bytes each as they stand in the log, and what counts them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from impact_eventlog import Partition, Record
from impact_schemas.catalog import parse_catalog
from impact_schemas.identity import Identities, Pseudonyms
from impact_schemas.tables import to_datetime
from impact_schemas.wire import EVENTS_TOPIC, encode_record, partition_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from impact_schemas.catalog import Catalog

PRODUCT = "bench"
SOURCE = "/bench/worker-7"
TYPE = "bench.message.delivered.v1"
MASTER = b"a master key that is only for benchmarks"
SUBJECTS = 100_000
CLINICS = 50
HOUR_US = 3_600_000_000

_HEAD = f"""\
apiVersion: impact/v1
product: {PRODUCT}
title: Messages to patients
sources: ["/bench/*"]
events:
  {TYPE}:
    subject: required
    data:
      type: object
      required: [channel, clinic]
      properties:
        channel: {{enum: [sms, voice]}}
        clinic: {{type: string}}
        cost: {{type: number, minimum: 0}}
        language: {{type: string}}
  bench.probe.v1: {{data: {{type: object}}}}
metrics:
"""
METRICS = {
    "patients": "aggregate: unique, of: subject",
    "messages": "aggregate: count",
    "cost": "aggregate: sum, of: data.cost",
    "mean_cost": "aggregate: mean, of: data.cost",
    "greatest_cost": "aggregate: max, of: data.cost",
}


def catalog_text(
    metrics: Iterable[str] = ("patients", "messages", "cost"),
    dimensions: str = "clinic: data.clinic",
    cuts: str = "",
    windows: str = "24h, 28d, all",
) -> str:
    """A catalog with these of METRICS, each with the same dimensions; and a count of probes."""
    probes = (
        "  probes: {title: probes, event: bench.probe.v1, aggregate: count, role: impact, windows: [all]}\n"
    )
    return (
        _HEAD
        + probes
        + "".join(
            f"  {name}: {{title: {name}, event: {TYPE}, {METRICS[name]}, role: impact,"
            f" dimensions: {{{dimensions}}}, cuts: [{cuts}], windows: [{windows}]}}\n"
            for name in metrics
        )
    )


def catalogs_of(text: str) -> dict[str, Catalog]:
    """By product, as the services take them."""
    return {PRODUCT: parse_catalog(text, "bench.yaml")}


class EventMaker:
    """Makes events as the door writes them: canonical, the subject a pseudonym."""

    def __init__(self) -> None:
        pseudonyms = Pseudonyms(MASTER)
        self._subjects = [pseudonyms.of(PRODUCT, f"patient-{number}") for number in range(SUBJECTS)]
        self._identities = Identities(MASTER)

    def event(self, number: int, at: int, clinic: str, language: str) -> bytes:
        """Event `number`, at `at` microseconds since 1970; equal numbers are copies of one event."""
        subject = self._subjects[number * 7919 % SUBJECTS]
        moment = to_datetime(at).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return (
            f'{{"data":{{"channel":"{"sms" if number % 3 else "voice"}","clinic":"{clinic}"'
            f',"cost":{number % 1000 / 100},"language":"{language}"}},"id":"{id_of(number)}"'
            f',"source":"{SOURCE}","specversion":"1.0","subject":"{subject}","time":"{moment}","type":"{TYPE}"}}'
        ).encode()

    def identity(self, number: int) -> bytes:
        """Of event `number`: also decides its partition."""
        return self._identities.of(PRODUCT, SOURCE, id_of(number))

    def stream(self, numbers: Iterable[int]) -> Iterator[tuple[int, bytes]]:
        """Number and event, over the last hour, four languages and all clinics."""
        begin = time.time_ns() // 1000 - HOUR_US
        for number in numbers:
            at = begin + number % 3_000 * 1_000_000
            yield number, self.event(number, at, clinic_of(number), ("es", "en", "fr", "sw")[number % 4])


def id_of(number: int) -> str:
    """An id as producers make them."""
    return f"5b1c7f3e-8d2a-4c61-{number:012d}"


def clinic_of(number: int) -> str:
    """One of 50."""
    return f"clinic-{number * 31 % CLINICS}"


def records(
    maker: EventMaker, events: Iterable[tuple[int, bytes]], partitions: int, offset: int
) -> list[Record]:
    """The events as one record for each partition, all at `offset`."""
    groups: dict[int, list[bytes]] = {}
    for number, event in events:
        groups.setdefault(partition_of(maker.identity(number), partitions), []).append(event)
    now = time.time_ns() // 1000
    return [
        Record(Partition(EVENTS_TOPIC, partition), offset, PRODUCT, now, encode_record(group))
        for partition, group in sorted(groups.items())
    ]
