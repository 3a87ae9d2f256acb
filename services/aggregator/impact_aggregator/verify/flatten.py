"""Records of the log as columns of a table: one row an event, columns for each path that a metric reads."""

from __future__ import annotations

import hashlib
from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from impact_aggregator.verify.values import bracket, is_number, label, micros, nanos

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from impact_aggregator.verify.definitions import PathUse
    from impact_aggregator.verify.measured import Measured
    from impact_eventlog import Record
    from impact_schemas.identity import Identities

RETRACTION = "impact.retraction.v1"
CORRECTION = "impact.correction.v1"

_AMENDMENTS = (RETRACTION, CORRECTION)

INTEGERS = ("seq", "partition", "log_offset", "position", "time", "received_at")
TEXTS = ("source", "id", "type", "subject", "content", "tiebreak", "target_source", "target_id")


class _Envelope(msgspec.Struct, gc=False):
    id: str
    source: str
    type: str
    time: str | None = None
    subject: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"null")


_records = msgspec.json.Decoder(list[msgspec.Raw])
_envelope = msgspec.json.Decoder(_Envelope)
_data = msgspec.json.Decoder(float_hook=Decimal)
_BROKEN = (msgspec.MsgspecError, UnicodeDecodeError, ValueError)
_ABSENT = object()


class Rows:
    """Events of one product, to be taken away in batches."""

    def __init__(
        self,
        product: str,
        paths: Mapping[str, PathUse],
        measured: Sequence[Measured],
        identities: Identities,
    ) -> None:
        self._product = product
        self._paths = [(path.split(".")[1:], use) for path, use in paths.items()]
        self._identities = identities
        values = [columns_of_path(place, use) for place, use in enumerate(paths.values())]
        self._measured = measured
        names = [name for columns in values for name in columns]
        self._columns = (*INTEGERS, *TEXTS, *names, *(one.column for one in measured))
        self._rows: list[tuple[Any, ...]] = []
        self._seq = 0
        self.unreadable = 0  # what is no event; it is in quarantine

    def __len__(self) -> int:
        return len(self._rows)

    def take(self) -> dict[str, np.ndarray[Any, Any]]:
        """All columns, by name; begins anew."""
        columns = zip(self._columns, zip(*self._rows, strict=True), strict=True)
        self._rows = []
        return {
            name: np.array(values, dtype=np.int64 if name in INTEGERS else object) for name, values in columns
        }

    def add(self, record: Record) -> None:
        """Adds the events of a record; what is no event is only counted."""
        try:
            raws = _records.decode(record.payload)
        except _BROKEN:
            self.unreadable += 1
            return
        for position, raw in enumerate(raws):
            try:
                envelope = _envelope.decode(raw)
                time = record.received_at if envelope.time is None else micros(envelope.time)
                data = _data.decode(envelope.data)
            except _BROKEN:
                self.unreadable += 1
                continue
            self._seq += 1
            at = (self._seq, record.partition.number, record.offset, position, time, record.received_at)
            self._rows.append((*at, *self._texts(envelope, data), *self._values(envelope, data)))

    def _texts(self, envelope: _Envelope, data: Any) -> tuple[str | None, ...]:
        head = f"{envelope.type}\0{envelope.time}\0".encode()
        content = hashlib.blake2b(head + bytes(envelope.data), digest_size=16).hexdigest()
        tiebreak = self._identities.of(self._product, envelope.source, envelope.id).hex()
        target: tuple[str | None, str | None] = (None, None)
        if envelope.type in _AMENDMENTS:
            target = (_text_at(data, "source"), _text_at(data, "id"))
        return (envelope.source, envelope.id, envelope.type, envelope.subject, content, tiebreak, *target)

    def _values(self, envelope: _Envelope, data: Any) -> list[Any]:
        """What the metrics read of the event; of a correction what they would read of its target."""
        if envelope.type in _AMENDMENTS:
            data = data.get("data") if isinstance(data, dict) else None
        values: list[Any] = []
        for keys, use in self._paths:
            value = _value_at(data, keys)
            values.append(None if value is _ABSENT else label(value))
            if use.as_number:
                values.append(nanos(value) if is_number(value) else None)
            if use.to_compare:
                values += bracket(value) if is_number(value) else (None, None)
        values += [one.value(data, _value_at) for one in self._measured]
        return values


def columns_of_path(place: int, use: PathUse) -> dict[str, str]:
    """The columns of a path and their SQL types: its label, its rounded number, its exact bracket."""
    columns = {f"label_{place}": "VARCHAR"}
    if use.as_number:
        columns[f"nanos_{place}"] = "HUGEINT"
    if use.to_compare:
        columns |= {f"floor_{place}": "DECIMAL(38, 18)", f"above_{place}": "BOOLEAN"}
    return columns


def _value_at(data: Any, keys: list[str]) -> Any:
    for key in keys:
        if type(data) is not dict or key not in data:
            return _ABSENT
        data = data[key]
    return data


def _text_at(data: Any, key: str) -> str | None:
    value = data.get(key) if isinstance(data, dict) else None
    return value if isinstance(value, str) else None


def count_rejections(records: list[Record]) -> Counter[str]:
    """Events in records of the quarantine log, by product; a record that cannot be read counts as one."""
    found: Counter[str] = Counter()
    for record in records:
        try:
            found[record.product] += len(_records.decode(record.payload))
        except _BROKEN:
            found[record.product] += 1
    return found
